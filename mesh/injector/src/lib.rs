//! Adds the xDS proxy, and if configured a sidecar, to pods.
//!
//! ```text
//! review (AdmissionReview in, out) ┬> pod (injection)     ┬> xds_proxy_container (and volumes)
//! manifest (a dry run)             ┘                      ├> envoy_sidecar (and redirection)
//!                                                         ├> virtual_gateway (its own Envoy)
//!                                                         ├> ports, bypass
//!                                                         ├> annotations (App Mesh's own)
//!                                                         └> skipped (why not injected)
//!
//! ca_bundles (the ConfigMap of each meshed namespace)
//! ```
//!
//! Pure: no clock, no I/O. A pod that cannot be injected is admitted unchanged, with a warning that
//! `kubectl apply` prints; no pod is ever rejected.

pub mod annotations;
pub mod bypass;
pub mod ca_bundles;
mod envoy_sidecar;
pub mod manifest;
mod names;
pub mod pod;
mod ports;
pub mod review;
mod sds;
pub mod settings;
mod sidecar_env;
pub mod skipped;
mod virtual_gateway;
pub mod virtual_node;
mod xds_proxy_container;
