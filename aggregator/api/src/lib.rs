//! The Kubernetes custom metrics API over HTTPS, which a `HorizontalPodAutoscaler` reads.
//!
//! ```text
//! server (TLS, HTTP, limits) -> guard (authentication, review)                   who may read
//!                            -> handler -> path, form, selector, metric_selector what is asked
//!                                       -> metrics, external -> list, quantity   what is answered
//!                                       -> recording                              who read what
//!                                       -> discovery, health, status             all the rest
//! ```
//!
//! Values come from memory, never from a backend or the Kubernetes API; only token and access
//! reviews go there, and are cached. Doubt is an error with its reason, since an autoscaler stops
//! scaling on errors and obeys numbers.

mod accept;
mod asked;
pub mod authentication;
mod autoscalers;
mod body;
pub mod cluster_names;
mod discovery;
mod external;
mod form;
pub mod guard;
mod handler;
mod hpa_reads;
mod list;
pub mod metric_name;
mod metric_selector;
mod metrics;
pub mod names;
mod no_value_reason;
mod openapi;
mod page;
mod path;
mod percent;
mod quantity;
mod recording;
pub mod review;
pub mod selector;
pub mod server;
mod signal_age;
mod status;
mod telemetry;
#[cfg(test)]
mod testing;
pub mod view;
mod workload;

pub use body::{Body, Events};
pub use guard::Guard;
pub use handler::{Api, MetricSettings};
pub use recording::Reader;
pub use server::Server;
pub use telemetry::Observations;
