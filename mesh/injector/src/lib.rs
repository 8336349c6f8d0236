//! Pods with the filter.
//!
//! ```text
//! review (AdmissionReview in, out) ┬> pod (what is added) ┬> xds_proxy_container (and volumes)
//! manifest (a dry run)             ┘                      ├> envoy_sidecar (and redirection)
//!                                                         ├> ports, bypass
//!                                                         ├> annotations (App Mesh's own)
//!                                                         └> skipped (why not injected)
//!
//! ca_bundles (the ConfigMap of each meshed namespace)
//! ```
//!
//! Pure: no clock, no I/O. What cannot be added to is left as it is, with a warning that whoever
//! applies it reads; a pod is never refused.

pub mod annotations;
pub mod bypass;
pub mod ca_bundles;
mod envoy_sidecar;
pub mod manifest;
mod names;
pub mod pod;
mod ports;
pub mod review;
pub mod settings;
pub mod skipped;
pub mod virtual_node;
mod xds_proxy_container;
