//! The cursor file: what was acknowledged, and the time of the last flush.
//!
//! ```text
//! meshmeter-remote-write-cursor 2
//! flush 1767225600000        timestamp of the newest flush, Unix milliseconds
//! 0 17                       shard, highest number acknowledged
//! crc 8f2a11c0               CRC-32 of the lines above
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::queue::record::SEQ_MAX;

const VERSION: &str = "meshmeter-remote-write-cursor 2";

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Cursor {
    /// Highest acknowledged number of each shard.
    pub(super) acknowledged: BTreeMap<u16, u64>,
    /// Timestamp of the newest flush, Unix milliseconds.
    pub(super) flush: Option<i64>,
}

// === impl Cursor ===

impl Cursor {
    pub(super) fn encode(&self) -> String {
        let flush = self.flush.map(|flush| format!("flush {flush}\n"));
        let shards = self.acknowledged.iter();
        let lines = shards.map(|(shard, seq)| format!("{shard} {seq}\n"));
        let mut text = format!("{VERSION}\n");
        text.extend(flush.into_iter().chain(lines));
        let crc = crc32fast::hash(text.as_bytes());
        let _infallible = writeln!(text, "crc {crc:08x}");
        text
    }

    /// `None` if the checksum or the version is wrong.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let (checked, crc) = text.strip_suffix('\n')?.rsplit_once("crc ")?;
        let written = format!("{:08x}", crc32fast::hash(checked.as_bytes()));
        let mut lines = checked.lines();
        if crc != written || lines.next() != Some(VERSION) {
            return None;
        }
        let mut cursor = Self::default();
        for line in lines {
            match line.split_once(' ')? {
                ("flush", flush) => cursor.flush = Some(flush.parse().ok()?),
                (shard, seq) => {
                    let seq = seq.parse().ok().filter(|seq| *seq <= SEQ_MAX)?;
                    cursor.acknowledged.insert(shard.parse().ok()?, seq);
                }
            }
        }
        Some(cursor)
    }
}
