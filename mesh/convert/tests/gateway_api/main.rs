//! What is printed: read by the schemas of Gateway API, and compared with what Envoys of App Mesh
//! do.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::collections::BTreeMap;

use mesh_control_plane::lint::{self, Placeholders, Report};
use mesh_control_plane::mesh::{AcmMap, Meshes};
use mesh_convert::{Channel, Conversion, Options, convert};

mod client_tls;
mod edge;
mod envoy;
mod generated;
mod golden;
mod model;
mod request;
mod routing;
mod schemas;
mod table;

/// Secrets for ARNs of ACM.
const ACM: &str = "
arn:aws:acm:us-west-2:111122223333:certificate/1: edge-cert
arn:aws:acm-pca:us-west-2:111122223333:certificate-authority/1: mesh-ca
";

const EVERY_FIELD: &str = include_str!("../fixtures/every-field.yaml");
const GATEWAYS: &str = include_str!("../fixtures/gateways.yaml");

fn read(text: &str) -> (Report, Meshes) {
    let texts = BTreeMap::from([("a.yaml".to_owned(), Ok(text.to_owned()))]);
    let acm = AcmMap::parse(ACM).unwrap();
    lint::examine(&texts, &Placeholders::default(), acm)
}

fn converted(text: &str, channel: Channel) -> Conversion {
    let (report, meshes) = read(text);
    convert(&report, &meshes, &options(channel))
}

fn options(channel: Channel) -> Options {
    Options {
        channel,
        gateway_class: Some("envoy".to_owned()),
    }
}
