//! The Kubernetes custom metrics API over HTTPS: what a `HorizontalPodAutoscaler` asks, answered
//! from memory.
//!
//! ```text
//! server (TLS, HTTP, limits) -> guard (authentication, review)                   who may read
//!                            -> handler -> path, form, selector, metric_selector what is asked
//!                                       -> metrics, external -> list, quantity   what is answered
//!                                       -> discovery, health, status             all the rest
//! ```
//!
//! What is answered comes from memory, never from a backend or the Kubernetes API; only whether a
//! user may ask is a question to it, and its answers are kept. Doubt is an error with a sentence
//! that says why, since an autoscaler freezes on errors and obeys numbers.

mod accept;
pub mod authentication;
pub mod cluster_names;
mod discovery;
mod external;
#[cfg(test)]
mod fleet;
mod form;
pub mod guard;
mod handler;
mod ledger;
mod list;
pub mod metric_name;
mod metric_selector;
mod metrics;
pub mod names;
mod no_value_reason;
mod openapi;
mod path;
mod percent;
mod quantity;
pub mod review;
pub mod selector;
pub mod server;
mod signal_age;
mod status;
mod telemetry;
mod workload;

pub use guard::Guard;
pub use handler::{Api, MetricSettings};
pub use ledger::Reader;
pub use server::Server;
pub use telemetry::Observations;
