//! What is printed: read by the schemas of Gateway API, and compared with what Envoys of App Mesh
//! do.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::collections::BTreeMap;

use mesh_control_plane::lint::{self, Placeholders, Report};
use mesh_control_plane::mesh::{AcmMap, Meshes};
use mesh_convert::{Channel, Conversion, convert};

mod envoy;
mod generated;
mod golden;
mod model;
mod request;
mod routing;
mod schemas;
mod table;

const EVERY_FIELD: &str = include_str!("../fixtures/every-field.yaml");

fn read(text: &str) -> (Report, Meshes) {
    let texts = BTreeMap::from([("a.yaml".to_owned(), Ok(text.to_owned()))]);
    lint::examine(&texts, &Placeholders::default(), AcmMap::default())
}

fn converted(text: &str, channel: Channel) -> Conversion {
    let (report, meshes) = read(text);
    convert(&report, &meshes, channel)
}
