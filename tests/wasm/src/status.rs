//! Result codes of the proxy-wasm ABI, as host functions return them: those of the SDK, and two
//! that Envoy returns beside them.

use proxy_wasm::types::Status as Sdk;

/// What a host function answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(crate) enum Status {
    Ok = Sdk::Ok as u32,
    /// The thing named does not exist.
    NotFound = Sdk::NotFound as u32,
    /// An argument is out of its range.
    BadArgument = Sdk::BadArgument as u32,
    /// The upstream name could not be read.
    ParseFailure = Sdk::ParseFailure as u32,
    /// A pointer is outside the module's memory, or its allocator gave none.
    InvalidMemoryAccess = 6,
    /// The shared value changed since it was read.
    CasMismatch = Sdk::CasMismatch as u32,
    /// The host could not do it.
    InternalFailure = Sdk::InternalFailure as u32,
    /// The host does not have it.
    Unimplemented = 12,
}

impl From<Status> for u32 {
    fn from(status: Status) -> Self {
        status as u32
    }
}
