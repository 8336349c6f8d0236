//! A complete Envoy bootstrap: one listener, the application's cluster, the aggregators' clusters.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::envoy::{self, MANAGER, Plan, type_of};
use crate::options::Address;
use crate::output::Output;

/// Default address of the admin interface: loopback, since `/quitquitquit` ends Envoy.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
const APPLICATION: &str = "application";

const HEAD: &[&str] = &[
    "A bootstrap of Envoy with the filter. `envoy --mode validate -c FILE` checks it, modules included; the file's name has to end in .yaml.",
    "Check: (1) Envoy's environment has POD_NAMESPACE and POD_NAME (and POD_UID, NODE_NAME if they are known), or --plugin-config says `identity`: without namespace and pod nothing is streamed, and Envoy's log says so. (2) --concurrency: each worker has a VM of its own, of about 1 MiB; without it there is one for each CPU of the machine. (3) The application speaks HTTP/1.1; for HTTP/2 or gRPC the cluster `application` needs http2_protocol_options.",
    "With a token: the file that the credential names is Envoy's secret file, {\"resources\": [{\"@type\": \"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret\", \"name\": \"token\", \"generic_secret\": {\"secret\": {\"filename\": \"TOKEN FILE\", \"watched_directory\": {\"path\": \"ITS FOLDER\"}}}}]}.",
];

pub(crate) fn render(plan: &Plan<'_>) -> Output {
    let options = plan.options;
    let admin = options.admin_listen.unwrap_or(ADMIN);
    let mut clusters = vec![application(options.application.as_ref())];
    clusters.extend(plan.clusters());
    let bootstrap = json!({
        "node": {"id": options.name, "cluster": options.name},
        "admin": {"address": socket_address(admin)},
        "static_resources": {"listeners": [listener(plan)], "clusters": clusters},
    });
    Output::new(HEAD).with(&[], bootstrap)
}

fn listener(plan: &Plan<'_>) -> Value {
    // `checks` admits one direction only for this target.
    let direction = plan.options.direction.each()[0];
    let mut filters = Vec::new();
    let mut access_log = Vec::new();
    if plan.is_filter() {
        filters.push(plan.http_filter(direction));
    } else {
        access_log.push(plan.access_log(direction));
    }
    filters.push(plan.router(direction));
    let route = json!({
        "match": {"prefix": "/"},
        // Envoy's default of 15 s would end requests that the application answers later.
        "route": {"cluster": APPLICATION, "timeout": "0s"},
    });
    let manager = json!({
        "@type": type_of("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": direction.as_str(),
        "access_log": access_log,
        "http_filters": filters,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": [route]},
        ]},
    });
    let listen = plan.options.listen.unwrap_or(ADMIN);
    json!({
        "name": direction.as_str(),
        "traffic_direction": direction.as_str().to_uppercase(),
        "address": socket_address(listen),
        "filter_chains": [{"filters": [{"name": MANAGER, "typed_config": manager}]}],
    })
}

fn application(address: Option<&Address>) -> Value {
    let Some(address) = address else {
        return Value::Null;
    };
    let mut cluster = envoy::cluster(APPLICATION, address);
    // Envoy's default of 1024 would answer 503 beyond it; the application's own limits hold.
    let unlimited = i32::MAX;
    cluster["circuit_breakers"] = json!({"thresholds": [{
        "max_connections": unlimited,
        "max_pending_requests": unlimited,
        "max_requests": unlimited,
        "max_retries": unlimited,
    }]});
    cluster
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {
        "address": address.ip().to_string(),
        "port_value": address.port(),
    }})
}
