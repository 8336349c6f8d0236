"""Signs requests with botocore, for a test that compares: JSON lines in, the Authorization header out."""
import datetime
import json
import sys

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

for line in sys.stdin:
    asked = json.loads(line)
    when = datetime.datetime.fromtimestamp(asked["time"], datetime.timezone.utc)
    stamp = when.strftime("%Y%m%dT%H%M%SZ")
    request = AWSRequest("POST", asked["url"], data=bytes.fromhex(asked["body"]))
    request.context["timestamp"] = stamp
    request.headers["X-Amz-Date"] = stamp
    for name, value in asked.get("headers", {}).items():
        request.headers[name] = value
    if asked["token"]:
        request.headers["X-Amz-Security-Token"] = asked["token"]
    signer = SigV4Auth(Credentials(asked["key"], asked["secret"], asked["token"] or None), asked["service"], asked["region"])
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    print(signature, flush=True)
