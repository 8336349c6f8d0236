//! What one aggregator takes in at most, whoever streams.

use std::ops::RangeInclusive;
use std::time::Duration;

use common_budget::Size;

/// Streams open at once: two per sidecar of the most pods the store holds, since a new stream may
/// come before the old one is known to be dead.
pub const STREAMS_MAX: usize = 100_000;

/// Connections open at once: one per stream, as sidecars do it.
pub const CONNECTIONS_MAX: usize = STREAMS_MAX;

/// Streams on one connection. A sidecar opens one for each module, and one for Envoy's own metrics
/// service; a proxy that bundles those of several pods opens another connection beyond that.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 32;

/// Streams that were not told yet who they are of, at once: every sidecar says so in the first
/// packet. Of more, the oldest makes way.
pub const GREETING_MAX: usize = 1024;

/// Streams from one address, where the address is the identity: 64 Wasm VMs of an Envoy, and
/// several pods on the network of their node.
pub const STREAMS_PER_PEER_MAX: usize = 256;

/// A message of up to so many bytes needs no room among those under way: it is in what a stream
/// counts for. A report of 30 series has some 3 KiB.
pub(crate) const FREE_BYTES: usize = 4 * 1024;

/// How long a message may take from its first byte to its last.
pub const MESSAGE_WITHIN: Duration = Duration::from_secs(10);

/// Room for larger frames under way, of all sidecars and of one address.
pub const FRAMES_ROOM: Size = Size::mib(16);

/// Room for larger messages of Envoys' metrics services under way.
pub const MESSAGES_ROOM: Size = Size::mib(16);

/// Bytes of a message of a metrics service: all statistics of an Envoy with hundreds of clusters.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many times its bytes such a message may take once it is decoded; only one is decoded at a
/// time.
pub const GROWTH_MAX: u64 = 16;

/// Of either room, one address may have this part, and one message in any case.
pub(crate) const PEER_PART: u64 = 4;

/// Bytes of one frame: 256 series of a kilobyte each.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a call's headers.
pub(crate) const HEADER_BYTES_MAX: usize = 16 * 1024;

/// How long a stream may take to say hello.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// How long a stream may say nothing: twice the longest promise of a next report, and some.
pub(crate) const SILENCE_MAX: Duration = Duration::from_mins(5);

/// Answers that wait for the sidecar to take them. A sidecar has one report under way, so two would
/// do.
pub(crate) const ANSWERS_MAX: usize = 4;

/// How long the sidecar may take to make room for an answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long the last word of a stream, its status, may take to get out.
pub(crate) const STATUS_WITHIN: Duration = Duration::from_secs(1);

/// At shutdown a stream is drained once it said nothing for this long: what lies in our buffers
/// comes at once.
pub(crate) const DRAINED_AFTER: Duration = Duration::from_millis(100);

/// At shutdown a stream that talks on is cut off after this.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(2);

/// At shutdown connections that do not close are dropped this long after their streams ended.
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

/// Latest time that is believed to be one: the end of the year 9999, in Unix milliseconds.
pub(crate) const UNIX_MS_MAX: u64 = 253_402_300_799_999;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Streams open at once; [`STREAMS_MAX`] by default.
    pub streams: usize,
    /// Connections open at once; [`CONNECTIONS_MAX`] by default.
    pub connections: usize,
    /// Bytes of one frame; [`FRAME_BYTES_MAX`] by default.
    pub frame_bytes: usize,
    /// How long a stream may take to say hello; [`HELLO_WITHIN`] by default.
    pub hello_within: Duration,
    /// How long a sidecar may take to make room for an answer; [`ANSWER_WITHIN`] by default.
    pub answer_within: Duration,
    /// Streams that have not said hello at once; [`GREETING_MAX`] by default.
    pub greeting: usize,
    /// Streams from one address, where it is the identity; [`STREAMS_PER_PEER_MAX`] by default.
    pub streams_per_peer: usize,
    /// How long a message may take; [`MESSAGE_WITHIN`] by default.
    pub message_within: Duration,
    /// Bytes of a message of a metrics service; [`MESSAGE_BYTES_MAX`] by default.
    pub message_bytes: usize,
    /// Room for large frames; [`FRAMES_ROOM`] by default.
    pub frames_room: Size,
    /// Room for large messages of metrics services; [`MESSAGES_ROOM`] by default.
    pub messages_room: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: STREAMS_MAX,
            connections: CONNECTIONS_MAX,
            frame_bytes: FRAME_BYTES_MAX,
            hello_within: HELLO_WITHIN,
            answer_within: ANSWER_WITHIN,
            greeting: GREETING_MAX,
            streams_per_peer: STREAMS_PER_PEER_MAX,
            message_within: MESSAGE_WITHIN,
            message_bytes: MESSAGE_BYTES_MAX,
            frames_room: FRAMES_ROOM,
            messages_room: MESSAGES_ROOM,
        }
    }
}
