//! What both programs ask of a Kubernetes cluster, and the few things they write there.
//!
//! ```text
//! connection -> watch (list, then watch) -> an index of whoever watches
//!                                        -> configuration: authentication of an aggregated API
//!            -> reviews        who a bearer token is, what a user may do
//!            -> registration   our CA, in a secret; its certificate, to whoever verifies ours
//!            -> events         what whoever looks at an object should hear
//!            -> lease          which replica writes
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
