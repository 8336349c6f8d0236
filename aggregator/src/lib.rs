//! The binary `meshmeter`: flags, wiring, and the admin listener.
//!
//! ```text
//! args -> config -> app (ingest, store, directory, API, admin) until shutdown
//! ```
//!
//! `app` is the only file that knows every part, `clock` the only one that reads a clock.

mod addresses;
pub mod admin;
pub mod app;
pub mod args;
mod autoscaler_changes;
pub mod autoscalers_file;
mod budget;
pub mod clock;
mod cluster;
pub mod config;
mod debug_pods;
mod gauges;
mod peers;
pub mod pods_file;
mod readiness;
mod reads;
pub mod remote_write;
mod replica;
pub mod shutdown;
pub mod telemetry;
