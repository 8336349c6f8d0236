//! What stands before the body of each record.

use std::fmt::Debug;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 64;

/// The header of a record. It has a checksum of its own, so that a record can be found behind
/// damage.
pub trait Header: Copy + Debug {
    fn encode(&self) -> [u8; HEADER_BYTES];

    /// The header in `bytes`; `None` if magic, version, checksum or a field is invalid.
    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self>;

    /// Number of the record, ascending within a folder.
    fn seq(&self) -> u64;

    /// Bytes of the body.
    fn body_len(&self) -> u32;

    /// True if `body` has the checksum that the header says.
    fn is_of(&self, body: &[u8]) -> bool;

    /// Bytes of the whole record.
    fn record_len(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.body_len())
    }
}
