//! Which version of the protocol requests are made in: 2.0 if asked for, until the receiver does not seem to know it.
//!
//! A receiver of 1.0 may take a request of 2.0 for an empty one, answer 2xx and store nothing; so an answer without the
//! headers that 2.0 wants (`X-Prometheus-Remote-Write-*-Written`) counts as one that does not know it
//! (Remote-Write 2.0, "Required Written Response Headers").

use std::sync::atomic::{AtomicU8, Ordering};

use crate::answer::Class;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// 1.0.
    V1,
    /// 2.0.
    V2,
}

/// The version in use, shared by all shards.
#[derive(Debug)]
pub struct Protocol(AtomicU8);

const V1: u8 = 0;
/// 2.0, and no request was stored yet.
const UNPROVEN: u8 = 1;
/// 2.0, and the receiver has shown that it knows it.
const PROVEN: u8 = 2;

// === impl Protocol ===

impl Protocol {
    /// Begins with `version`.
    pub fn new(version: Version) -> Self {
        Self(AtomicU8::new(match version {
            Version::V1 => V1,
            Version::V2 => UNPROVEN,
        }))
    }

    /// What to send in.
    pub fn version(&self) -> Version {
        match self.0.load(Ordering::Relaxed) {
            V1 => Version::V1,
            _ => Version::V2,
        }
    }

    /// A request in `sent` was answered so; true if that means an older version from now on. A receiver that never
    /// stored a request of 2.0 and refuses one as malformed is one of 1.0, too.
    pub fn observe(&self, sent: Version, class: Class) -> bool {
        if sent == Version::V1 {
            return false;
        }
        let unproven = self.0.load(Ordering::Relaxed) != PROVEN;
        match class {
            Class::Stored => {
                let _ =
                    self.0
                        .compare_exchange(UNPROVEN, PROVEN, Ordering::Relaxed, Ordering::Relaxed);
                false
            }
            Class::Unsupported => self.fall_back(),
            Class::Rejected if unproven => self.fall_back(),
            _ => false,
        }
    }

    fn fall_back(&self) -> bool {
        if self.0.swap(V1, Ordering::Relaxed) != V1 {
            tracing::warn!(
                "remote write: the receiver does not know version 2.0; going on with 1.0"
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Protocol, Version};
    use crate::answer::Class;

    #[test]
    fn it_falls_back_once_and_for_good() {
        for class in [Class::Unsupported, Class::Rejected] {
            let protocol = Protocol::new(Version::V2);
            assert!(!protocol.observe(Version::V2, Class::Failed));
            assert_eq!(protocol.version(), Version::V2);
            assert!(protocol.observe(Version::V2, class));
            assert_eq!(protocol.version(), Version::V1);
            // Another shard's request was on its way.
            assert!(protocol.observe(Version::V2, Class::Unsupported));
            assert!(!protocol.observe(Version::V1, Class::Unsupported));
        }
    }

    #[test]
    fn a_receiver_that_stored_one_may_refuse_another() {
        let protocol = Protocol::new(Version::V2);
        assert!(!protocol.observe(Version::V2, Class::Stored));
        assert!(!protocol.observe(Version::V2, Class::Rejected));
        assert_eq!(protocol.version(), Version::V2);
    }
}
