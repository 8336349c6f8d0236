//! A control plane of configuration that needs nobody's control plane: App Mesh custom resources
//! in, Envoy's discovery out.
//!
//! ```text
//! manifests (a folder) | custom resources, slices (a cluster)
//!   -> mesh (checked, refused by name) -> envoy (resources of one node) -> server
//! ```
//!
//! Names and shapes are those of Amazon's control plane, so that dashboards, rules and the xDS
//! proxy find what they know.

pub mod cluster;
pub mod envoy;
mod events;
pub mod folder;
mod manifests;
pub mod mesh;
pub mod metrics;
pub mod resources;
pub mod selector;
pub mod server;
