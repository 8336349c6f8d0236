//! What our control plane really sends: our parts go in and come out again. With `MESHMETER_RECORD`
//! set it is kept for the tests of `mesh-core`, which have no network.

use std::path::Path;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use mesh_core::discovery::{CLUSTER, Form, LISTENER, Response};
use mesh_core::injection::{Directions, Injection, Plugin, StreamCluster};
use prost::Message as _;
use tests_mesh::{Mesh, grpc};

#[tokio::test(flavor = "multi_thread")]
async fn our_control_plane_can_be_recorded() {
    let mesh = Mesh::start((95, 5)).await.unwrap();
    for node in ["dj", "jazz-v1"] {
        for (kind, name) in [(LISTENER, "listeners"), (CLUSTER, "clusters")] {
            let (requests, mut responses) = grpc::open(mesh.control_plane()).await.unwrap();
            let request = DiscoveryRequest {
                node: Some(Node {
                    id: format!("mesh/dj-app/virtualNode/{node}_prod"),
                    ..Node::default()
                }),
                ..grpc::request(kind)
            };
            requests.send(request.encode_to_vec().into()).await.unwrap();
            let response = grpc::next(&mut responses).await.unwrap();
            let read = Response::parse(&response, Form::StateOfTheWorld).unwrap();
            let changed = read.insert(&injection(), None, |_| false);
            assert!(changed.unwrap().unwrap().resources > 0);
            if std::env::var_os("MESHMETER_RECORD").is_some() {
                let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
                let folder = folder.join("../../mesh/core/tests/recorded");
                std::fs::write(folder.join(format!("{node}-{name}.bin")), &response).unwrap();
            }
        }
    }
}

fn injection() -> Injection {
    Injection {
        filter: Some(Plugin {
            module: "/opt/meshmeter/filter.wasm".to_owned(),
            inbound: "{}".to_owned(),
            outbound: "{}".to_owned(),
        }),
        access_log: None,
        upstream_log: None,
        directions: Directions::Both,
        clusters: vec![StreamCluster {
            name: "meshmeter_aggregator_0".to_owned(),
            host: "aggregator".to_owned(),
            port: 7470,
            tls: None,
        }],
    }
}
