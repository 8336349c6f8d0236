//! The aggregator in a cluster: an API server with recorded behaviour, real TLS, real certificates.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

#[path = "../standalone/client.rs"]
#[expect(dead_code, reason = "shared with the tests without a cluster")]
mod client;
mod conformance;
mod control_plane;
mod credentials;
mod forgery;
mod identity;
mod ingest_tls;
mod kubectl;
mod local_tokens;
mod permissive;
mod readiness;
mod replicas;
mod serving;
#[path = "../standalone/sidecar.rs"]
#[expect(dead_code, reason = "shared with the tests without a cluster")]
mod sidecar;
mod views;
