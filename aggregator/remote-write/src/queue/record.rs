//! A batch on disk: a header of 64 bytes, then the body. Numbers are little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic, `mmrw` |
//! | 4 | 1 | version of this layout, 1 |
//! | 5 | 1 | kind: 0 plain, 1 marks |
//! | 6 | 2 | shard |
//! | 8 | 8 | sequence number, ascending within the log |
//! | 16 | 8 | timestamp of the flush, Unix milliseconds |
//! | 24 | 4 | samples |
//! | 28 | 4 | length of the body |
//! | 32 | 4 | CRC-32 of the body |
//! | 36 | 24 | zero |
//! | 60 | 4 | CRC-32 of the 60 bytes before |

use bytes::Bytes;
use common_segments::HEADER_BYTES;

use crate::batch::{Batch, Kind};

/// Longest valid body: more than a request may have before compression.
const BODY_BYTES_MAX: u32 = 2 * 1024 * 1024;

/// Highest valid sequence number: a thousand batches per second reach it after some 300,000 years.
pub(super) const SEQ_MAX: u64 = 1 << 53;

const MAGIC: [u8; 4] = *b"mmrw";
const VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) shard: u16,
    pub(super) seq: u64,
    pub(super) timestamp: i64,
    pub(super) samples: u32,
    pub(super) body_len: u32,
    pub(super) body_crc: u32,
}

// === impl Header ===

impl Header {
    /// The header of `batch` as number `seq` of the log; `None` if its body is too long.
    pub(super) fn new(seq: u64, batch: &Batch) -> Option<Self> {
        let body_len = u32::try_from(batch.body.len()).ok()?;
        (body_len <= BODY_BYTES_MAX).then(|| Self {
            kind: batch.kind,
            shard: batch.shard,
            seq,
            timestamp: batch.timestamp,
            samples: batch.samples,
            body_len,
            body_crc: crc32fast::hash(&batch.body),
        })
    }

    /// The batch with a `body` that is this record's.
    pub(super) fn batch(&self, body: Vec<u8>) -> Batch {
        Batch {
            shard: self.shard,
            kind: self.kind,
            samples: self.samples,
            timestamp: self.timestamp,
            body: Bytes::from(body),
        }
    }
}

impl common_segments::Header for Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = match self.kind {
            Kind::Plain => 0,
            Kind::Marks => 1,
        };
        bytes[6..8].copy_from_slice(&self.shard.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.timestamp.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.samples.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if bytes[..4] != MAGIC || bytes[4] != VERSION || word(60) != crc32fast::hash(&bytes[..60]) {
            return None;
        }
        let header = Self {
            kind: match bytes[5] {
                0 => Kind::Plain,
                1 => Kind::Marks,
                _ => return None,
            },
            shard: u16::from_le_bytes([bytes[6], bytes[7]]),
            seq: long(8),
            timestamp: i64::from_ne_bytes(long(16).to_ne_bytes()),
            samples: word(24),
            body_len: word(28),
            body_crc: word(32),
        };
        (header.body_len <= BODY_BYTES_MAX && header.seq <= SEQ_MAX).then_some(header)
    }

    fn seq(&self) -> u64 {
        self.seq
    }

    fn body_len(&self) -> u32 {
        self.body_len
    }

    fn is_of(&self, body: &[u8]) -> bool {
        crc32fast::hash(body) == self.body_crc
    }
}
