//! A Kubernetes control plane as far as an aggregator and an autoscaler can see it, in this
//! process: an API server with recorded behaviour, and its aggregation layer.
//!
//! ```text
//! aggregator ── list, watch, reviews, CA ──> server <── Deployments, pods ── test
//!     ^                                        │ APIService
//!     └──── proxy (front-proxy certificate) <──┴── autoscaler (of tests-cluster)
//! ```
//!
//! What it answers was recorded from Kubernetes 1.36. It does not enforce RBAC, validate objects or
//! run anything.

pub mod ca;
pub mod custom;
pub mod objects;
pub mod proxy;
pub mod server;
pub mod signing;

pub use ca::{CertificateAuthority, Identity};
pub use objects::{Objects, POD, Resource};
pub use proxy::AggregationLayer;
pub use server::{ApiServer, KnownUser, Manner};
pub use signing::{PodToken, SigningKey};
