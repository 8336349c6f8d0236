//! What meshes make of the resources that `render` prints, as their sources do it: patches of
//! Envoy's configuration.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tests_support::artifacts::Module;
use tests_support::bootstrap::{Bootstrap, Cluster, Direction, Listener, route, virtual_host};

const ROUTER: &str = "envoy.filters.http.router";

/// The document of a kind.
pub(crate) fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let found = documents.iter().find(|document| document["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {documents:?}"))
}

/// A sidecar of some mesh before anything is put in, with an inbound and an outbound listener.
pub(crate) fn base(application: SocketAddr) -> Value {
    let mut bootstrap = Bootstrap::new("sidecar");
    for (name, direction) in [
        ("inbound", Direction::Inbound),
        ("outbound", Direction::Outbound),
    ] {
        let mut listener = Listener::new(name, direction);
        listener.virtual_hosts = vec![virtual_host("all", &["*"], &[route("/", "application")])];
        bootstrap.listeners.push(listener);
    }
    bootstrap.clusters = vec![Cluster::new("application", application)];
    bootstrap.to_json()
}

fn add_cluster(config: &mut Value, cluster: &Value) {
    let clusters = config["static_resources"]["clusters"].as_array_mut();
    clusters.unwrap().push(cluster.clone());
}

/// The connection manager of a side.
fn manager<'a>(config: &'a mut Value, side: &str) -> &'a mut Value {
    let listeners = config["static_resources"]["listeners"].as_array_mut();
    let listener = listeners
        .unwrap()
        .iter_mut()
        .find(|listener| listener["name"] == side);
    &mut listener.unwrap()["filter_chains"][0]["filters"][0]["typed_config"]
}

/// `INSERT_BEFORE` of Istio, `AddBefore` of Kuma, and what Consul always does.
fn insert_before_router(config: &mut Value, side: &str, filter: &Value) {
    let filters = manager(config, side)["http_filters"]
        .as_array_mut()
        .unwrap();
    let at = filters.iter().position(|filter| filter["name"] == ROUTER);
    filters.insert(at.unwrap(), filter.clone());
}

/// `MERGE` of Istio, `Patch` of Kuma: as protobuf merges, lists are appended to.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(patch)) => into.extend(patch.iter().cloned()),
        (into, patch) => *into = patch.clone(),
    }
}

fn merge_router(config: &mut Value, side: &str, router: &Value) {
    let filters = manager(config, side)["http_filters"]
        .as_array_mut()
        .unwrap();
    let there = filters.iter_mut().find(|filter| filter["name"] == ROUTER);
    merge(there.unwrap(), router);
}

fn text_as_yaml(value: &Value) -> Value {
    let documents = tests_manifests::documents(value.as_str().unwrap()).unwrap();
    documents.into_iter().next().unwrap()
}

/// As istiod applies an `EnvoyFilter`.
pub(crate) fn apply_envoy_filter(config: &mut Value, documents: &[Value]) {
    let filter = of_kind(documents, "EnvoyFilter");
    for patch in filter["spec"]["configPatches"].as_array().unwrap() {
        let side = match patch["match"]["context"].as_str().unwrap() {
            "SIDECAR_INBOUND" => "inbound",
            _ => "outbound",
        };
        let value = &patch["patch"]["value"];
        let what = |name: &str| patch[name].as_str().unwrap();
        match (
            what("applyTo"),
            patch["patch"]["operation"].as_str().unwrap(),
        ) {
            ("CLUSTER", "ADD") => add_cluster(config, value),
            ("HTTP_FILTER", "INSERT_BEFORE") => insert_before_router(config, side, value),
            ("HTTP_FILTER", "MERGE") => merge_router(config, side, value),
            ("NETWORK_FILTER", "MERGE") => merge(manager(config, side), &value["typed_config"]),
            other => panic!("{other:?}"),
        }
    }
}

/// As Kuma's control plane applies a `MeshProxyPatch`.
pub(crate) fn apply_proxy_patch(config: &mut Value, documents: &[Value]) {
    let patch = of_kind(documents, "MeshProxyPatch");
    let modifications = &patch["spec"]["default"]["appendModifications"];
    for modification in modifications.as_array().unwrap() {
        let (kind, modification) = modification.as_object().unwrap().iter().next().unwrap();
        let value = text_as_yaml(&modification["value"]);
        let side = modification["match"]["origin"].as_str().unwrap_or("none");
        match (kind.as_str(), modification["operation"].as_str().unwrap()) {
            ("cluster", "Add") => add_cluster(config, &value),
            ("httpFilter", "AddBefore") => insert_before_router(config, side, &value),
            ("httpFilter", "Patch") => merge_router(config, side, &value),
            ("networkFilter", "Patch") => merge(manager(config, side), &value["typed_config"]),
            other => panic!("{other:?}"),
        }
    }
}

/// As Consul's servers make a filter of `builtin/wasm`, and consul-dataplane its bootstrap.
pub(crate) fn apply_consul(config: &mut Value, documents: &[Value]) {
    let defaults = of_kind(documents, "ServiceDefaults");
    let extension = &defaults["spec"]["envoyExtensions"][0];
    let plugin = &extension["arguments"]["PluginConfig"];
    let vm = &plugin["VmConfig"];
    let runtime = format!("envoy.wasm.runtime.{}", vm["Runtime"].as_str().unwrap());
    let filter = json!({
        "name": "envoy.filters.http.wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": plugin["Name"],
                "root_id": plugin["RootID"],
                "fail_open": extension["required"] == false,
                "vm_config": {
                    "vm_id": vm["VmID"],
                    "runtime": runtime,
                    "code": {"local": {"filename": vm["Code"]["Local"]["Filename"]}},
                    "environment_variables": {
                        "host_env_keys": vm["EnvironmentVariables"]["HostEnvKeys"],
                    },
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": plugin["Configuration"],
                },
            },
        },
    });
    insert_before_router(config, "inbound", &filter);
    let proxy = of_kind(documents, "ProxyDefaults");
    let clusters = &proxy["spec"]["config"]["envoy_extra_static_clusters_json"];
    let list = format!("[{}]", clusters.as_str().unwrap());
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    for cluster in &list {
        add_cluster(config, cluster);
    }
}

/// The filter as istiod and Envoy Gateway make it of their own resources, but that the module is
/// fetched already.
fn fetched(vm_id: Option<&Value>, root_id: &Value, keys: &Value, configuration: &Value) -> Value {
    let mut vm = json!({
        "runtime": "envoy.wasm.runtime.v8",
        "code": {"local": {"filename": Module::Filter.path().unwrap()}},
        "environment_variables": {"host_env_keys": keys},
    });
    if let Some(id) = vm_id {
        vm["vm_id"] = id.clone();
    }
    json!({
        "name": "envoy.filters.http.wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "root_id": root_id,
                "fail_open": true,
                "vm_config": vm,
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": configuration.to_string(),
                },
            },
        },
    })
}

/// As Envoy Gateway applies an `EnvoyPatchPolicy` and an `EnvoyExtensionPolicy`.
pub(crate) fn apply_envoy_gateway(config: &mut Value, documents: &[Value]) {
    let policy = of_kind(documents, "EnvoyPatchPolicy");
    for patch in policy["spec"]["jsonPatches"].as_array().unwrap() {
        assert_eq!(patch["operation"]["op"], "add");
        assert_eq!(patch["operation"]["path"], "");
        add_cluster(config, &patch["operation"]["value"]);
    }
    let policy = of_kind(documents, "EnvoyExtensionPolicy");
    let wasm = &policy["spec"]["wasm"][0];
    let id = json!("envoyextensionpolicy/prod/meshmeter/wasm/0");
    let (root, keys) = (&wasm["rootID"], &wasm["env"]["hostKeys"]);
    let filter = fetched(Some(&id), root, keys, &wasm["config"]);
    insert_before_router(config, "inbound", &filter);
}

/// As istiod applies a `TrafficExtension` or a `WasmPlugin`, and makes the cluster of a
/// `ServiceEntry`.
pub(crate) fn apply_istio(config: &mut Value, documents: &[Value]) {
    let entry = &of_kind(documents, "ServiceEntry")["spec"];
    let (host, port) = (&entry["hosts"][0], &entry["ports"][0]["number"]);
    assert_eq!(entry["ports"][0]["protocol"], "GRPC");
    assert_eq!(entry["resolution"], "DNS");
    let name = format!("outbound|{port}||{}", host.as_str().unwrap());
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let cluster = json!({
        "name": name,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_ONLY",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {
            "address": {"socket_address": {"address": host, "port_value": port}},
        }}]}]},
        "typed_extension_protocol_options": {options: {
            "@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
    });
    add_cluster(config, &cluster);
    let is_new = |document: &Value| document["kind"] == "TrafficExtension";
    let (spec, plugin) = if let Some(extension) = documents.iter().find(|one| is_new(one)) {
        (&extension["spec"], &extension["spec"]["wasm"])
    } else {
        let plugin = of_kind(documents, "WasmPlugin");
        (&plugin["spec"], &plugin["spec"])
    };
    assert_eq!(spec["match"][0]["mode"], "SERVER");
    let keys = plugin["vmConfig"]["env"].as_array().unwrap();
    let keys = keys
        .iter()
        .map(|variable| variable["name"].clone())
        .collect();
    let filter = fetched(None, &plugin["pluginName"], &keys, &plugin["pluginConfig"]);
    insert_before_router(config, "inbound", &filter);
}
