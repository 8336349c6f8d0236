//! Kubernetes client of both programs: what they read and watch, and the few objects they write.
//!
//! ```text
//! connection -> watch (list, then watch) -> an index of the caller
//!                                        -> configuration: authentication of an aggregated API
//!            -> reviews              TokenReview and SubjectAccessReview
//!            -> issuer               the keys of service account tokens
//!            -> ca_bundle_publisher  our CA in a secret; its certificate for those who verify us
//!            -> events               warnings about objects
//!            -> lease                which replica writes
//! ```
//!
//! Watched objects are decoded into types of our own with only the fields that are used; all others
//! are those of `k8s-openapi`.

pub mod api;
pub mod ca_bundle_publisher;
pub mod configuration;
pub mod connection;
pub mod events;
pub mod index;
pub mod issuer;
pub mod lease;
pub mod objects;
pub mod reviews;
pub mod scope;
pub mod watch;
pub mod watches;

pub use api::Api;
pub use ca_bundle_publisher::CaBundlePublisher;
pub use connection::ClusterError;
pub use lease::Lease;
pub use scope::Scope;
pub use watches::Watches;
