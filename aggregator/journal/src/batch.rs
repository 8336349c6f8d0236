//! Entries of the ledger in one record: a header of 64 bytes, then the entries, each after its
//! length, compressed by Snappy. Numbers are little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic, `mmrd` |
//! | 4 | 4 | version of this layout and of the entries, 1 |
//! | 8 | 8 | sequence number, ascending within the folder |
//! | 16 | 8 | when it was written, Unix milliseconds |
//! | 24 | 4 | entries |
//! | 28 | 4 | length of the body |
//! | 32 | 4 | CRC-32 of the body |
//! | 36 | 24 | zero |
//! | 60 | 4 | CRC-32 of the 60 bytes before |

use common_segments::HEADER_BYTES;
use common_time::UnixMillis;

use crate::limits::BODY_BYTES_MAX;

const MAGIC: [u8; 4] = *b"mmrd";
const VERSION: u32 = 1;

/// Highest valid sequence number: one batch per second reaches it after 285 million years.
const SEQ_MAX: u64 = 1 << 53;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) seq: u64,
    pub(crate) written: UnixMillis,
    pub(crate) entries: u32,
    body_len: u32,
    body_crc: u32,
}

/// The header and the body of a batch of `entries`; `None` if it is too large for a record.
pub(crate) fn pack(
    seq: u64,
    written: UnixMillis,
    entries: &[Vec<u8>],
) -> Option<(Header, Vec<u8>)> {
    let mut plain = Vec::with_capacity(entries.iter().map(|entry| entry.len() + 4).sum());
    for entry in entries {
        plain.extend(u32::try_from(entry.len()).ok()?.to_le_bytes());
        plain.extend(entry);
    }
    let body = snap::raw::Encoder::new().compress_vec(&plain).ok()?;
    let header = Header {
        seq,
        written,
        entries: u32::try_from(entries.len()).ok()?,
        body_len: u32::try_from(body.len()).ok()?,
        body_crc: crc32fast::hash(&body),
    };
    Some((header, body))
}

/// Gives each entry in `body` to `take`; false if it is no batch.
pub(crate) fn unpack(body: &[u8], mut take: impl FnMut(&[u8])) -> bool {
    let is_sane = snap::raw::decompress_len(body).is_ok_and(|len| len <= BODY_BYTES_MAX);
    if !is_sane {
        return false;
    }
    let Ok(plain) = snap::raw::Decoder::new().decompress_vec(body) else {
        return false;
    };
    let mut rest = &plain[..];
    while let Some((len, more)) = rest.split_first_chunk() {
        let len = usize::try_from(u32::from_le_bytes(*len));
        let Some((entry, more)) = len.ok().and_then(|len| more.split_at_checked(len)) else {
            return false;
        };
        take(entry);
        rest = more;
    }
    rest.is_empty()
}

// === impl Header ===

impl common_segments::Header for Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.written.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.entries.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let is_ours = bytes[..4] == MAGIC && word(4) == VERSION;
        if !is_ours || word(60) != crc32fast::hash(&bytes[..60]) {
            return None;
        }
        let header = Self {
            seq: long(8),
            written: UnixMillis(long(16)),
            entries: word(24),
            body_len: word(28),
            body_crc: word(32),
        };
        let sane = header.seq <= SEQ_MAX && header.body_len as usize <= BODY_BYTES_MAX;
        sane.then_some(header)
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
