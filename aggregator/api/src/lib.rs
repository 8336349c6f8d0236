//! The Kubernetes custom metrics API over HTTPS: what a `HorizontalPodAutoscaler` asks, answered from memory.
//!
//! ```text
//! server (TLS, HTTP, limits) -> handler -> path, form, selector, metric_selector   what is asked
//!                                       -> metrics, external -> list, quantity     what is answered
//!                                       -> discovery, health, status               all the rest
//! ```
//!
//! No request leaves this process: the store and the directory are read, never a backend or the Kubernetes API.
//! Doubt is an error with a sentence that says why, since an autoscaler freezes on errors and obeys numbers.

mod accept;
pub mod cluster_names;
mod discovery;
mod external;
#[cfg(test)]
mod fleet;
mod form;
mod handler;
pub mod health;
mod ledger;
mod list;
pub mod metric_name;
mod metric_selector;
mod metrics;
mod missing;
pub mod names;
mod observations;
mod path;
mod percent;
mod quantity;
pub mod selector;
mod server;
mod signal_age;
mod status;
pub mod tls;
mod workload;

pub use handler::{Api, MetricSettings};
pub use ledger::Reader;
pub use observations::Observations;
pub use server::Server;
