//! Frames as they go on the wire.

use prost::Message as _;
use proto::v1;

use crate::identity::Identity;
use crate::time::{Monotonic, Now, UnixMillis};
use crate::view::{Version, View};

/// Version of the filter as aggregators see it.
const BUILD: &str = match option_env!("MESHMETER_BUILD") {
    Some(build) => build,
    None => env!("CARGO_PKG_VERSION"),
};

/// Interval of reports without changes, in milliseconds.
pub const HEARTBEAT_MS: u64 = 10_000;
/// Reports follow at the flush interval for this time after a change, in milliseconds: as long as
/// the aggregator's widest window, so that every window has an exact end.
pub const ACTIVE_MS: u64 = 60_000;

/// Content of a stream's first frame.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    pub identity: Identity,
    /// Interval of reports while totals change, in milliseconds.
    pub flush_interval_ms: u64,
    pub counters: Reported,
}

/// The counters that a stream reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reported {
    pub process: u64,
    /// Whether they are those of one VM, not of the process.
    pub of_vm: bool,
    /// Random ID of the counters' lifetime; 0 before they have one.
    pub instance: u64,
    /// Start of that lifetime.
    pub started_at: UnixMillis,
    /// Whether the parent of a hot restart still runs.
    pub hot_restart: bool,
}

/// Content of a report besides the series.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub now: Now,
    /// Last time without changes: start of the interval of a stream's first report.
    pub quiet_at: Monotonic,
    pub vms_expected: u32,
    pub vms_live: u32,
    /// Whether the sum of `inflight` includes requests of a dead VM, so that it is unknown.
    pub inflight_lost: bool,
}

/// Serialises `hello`.
pub fn hello(hello: &Hello, flush_interval_ms: u64, now: Now) -> Vec<u8> {
    let Hello {
        identity, counters, ..
    } = hello;
    let scope = if counters.of_vm {
        v1::CounterScope::Vm
    } else {
        v1::CounterScope::Process
    };
    let hello = v1::Hello {
        identity: Some(v1::Identity {
            namespace: identity.namespace.clone(),
            pod: identity.pod.clone(),
            pod_uid: identity.uid.clone(),
            node: identity.node.clone(),
            labels: identity.labels.clone(),
        }),
        instance: counters.instance,
        process: counters.process,
        scope: scope.into(),
        started_at_unix_ms: counters.started_at.0,
        clock_unix_ms: now.unix.0,
        flush_interval_ms: millis(flush_interval_ms),
        build: BUILD.to_owned(),
        protocol: proto::PROTOCOL,
        hot_restart: counters.hot_restart,
    };
    let frame = v1::sidecar_frame::Frame::Hello(hello);
    v1::SidecarFrame { frame: Some(frame) }.encode_to_vec()
}

/// When the next report will follow.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Within this time, in milliseconds.
    pub within_ms: u64,
    /// Without a change the next report is a heartbeat.
    pub resting: bool,
}

/// The promise in a report made at `now`.
pub fn promise(view: &View, now: Now, flush_interval_ms: u64) -> Promise {
    let active = view
        .changed_at()
        .is_some_and(|at| now.monotonic.millis_since(at) < ACTIVE_MS);
    let within_ms = if active {
        flush_interval_ms
    } else {
        HEARTBEAT_MS.max(flush_interval_ms)
    };
    Promise {
        within_ms,
        resting: !active,
    }
}

/// Parameters of a report.
#[derive(Clone, Copy, Debug)]
pub struct Draft {
    pub seq: u64,
    /// Version of the stream's last acknowledged report.
    pub acked: Version,
    /// Start of the interval in which everything changed since `acked`.
    pub begin: Monotonic,
    pub promise: Promise,
    pub is_final: bool,
}

/// Serialises a report with the series that changed since the last acknowledged one.
pub fn report(draft: Draft, view: &View, facts: &Facts) -> Vec<u8> {
    let now = facts.now;
    let mut series = view.since(draft.acked);
    if facts.inflight_lost {
        for series in &mut series {
            series.inflight = None;
        }
    }
    let report = v1::Report {
        seq: draft.seq,
        interval_end_unix_ms: now.unix.0,
        interval_ms: millis(now.monotonic.millis_since(draft.begin)),
        series,
        vms_expected: facts.vms_expected,
        vms_live: facts.vms_live,
        next_report_within_ms: millis(draft.promise.within_ms),
        snapshot: draft.acked == Version(0),
        r#final: draft.is_final,
        refused: view.refused(),
    };
    let frame = v1::sidecar_frame::Frame::Report(report);
    v1::SidecarFrame { frame: Some(frame) }.encode_to_vec()
}

/// Milliseconds as they go on the wire.
fn millis(millis: u64) -> u32 {
    u32::try_from(millis).unwrap_or(u32::MAX)
}
