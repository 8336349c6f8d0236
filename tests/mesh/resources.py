"""Envoy's resources: a JSON list of objects with "@type" in, a line for each out: its bytes as hexadecimal digits, or of
those that have "@bytes" instead of fields the JSON of them."""
import importlib
import json
import pkgutil
import re
import sys

from google.protobuf import json_format, symbol_database

TYPE = re.compile(rb"type\.googleapis\.com/(envoy[a-z0-9_.]*)\.[A-Z]")


def packages(value):
    """Those of all types that occur: to import the whole API takes ten seconds."""
    if isinstance(value, list):
        return set().union(*map(packages, value))
    if isinstance(value, dict):
        packed = bytes.fromhex(value["@bytes"]) if "@bytes" in value else b""
        return set().union(TYPE.findall(packed), *map(packages, value.values()))
    return set(TYPE.findall(value.encode())) if isinstance(value, str) else set()


resources = json.load(sys.stdin)
for name in packages(resources):
    # Any module of a package may have the type.
    package = importlib.import_module(name.decode())
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if module.name.endswith("_pb2"):
            importlib.import_module(module.name)
for resource in resources:
    message = symbol_database.Default().GetSymbol(resource.pop("@type").rsplit("/", 1)[1])()
    if "@bytes" in resource:
        message.ParseFromString(bytes.fromhex(resource["@bytes"]))
        print(json.dumps(json_format.MessageToDict(message)))
    else:
        print(json_format.ParseDict(resource, message).SerializeToString(deterministic=True).hex())
