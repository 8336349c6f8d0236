//! What Envoy gets for retries, health, limits and upgrades, where a resource says something of
//! it and where none does.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use mesh_control_plane::envoy::{CLUSTER, LISTENER};
use prost::Message as _;

use crate::{DJAPP, mesh, route, snapshot};

#[test]
fn health_checks_and_retries_are_taken_over() {
    let dj = snapshot(&mesh(DJAPP), "dj");
    let jazz = &dj.resources[CLUSTER]["cds_egress_dj-app_jazz-v1_prod_http_9080"];
    let jazz = Cluster::decode(&jazz.value[..]).unwrap();
    let check = &jazz.health_checks[0];
    assert_eq!(check.interval.unwrap().seconds, 5);
    assert_eq!(check.unhealthy_threshold.unwrap().value, 2);
    let route = route(&dj, "rds_egress_http_9080");
    let Some(Action::Route(action)) = &route.virtual_hosts[0].routes[0].action else {
        panic!("no route");
    };
    let retries = action.retry_policy.as_ref().unwrap();
    assert_eq!(retries.retry_on, "gateway-error,connect-failure");
    assert_eq!(retries.num_retries.unwrap().value, 2);
}

/// A route that says nothing of retries has those of App Mesh; `maxRetries: 0` has none.
#[test]
fn retries_have_a_default() {
    let retries = |text: &str| {
        let route = route(&snapshot(&mesh(text), "dj"), "rds_egress_http_9080");
        let policies = route.virtual_hosts.iter().map(|host| {
            let Some(Action::Route(action)) = &host.routes[0].action else {
                panic!("no route");
            };
            action.retry_policy.clone().unwrap()
        });
        policies.collect::<Vec<_>>()
    };
    let direct = DJAPP.replace(
        "virtualRouter:\n      virtualRouterRef:\n        name: metal-router",
        "virtualNode:\n      virtualNodeRef:\n        name: metal-v1",
    );
    assert_ne!(direct, DJAPP);
    for text in [DJAPP, &direct] {
        let metal = retries(text)[1].clone();
        assert_eq!(
            metal.retry_on,
            "reset,connect-failure,refused-stream,retriable-status-codes,unavailable"
        );
        assert_eq!(metal.retriable_status_codes, [503]);
        assert_eq!(metal.num_retries.unwrap().value, 2);
        assert_eq!(metal.per_try_timeout, None);
    }
    let none = retries(&DJAPP.replace("maxRetries: 2", "maxRetries: 0"));
    assert_eq!(none[0].num_retries.unwrap().value, 0);
}

/// Websockets pass, towards the application and from it.
#[test]
fn websockets_are_let_through() {
    let dj = snapshot(&mesh(DJAPP), "dj");
    for listener in ["lds_egress_0.0.0.0_15001", "lds_ingress_0.0.0.0_15000"] {
        let listener = Listener::decode(&dj.resources[LISTENER][listener].value[..]).unwrap();
        let filter = &listener.filter_chains[0].filters[0];
        let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
            panic!("no configuration");
        };
        let manager = HttpConnectionManager::decode(&any.value[..]).unwrap();
        let upgrades = manager.upgrade_configs.iter();
        let upgrades: Vec<_> = upgrades.map(|one| one.upgrade_type.as_str()).collect();
        assert_eq!(upgrades, ["websocket"]);
    }
}

/// No cluster cuts off load, as none of App Mesh's did: those of workloads, of the application and
/// out of the mesh.
#[test]
fn no_cluster_has_a_limit() {
    let open = DJAPP.replacen("spec:\n", "spec:\n  egressFilter: {type: ALLOW_ALL}\n", 1);
    let dj = snapshot(&mesh(&open), "dj");
    assert_eq!(dj.resources[CLUSTER].len(), 6);
    for (name, cluster) in &dj.resources[CLUSTER] {
        let cluster = Cluster::decode(&cluster.value[..]).unwrap();
        let thresholds = cluster.circuit_breakers.unwrap().thresholds;
        assert_eq!(thresholds.len(), 2, "{name}");
        for of in thresholds {
            let limits = [
                of.max_connections,
                of.max_pending_requests,
                of.max_requests,
                of.max_retries,
            ];
            let limits = limits.map(|limit| limit.unwrap().value);
            assert_eq!(limits, [2_147_483_647; 4], "{name}");
        }
    }
}
