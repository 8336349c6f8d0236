//! The whole aggregator in standalone mode: a fake sidecar streams over gRPC, and clients ask the
//! custom metrics API over real TLS. Every listener is on loopback with a port the system picks.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

mod app;
mod attacks;
mod binary;
mod client;
mod commands;
mod kubectl;
mod lifecycle;
mod objects;
mod rates;
mod refusals;
mod restored;
#[expect(dead_code, reason = "shared with the tests in a cluster")]
mod sidecar;
