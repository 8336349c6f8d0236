//! A gRPC stream between a VM and the fake aggregator: who is at its ends, and what goes over it.

/// Number of a VM, unique in the process.
pub(crate) type VmIndex = u32;

/// A stream as both ends know it, unique in the process.
pub(crate) type ConnectionId = u64;

/// The sidecar's end of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) vm: VmIndex,
    pub(crate) root: u32,
    pub(crate) token: u32,
}

/// What a sidecar puts on a stream.
#[derive(Debug)]
pub(crate) enum Up {
    Open,
    Message(Vec<u8>),
    HalfClose,
    Reset,
}

/// What a sidecar hears from a stream.
#[derive(Debug)]
pub(crate) enum Down {
    Message(Vec<u8>),
    Close { status: u32, message: String },
}
