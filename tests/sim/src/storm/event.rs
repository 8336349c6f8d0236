//! What happens in a storm, and to which stream.

#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Event {
    Start,
    /// A pod ends in order, and another one begins.
    Replace(u64),
    Tick(u64),
    /// Something of a stream is in the buffers of the replica.
    Came(Work),
    /// The processor gets to it.
    Done(Work),
    /// A frame, or the end of a stream, reaches the sidecar.
    Back {
        stream: StreamKey,
        epoch: u64,
        what: Result<Vec<u8>, (u32, String)>,
    },
    /// The short task of a replica is due, and runs.
    Due(usize, u64),
    Beat(usize, u64),
    /// Streams that wait in the line look again.
    LookAgain(usize),
    Second,
    Storm,
    Up(usize),
    Lost(Vec<StreamKey>),
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct StreamKey {
    pub(super) replica: usize,
    pub(super) pod: u64,
    pub(super) token: u32,
}

#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Work {
    pub(super) stream: StreamKey,
    pub(super) epoch: u64,
    pub(super) what: What,
}

#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum What {
    Open,
    Frame { made_ms: u64, bytes: Vec<u8> },
    End,
}

// === impl StreamKey ===

impl StreamKey {
    /// The stream's number at its replica.
    pub(super) fn id(self) -> u64 {
        (self.pod << 24) | u64::from(self.token)
    }
}
