//! An origin of configuration that needs nobody's control plane: App Mesh custom resources in, Envoy's discovery out.
//!
//! ```text
//! manifests (a folder) -> mesh (checked, refused by name) -> envoy (listeners, clusters, routes of one node) -> server (aggregated discovery)
//! ```
//!
//! Names and shapes are those of Amazon's control plane, so that dashboards, rules and the interposer find what they know.

pub mod envoy;
pub mod folder;
pub mod mesh;
pub mod resources;
pub mod server;
