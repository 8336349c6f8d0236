//! Result codes of the proxy-wasm ABI, as host functions return them.

/// What a host function answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(crate) enum Status {
    Ok = 0,
    /// The thing named does not exist.
    NotFound = 1,
    /// An argument is out of its range.
    BadArgument = 2,
    /// The upstream name could not be read.
    ParseFailure = 4,
    /// A pointer is outside the module's memory, or its allocator gave none.
    InvalidMemoryAccess = 6,
    /// The shared value changed since it was read.
    CasMismatch = 8,
    /// The host could not do it.
    InternalFailure = 10,
    /// The host does not have it.
    Unimplemented = 12,
}

impl From<Status> for u32 {
    fn from(status: Status) -> Self {
        status as u32
    }
}

#[cfg(test)]
mod tests {
    use proxy_wasm::types::Status as Sdk;

    use super::Status;

    /// The numbers agree with the SDK's, which lacks two that Envoy returns.
    #[test]
    fn numbers_agree_with_the_sdk() {
        let pairs = [
            (Status::Ok, Sdk::Ok),
            (Status::NotFound, Sdk::NotFound),
            (Status::BadArgument, Sdk::BadArgument),
            (Status::ParseFailure, Sdk::ParseFailure),
            (Status::CasMismatch, Sdk::CasMismatch),
            (Status::InternalFailure, Sdk::InternalFailure),
        ];
        for (ours, sdk) in pairs {
            assert_eq!(u32::from(ours), sdk as u32, "{ours:?}");
        }
    }
}
