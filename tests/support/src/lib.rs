//! Real parts for the demo, the tests and the benches: an Envoy per pod, djapp, a bounded load and
//! the aggregator.
//!
//! ```text
//! load -> envoy (bootstrap: listeners, clusters, plugin) -> djapp
//!           └─ gRPC ─> aggregator <- API and admin client
//! ```
//!
//! Everything listens on loopback, on ports the kernel chose, and every process ends with its
//! owner.

pub mod aggregator;
pub mod artifacts;
pub mod autoscalers;
pub mod bootstrap;
pub mod clock;
pub mod djapp;
pub mod envoy;
pub mod http;
pub mod kubernetes;
pub mod load;
pub mod plugin;
pub mod process;
pub mod prometheus;
pub mod secured;
pub mod set_clock;
pub mod sidecar;
pub mod skipped;
pub mod stopwatch;
pub mod ui;
