//! gRPC in: reads what sidecars stream, checks it once, and applies it to the store.
//!
//! ```text
//! common-http -> server -> session (one task per stream) -> parse -> aggregator_core::store
//!                          identity (who streams), door (TLS or plain),
//!                          streams (which are open), ending (how one ends),
//!                          refusals (their log lines); all in shared
//!                   └> native_sink (Envoy's own metrics_service) ──> aggregator_core::store
//!                          remembered (the last message of each)
//! ```

mod builds;
mod close_reason;
mod context;
mod door;
pub mod identity;
pub mod limits;
mod metrics;
mod native_sink;
pub mod parse;
mod refusals;
mod server;
mod session;
mod sink_states;
mod streams;

pub use identity::Identity;
pub use limits::Limits;
pub use server::Server;
pub use streams::PlainStreams;
