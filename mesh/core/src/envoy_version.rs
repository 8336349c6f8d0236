//! The version of an Envoy, by which it gets configuration that not every version knows.

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EnvoyVersion {
    pub major: u64,
    pub minor: u64,
}

// === impl EnvoyVersion ===

impl EnvoyVersion {
    pub const fn new(major: u64, minor: u64) -> Self {
        Self { major, minor }
    }
}
