//! Validates the resources of pods with redirected traffic by a real Envoy.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common_tls::CertificateAuthority;
use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::bootstrap::v3::bootstrap::{DynamicResources, StaticResources};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::api_config_source::ApiType;
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::{ApiConfigSource, ApiVersion, GrpcService, Node};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use mesh_control_plane::envoy::{CLUSTER, LISTENER, Ports, ROUTE, Snapshot};
use mesh_control_plane::mesh::Meshes;
use prost::{Message, Name as _};

const DJAPP: &str = include_str!("../../../tests/mesh/djapp.yaml");
const EVERY_FIELD: &str = include_str!("every-field.yaml");
const XDS: &str = "xds";
/// As App Mesh's agent names it in a bootstrap.
const SDS: &str = "static_cluster_sds_unix_socket";
/// What stands in `every-field.yaml`, and files in its place.
const ACM: [(&str, &str); 2] = [
    (
        "acm: {certificateARN: \"arn:aws:acm:us-west-2:111122223333:certificate/1\"}",
        "file: {certificateChain: /certs/tls.crt, privateKey: /certs/tls.key}",
    ),
    (
        "acm: {certificateAuthorityARNs: [\"arn:aws:acm-pca:us-west-2:111122223333:certificate-authority/1\"]}",
        "file: {certificateChain: /certs/ca.crt}",
    ),
];

/// A bootstrap of the snapshot, with the control plane as a cluster without endpoints.
fn bootstrap(snapshot: &Snapshot) -> Bootstrap {
    fn all<M: Message + Default>(snapshot: &Snapshot, type_url: &str) -> Vec<M> {
        let resources = snapshot.of(type_url).values();
        resources
            .map(|any| M::decode(&any.value[..]).unwrap())
            .collect()
    }
    let xds = Cluster {
        name: XDS.to_owned(),
        ..Cluster::default()
    };
    let sds = Cluster {
        name: SDS.to_owned(),
        ..Cluster::default()
    };
    let grpc = EnvoyGrpc {
        cluster_name: XDS.to_owned(),
        ..EnvoyGrpc::default()
    };
    let service = GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(grpc)),
        ..GrpcService::default()
    };
    let clusters: Vec<Cluster> = all(snapshot, CLUSTER);
    let mut listeners: Vec<Listener> = all(snapshot, LISTENER);
    for listener in &mut listeners {
        let chains = listener.filter_chains.iter_mut();
        chains.for_each(|chain| inline(snapshot, chain));
    }
    Bootstrap {
        node: Some(Node {
            id: "a".to_owned(),
            cluster: "a".to_owned(),
            ..Node::default()
        }),
        static_resources: Some(StaticResources {
            listeners,
            clusters: clusters.into_iter().chain([xds, sds]).collect(),
            ..StaticResources::default()
        }),
        dynamic_resources: Some(DynamicResources {
            ads_config: Some(ApiConfigSource {
                api_type: ApiType::Grpc.into(),
                transport_api_version: ApiVersion::V3.into(),
                grpc_services: vec![service],
                ..ApiConfigSource::default()
            }),
            ..DynamicResources::default()
        }),
        ..Bootstrap::default()
    }
}

/// Replaces RDS by inline routes: Envoy does not validate what it would request.
fn inline(snapshot: &Snapshot, chain: &mut FilterChain) {
    let Some(ConfigType::TypedConfig(any)) = &mut chain.filters[0].config_type else {
        panic!("no configuration");
    };
    if any.type_url != HttpConnectionManager::type_url() {
        return;
    }
    let mut manager = HttpConnectionManager::decode(&any.value[..]).unwrap();
    let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier else {
        panic!("no routes");
    };
    let route = &snapshot.of(ROUTE)[&rds.route_config_name];
    let route = RouteConfiguration::decode(&route.value[..]).unwrap();
    manager.route_specifier = Some(RouteSpecifier::RouteConfig(route));
    any.value = manager.encode_to_vec();
}

/// Envoy accepts all variants (with and without external traffic; one port, several, and 443), and
/// rejects an invalid configuration.
#[test]
fn envoy_accepts_the_resources_of_pods() {
    let open = DJAPP.replacen("spec:\n", "spec:\n  egressFilter: {type: ALLOW_ALL}\n", 1);
    let mixed = open.replace(
        "    - portMapping:\n        port: 9080\n        protocol: http\n",
        "    - portMapping:\n        port: 443\n        protocol: http\n    - portMapping:\n        port: 9080\n        protocol: http\n",
    );
    assert!(mixed.len() > open.len());
    // One of two routes has no target, and a router has an additional missing target.
    let second = "    - name: second\n      httpRoute: {match: {prefix: /second}, action: {weightedTargets: [{virtualNodeRef: {name: gone}, weight: 1}]}}\n";
    let lost = DJAPP
        .replace("  routes:\n", &format!("  routes:\n{second}"))
        .replace(
            "name: jazz-v2\n              weight",
            "name: gone\n              weight",
        );
    for (text, faults) in [(DJAPP, 0), (&open, 0), (&mixed, 0), (&lost, 3)] {
        let (meshes, refused) = Meshes::parse([("djapp.yaml", text)], &Meshes::default());
        assert_eq!(refused.len(), faults, "{refused:?}");
        for node in ["dj", "jazz-v1"] {
            let id = format!("mesh/dj-app/virtualNode/{node}_prod");
            let snapshot = Snapshot::new(&meshes.node_of(&id).unwrap(), &Ports::default());
            for envoy in envoys() {
                let (accepted, log) = validate(&envoy, &bootstrap(&snapshot));
                assert!(accepted, "{node}: {log}");
            }
        }
    }
    let broken = Bootstrap {
        static_resources: Some(StaticResources {
            listeners: vec![Listener::default()],
            ..StaticResources::default()
        }),
        ..Bootstrap::default()
    };
    assert!(!validate(&envoys()[0], &broken).0);
}

/// The oldest that is supported, and the newest.
fn envoys() -> [PathBuf; 2] {
    use tests_support::artifacts::{envoy, old_envoy};
    [old_envoy().unwrap(), envoy().unwrap()]
}

#[test]
fn envoy_accepts_every_field() {
    let certs = certificates();
    let folder = certs.path().display().to_string();
    // What `--acm-map` makes of ARNs, in a folder that is there.
    let text = ACM
        .iter()
        .fold(EVERY_FIELD.to_owned(), |text, (arn, file)| {
            assert!(text.contains(arn), "{arn}");
            text.replace(arn, file)
        });
    let text = text.replace("/certs/", &format!("{folder}/"));
    let (meshes, refused) = Meshes::parse([("all.yaml", text.as_str())], &Meshes::default());
    assert_eq!(refused, []);
    let nodes = [
        "caller",
        "one_prod",
        "two_prod",
        "secure_prod",
        "secure-caller_prod",
        "secure-reader_prod",
        "secure-writer_prod",
    ];
    let nodes = nodes.map(|node| {
        let id = format!("mesh/all/virtualNode/{node}");
        let workload = meshes.node_of(&id).unwrap();
        (id, Snapshot::new(&workload, &Ports::default()))
    });
    let gateways = [
        "in",
        "text_edge",
        "secure-in_prod",
        "secure-sds_prod",
        "secure-acm_prod",
        "secure-free_prod",
    ]
    .map(|gateway| {
        let id = format!("mesh/all/virtualGateway/{gateway}");
        let found = meshes.gateway_of(&id).unwrap();
        (id, Snapshot::of_gateway(&found, &Ports::default()))
    });
    for (id, snapshot) in nodes.into_iter().chain(gateways) {
        for envoy in envoys() {
            let (accepted, log) = validate(&envoy, &bootstrap(&snapshot));
            assert!(accepted, "{id}: {log}");
        }
    }
}

/// A certificate with its key and authority, as secrets have them.
fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ca = CertificateAuthority::new("every field").unwrap();
    let issued = ca.issue(&["secure.example.com".to_owned()]).unwrap();
    let ca = ca.certificate();
    let files = [
        ("tls.crt", &*issued.certificate),
        ("tls.key", &issued.key),
        ("ca.crt", ca),
    ];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn validate(envoy: &Path, bootstrap: &Bootstrap) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap.pb");
    fs::write(&file, bootstrap.encode_to_vec()).unwrap();
    let mut command = Command::new(envoy);
    command.args(["--mode", "validate", "-c"]).arg(&file);
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), log)
}
