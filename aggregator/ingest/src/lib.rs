//! The gRPC ingest: reads the streams of sidecars, checks each frame once, applies it to the store.
//!
//! ```text
//! common-http -> server -> session (one task per stream) -> parse -> aggregator_core::store
//!                          admission (how many begin at once),
//!                          authenticator, identity (claims of streams),
//!                          tokens (whose a bearer token is),
//!                          streams (open ones), silence, close_reason,
//!                          log_limiter; all in context
//!                   └> native_sink (Envoy's own metrics_service) ──> aggregator_core::store
//!                          sink_states (the last totals of each pod)
//! pulse -> stretch (how late the replica is, and what it asks of sidecars)
//! ```

mod admission;
mod authenticator;
mod builds;
mod close_reason;
mod context;
pub mod identity;
pub mod limits;
mod log_limiter;
mod metrics;
mod native_sink;
pub mod parse;
mod pulse;
mod server;
mod session;
mod silence;
mod sink_states;
mod streams;
pub mod stretch;
pub mod tokens;

pub use admission::line;
pub use identity::Identity;
pub use limits::Limits;
pub use pulse::Pulse;
pub use server::Server;
pub use streams::PlainStreams;
