//! What one aggregator takes in at most, whoever streams.

use std::time::Duration;

/// Streams open at once: two per sidecar of the most pods the store holds, since a new stream may come before
/// the old one is known to be dead.
pub const STREAMS_MAX: usize = 100_000;

/// Bytes of one frame: 256 series of a kilobyte each.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// How long a stream may take to say hello.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Limits of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Streams open at once; [`STREAMS_MAX`] by default.
    pub streams: usize,
    /// Bytes of one frame; [`FRAME_BYTES_MAX`] by default.
    pub frame_bytes: usize,
    /// How long a stream may take to say hello; [`HELLO_WITHIN`] by default.
    pub hello_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: STREAMS_MAX,
            frame_bytes: FRAME_BYTES_MAX,
            hello_within: HELLO_WITHIN,
        }
    }
}
