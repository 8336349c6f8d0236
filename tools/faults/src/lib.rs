//! Faults on real Envoys under load, compared with Envoy's own counters.
//!
//! ```text
//! scenario: traffic -> Envoy + filter -> aggregator    (one is killed, stalled, changed, ...)
//!                        └ oracle: /stats, or access log and statsd sink where the Envoy ends
//!           rows: sent (oracle), counted (aggregator), lost, doubled
//! ```

pub mod row;
pub mod scenarios;

mod oracle;
mod rig;
