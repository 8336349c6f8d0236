//! Limits of the ingest.

use std::ops::RangeInclusive;
use std::time::Duration;

use common_budget::Size;

/// Streams open at once: two for each pod of the store, since a new stream may open before the loss
/// of the old one is noticed.
pub const STREAMS_MAX: usize = 2 * aggregator_core::limits::PODS_MAX;

/// Connections open at once: sidecars open one per stream.
pub const CONNECTIONS_MAX: usize = STREAMS_MAX;

/// Streams on one connection. A sidecar opens one for each module and one for Envoy's own metrics
/// service; a proxy that multiplexes several pods opens another connection beyond that.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 32;

/// Streams without a hello: every sidecar sends it in the first packet. Beyond this, the oldest is
/// closed.
pub const AWAITING_HELLO_MAX: usize = 1024;

/// Streams that begin at once: more do not make it quicker, and what they hold is in the budget.
pub const AT_ONCE: usize = 128;

/// Streams that wait until others have begun. Beyond this, a sidecar is told when to come back.
pub const WAITING_MAX: usize = 512;

/// Streams from one address where it is the identity: 64 Wasm VMs of an Envoy, and several pods on
/// their node's network.
pub const STREAMS_PER_PEER_MAX: usize = 256;

/// Messages up to this size need no reservation: the budget of a stream includes them. A report of
/// 30 series has some 3 KiB.
pub(crate) const FREE_BYTES: usize = 4 * 1024;

/// How long a message may take from its first byte to its last.
pub const MESSAGE_WITHIN: Duration = Duration::from_secs(10);

/// Memory for larger frames being received.
pub const FRAMES_ROOM: Size = Size::mib(16);

/// Memory for larger messages of Envoys' metrics services being received.
pub const MESSAGES_ROOM: Size = Size::mib(16);

/// Bytes of a message of a metrics service: all statistics of an Envoy with hundreds of clusters.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Memory of a decoded message as a multiple of its bytes; only one is decoded at a time.
pub const GROWTH_MAX: u64 = 16;

/// One address may use one part in this many of either memory, and one message in any case.
pub(crate) const PEER_PART: u64 = 4;

/// Bytes of one frame: 256 series of a kilobyte each.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a call's headers.
pub(crate) const HEADER_BYTES_MAX: usize = 16 * 1024;

/// How long a stream may take to send hello.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// How long a stream may be silent: over twice [`NEXT_REPORT_MS_MAX`].
pub(crate) const SILENCE_MAX: Duration = Duration::from_mins(5);

/// Queued responses. A sidecar has one unacknowledged report, so two would do.
pub(crate) const RESPONSES_MAX: usize = 4;

/// How long a response may wait for room in the queue.
pub const RESPONSE_WITHIN: Duration = Duration::from_secs(10);

/// How long a stream's status may wait for room in the queue.
pub(crate) const STATUS_WITHIN: Duration = Duration::from_secs(1);

/// At shutdown a stream is drained once no frame came for this long: buffered frames come at once.
pub(crate) const DRAINED_AFTER: Duration = Duration::from_millis(100);

/// At shutdown a stream that still sends is closed after this.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(2);

/// At shutdown open connections are dropped this long after their streams ended.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Series of one report: as many as a pod may have.
pub(crate) const SERIES_PER_REPORT_MAX: usize = aggregator_core::limits::SERIES_PER_POD_MAX;

/// Codes of one series: every status from 100 to 599, the five classes and none.
pub(crate) const RESPONSES_PER_SERIES_MAX: usize = 500 + 5 + 1;

/// Bytes of the filter's version.
pub(crate) const BUILD_BYTES_MAX: usize = 128;

/// Flush intervals the filter can have, in milliseconds.
pub(crate) const FLUSH_INTERVAL_MS: RangeInclusive<u64> = 100..=60_000;

/// Longest promise of a next report, in milliseconds: twice the longest flush interval.
pub(crate) const NEXT_REPORT_MS_MAX: u64 = 120_000;

/// Wasm VMs of one Envoy: one per worker, and Envoy starts one worker per core.
pub(crate) const VMS_MAX: u64 = 4096;

/// Latest valid time: the end of the year 9999, in Unix milliseconds.
pub(crate) const UNIX_MS_MAX: u64 = 253_402_300_799_999;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// [`STREAMS_MAX`] by default.
    pub streams: usize,
    /// [`CONNECTIONS_MAX`] by default.
    pub connections: usize,
    /// [`FRAME_BYTES_MAX`] by default.
    pub frame_bytes: usize,
    /// [`HELLO_WITHIN`] by default.
    pub hello_within: Duration,
    /// [`RESPONSE_WITHIN`] by default.
    pub response_within: Duration,
    /// [`AWAITING_HELLO_MAX`] by default.
    pub awaiting_hello: usize,
    /// [`AT_ONCE`] by default.
    pub at_once: usize,
    /// [`WAITING_MAX`] by default.
    pub waiting: usize,
    /// [`STREAMS_PER_PEER_MAX`] by default.
    pub streams_per_peer: usize,
    /// [`MESSAGE_WITHIN`] by default.
    pub message_within: Duration,
    /// [`MESSAGE_BYTES_MAX`] by default.
    pub message_bytes: usize,
    /// [`FRAMES_ROOM`] by default.
    pub frames_room: Size,
    /// [`MESSAGES_ROOM`] by default.
    pub messages_room: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: STREAMS_MAX,
            connections: CONNECTIONS_MAX,
            frame_bytes: FRAME_BYTES_MAX,
            hello_within: HELLO_WITHIN,
            response_within: RESPONSE_WITHIN,
            awaiting_hello: AWAITING_HELLO_MAX,
            at_once: AT_ONCE,
            waiting: WAITING_MAX,
            streams_per_peer: STREAMS_PER_PEER_MAX,
            message_within: MESSAGE_WITHIN,
            message_bytes: MESSAGE_BYTES_MAX,
            frames_room: FRAMES_ROOM,
            messages_room: MESSAGES_ROOM,
        }
    }
}
