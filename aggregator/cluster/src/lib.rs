//! What the aggregator asks of a Kubernetes cluster, and the few things it writes there.
//!
//! ```text
//! connection -> watch (list, then watch) -> tables: pods, services, owners -> aggregator_core::directory
//!                                        -> configuration: how clients of the API are authenticated
//!            -> reviews        who a bearer token is, what a user may do
//!            -> registration   our authority, in a secret; its certificate, to whoever verifies ours
//!            -> events         what whoever looks at an object should hear
//!            -> lease          which replica writes
//! ```
//!
//! Objects are decoded into types of our own with only the fields that are used. Nothing here is asked by a request
//! of an autoscaler: what it asks is answered from the directory.
//!
//! Others than the aggregator watch by the same code: whoever implements [`tables::Table`] says what and where to.

pub mod configuration;
pub mod connection;
pub mod events;
pub mod lease;
pub mod objects;
pub mod registration;
pub mod reviews;
pub mod tables;
pub mod watch;
pub mod watches;

pub use connection::ClusterError;
pub use lease::Lease;
pub use registration::Registration;
pub use watches::{Scope, Watches};
