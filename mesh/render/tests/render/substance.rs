//! What is rendered as JSON is what the xDS proxy inserts as bytes: the same filter, logger and
//! cluster.

use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType as LogType;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::async_data_source::Specifier as Code;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener};
use envoy_types::pb::envoy::extensions::access_loggers::wasm::v3::WasmAccessLog;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType as FilterType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{HttpConnectionManager, HttpFilter};
use envoy_types::pb::envoy::extensions::wasm::v3::PluginConfig;
use envoy_types::pb::envoy::extensions::wasm::v3::plugin_config::Vm;
use envoy_types::pb::google::protobuf::{Any, StringValue};
use mesh_core::injection::{Directions, Injection, Plugin, StreamCluster};
use mesh_render::options::{Address, Options, Target};
use mesh_render::render;
use prost::Message as _;
use serde_json::{Value, json};

fn any(type_url: &str, message: &impl prost::Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{type_url}"),
        value: message.encode_to_vec(),
    }
}

/// An inbound listener with a router, after the injection.
fn inserted(injection: &Injection) -> HttpConnectionManager {
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(FilterType::TypedConfig(any(
            "envoy.extensions.filters.http.router.v3.Router",
            &Router::default(),
        ))),
        ..HttpFilter::default()
    };
    let manager = HttpConnectionManager {
        http_filters: vec![router],
        ..HttpConnectionManager::default()
    };
    let manager = any(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        &manager,
    );
    let listener = Listener {
        traffic_direction: 1,
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(ConfigType::TypedConfig(manager)),
            }],
            ..FilterChain::default()
        }],
        ..Listener::default()
    };
    let bytes = mesh_core::listener::insert(&listener.encode_to_vec(), injection);
    let listener = Listener::decode(bytes.unwrap().unwrap().as_slice()).unwrap();
    let Some(ConfigType::TypedConfig(manager)) = &listener.filter_chains[0].filters[0].config_type
    else {
        panic!("no typed configuration");
    };
    HttpConnectionManager::decode(manager.value.as_slice()).unwrap()
}

/// What both say of a plugin.
fn of_bytes(config: &PluginConfig) -> Value {
    let Some(Vm::VmConfig(vm)) = &config.vm else {
        panic!("no VM");
    };
    let Some(Code::Local(local)) = &vm.code.as_ref().unwrap().specifier else {
        panic!("no local code");
    };
    let Some(Specifier::Filename(file)) = &local.specifier else {
        panic!("no file");
    };
    let configuration = config.configuration.as_ref().unwrap();
    let text = StringValue::decode(configuration.value.as_slice()).unwrap();
    #[expect(deprecated, reason = "it is what all versions of Envoy take")]
    let fail_open = config.fail_open;
    json!({
        "name": config.name,
        "root_id": config.root_id,
        "fail_open": fail_open,
        "vm_config": {
            "vm_id": vm.vm_id,
            "runtime": vm.runtime,
            "code": {"local": {"filename": file}},
            "environment_variables": {
                "host_env_keys": vm.environment_variables.as_ref().unwrap().host_env_keys,
            },
        },
        "configuration": {"@type": configuration.type_url, "value": text.value},
    })
}

fn options() -> Options {
    Options {
        aggregators: vec![Address {
            host: "aggregator.example".to_owned(),
            port: 7470,
        }],
        module_file: Some("/opt/filter.wasm".to_owned()),
        log_module_file: Some("/opt/log.wasm".to_owned()),
        upstream_log: true,
        listen: "127.0.0.1:15000".parse().ok(),
        application: Some(Address {
            host: "127.0.0.1".to_owned(),
            port: 80,
        }),
        ..Options::default()
    }
}

#[test]
fn rendered_and_inserted_are_the_same() {
    let text = render(Target::Static, &options()).unwrap();
    let document = tests_manifests::documents(&text).unwrap().remove(0);
    let resources = &document["static_resources"];
    let manager = &resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let filter = &manager["http_filters"][0];
    let log = &manager["http_filters"][1]["typed_config"]["upstream_log"][0];
    let plugin = |rendered: &Value, module: &str| {
        let configuration = &rendered["typed_config"]["config"]["configuration"]["value"];
        Plugin {
            module: module.to_owned(),
            inbound: configuration.as_str().unwrap().to_owned(),
            outbound: configuration.as_str().unwrap().to_owned(),
        }
    };
    let stream = StreamCluster {
        name: "meshmeter_aggregator_0".to_owned(),
        host: "aggregator.example".to_owned(),
        port: 7470,
        tls: None,
    };
    let manager = inserted(&Injection {
        filter: Some(plugin(filter, "/opt/filter.wasm")),
        access_log: None,
        upstream_log: Some(plugin(log, "/opt/log.wasm")),
        directions: Directions::Inbound,
        clusters: vec![stream.clone()],
    });

    let Some(FilterType::TypedConfig(bytes)) = &manager.http_filters[0].config_type else {
        panic!("no filter");
    };
    assert_eq!(filter["name"], manager.http_filters[0].name);
    assert_eq!(filter["typed_config"]["@type"], bytes.type_url);
    let wasm = Wasm::decode(bytes.value.as_slice()).unwrap();
    assert_eq!(
        filter["typed_config"]["config"],
        of_bytes(&wasm.config.unwrap())
    );

    let Some(FilterType::TypedConfig(router)) = &manager.http_filters[1].config_type else {
        panic!("no router");
    };
    let router = Router::decode(router.value.as_slice()).unwrap();
    let Some(LogType::TypedConfig(bytes)) = &router.upstream_log[0].config_type else {
        panic!("no logger");
    };
    assert_eq!(log["name"], router.upstream_log[0].name);
    assert_eq!(log["typed_config"]["@type"], bytes.type_url);
    let wasm = WasmAccessLog::decode(bytes.value.as_slice()).unwrap();
    assert_eq!(
        log["typed_config"]["config"],
        of_bytes(&wasm.config.unwrap())
    );

    let cluster = Cluster::decode(stream.encode(None).as_slice()).unwrap();
    let rendered = &resources["clusters"][1];
    assert_eq!(rendered["name"], cluster.name);
    let seconds = cluster.connect_timeout.unwrap().seconds;
    assert_eq!(rendered["connect_timeout"], format!("{seconds}s"));
    let keys: Vec<&String> = cluster.typed_extension_protocol_options.keys().collect();
    let rendered = rendered["typed_extension_protocol_options"]
        .as_object()
        .unwrap();
    assert_eq!(rendered.keys().collect::<Vec<_>>(), keys);
}
