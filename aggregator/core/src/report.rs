//! Reports of sidecars, checked and free of wire types. `aggregator-ingest` parses frames into
//! them.
//!
//! Times here are still on the sidecar's clock; the store maps them to the aggregator's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::pod::{Labels, PodKey};
use crate::series::{CodeClass, SeriesKey};
use common_time::UnixMillis;

/// A set of counters that began at 0 together: a new value means that the totals began again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct InstanceId(pub u64);

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ProcessId(pub u64);

/// One stream of a sidecar to this aggregator. The caller of the store assigns it; it is unique.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(pub u64);

/// What an instance's counters cover.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CounterScope {
    /// The whole Envoy process.
    Process,
    /// One Wasm VM: the instances of one process add up.
    Vm,
}

/// First frame of a stream: the pod and the set of counters that it reports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    pub pod: PodKey,
    /// The pod's uid, "" if the sidecar does not know it.
    pub uid: Arc<str>,
    /// Name of the node, "" if the sidecar does not know it.
    pub node: Arc<str>,
    /// The pod's labels as far as the sidecar knows them.
    pub labels: Labels,
    pub instance: InstanceId,
    pub process: ProcessId,
    pub scope: CounterScope,
    /// When the counters began at 0, on the sidecar's clock.
    pub started_at: UnixMillis,
    /// The sidecar's clock when it sent this.
    pub clock: UnixMillis,
    /// True if the process takes over from a parent that still serves: it counts only a part of the
    /// pod's requests.
    pub hot_restart: bool,
}

/// Running totals at `interval_end`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Begins at 1 on each stream and rises by 1.
    pub seq: u64,
    /// End of the interval, on the sidecar's clock.
    pub interval_end: UnixMillis,
    /// Length of the interval in which all changes since the last report happened.
    pub interval: Duration,
    /// Series with their running totals, each key at most once.
    pub series: Vec<(SeriesKey, SeriesTotals)>,
    /// Wasm VMs that should be counting.
    pub vms_expected: u32,
    /// Wasm VMs that are counting.
    pub vms_live: u32,
    /// Time within which the sidecar promises another report.
    pub next_report_within: Duration,
    /// True if `series` is every series the sidecar has.
    pub snapshot: bool,
    /// True for the last report of a sidecar that ends in order.
    pub is_final: bool,
}

/// Running totals of one series. `None` means that the sidecar does not count it, never 0.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SeriesTotals {
    /// Requests that began, or that completed with `requests_at_completion`.
    pub requests: Option<u64>,
    /// True if `requests` are counted when they complete.
    pub requests_at_completion: bool,
    /// Attempts that reached an upstream connection.
    pub upstream_attempts: Option<u64>,
    /// Responses by class or exact code.
    pub responses: BTreeMap<ResponseCode, u64>,
    /// Requests in flight at the end of the interval. Not a running total.
    pub inflight: Option<u64>,
    /// Integral of `inflight` over time, in nanoseconds times requests.
    pub inflight_ns: Option<u64>,
}

/// How requests ended: a class (0 none, 1 to 5 for 1xx to 5xx) or an exact status (100 to 599).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ResponseCode(u16);

// === impl InstanceId ===

impl fmt::Display for InstanceId {
    /// 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

// === impl ResponseCode ===

impl ResponseCode {
    /// `None` if `number` is neither a class nor a status.
    pub fn new(number: u32) -> Option<Self> {
        match number {
            0..=5 | 100..=599 => u16::try_from(number).ok().map(Self),
            _ => None,
        }
    }

    /// The exact status; `None` if only the class is known.
    pub fn exact(self) -> Option<u16> {
        (self.0 >= 100).then_some(self.0)
    }

    /// The class this code belongs to.
    pub fn class(self) -> CodeClass {
        match if self.0 < 100 { self.0 } else { self.0 / 100 } {
            1 => CodeClass::Informational,
            2 => CodeClass::Success,
            3 => CodeClass::Redirection,
            4 => CodeClass::ClientError,
            5 => CodeClass::ServerError,
            _ => CodeClass::None,
        }
    }
}
