//! An Envoy control plane for App Mesh custom resources, without AWS: resources in, xDS out.
//!
//! ```text
//! manifests (a folder) | custom resources, slices (a cluster)
//!   -> mesh (checked, refused by name) -> envoy (resources of one node) -> server
//! ```
//!
//! Envoy resources have the names and shapes of AWS App Mesh, so that dashboards, rules and the
//! xDS proxy keep working.

pub mod cluster;
pub mod envoy;
mod events;
pub mod fields;
pub mod folder;
pub mod lint;
mod manifests;
pub mod mesh;
pub mod metrics;
pub mod resources;
pub mod selector;
pub mod server;
