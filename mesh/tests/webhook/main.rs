//! The webhook as kube-apiserver sees it: the built program, real HTTPS, a fake API server.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

mod ca_bundles;
mod certificates;
mod client;
mod events;
mod nodes;
mod program;
mod refusals;
mod reviews;
mod self_managed;
