//! The segments of a queue on disk, and the cursor that says what was sent.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::block::Block;
use crate::queue::record::Header;
use crate::queue::segment::{self, Found, Segment};

const LOCK: &str = "LOCK";
const CURSOR: &str = "cursor";
const CURSOR_VERSION: &str = "meshmeter-remote-write-cursor 1";

/// The segments of a folder. One process at a time has it.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    /// Keeps the lock as long as it is open.
    _lock: File,
    /// By the sequence number they begin with; the last one is appended to.
    segments: BTreeMap<u64, Segment>,
    segment_bytes: u64,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Number that the segment begins with.
    pub(super) segment: u64,
    pub(super) record: Found,
}

/// What is known of blocks that are no longer there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Cursor {
    /// Highest number that each shard's receiver has acknowledged.
    pub(super) acknowledged: BTreeMap<u16, u64>,
    /// Timestamp of the newest flush, Unix milliseconds.
    pub(super) flush: Option<i64>,
}

/// What was found on opening.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Every good record, in order.
    pub(super) places: Vec<Place>,
    /// What was sent, and the last flush.
    pub(super) cursor: Cursor,
    /// Bytes that were no records and are skipped.
    pub(super) damaged: u64,
}

// === impl Log ===

impl Log {
    /// Opens or makes the log in `folder`. Damage is skipped and counted, never an error; the error is a folder that
    /// cannot be used, or that another process uses.
    pub(super) fn open(folder: &Path, segment_bytes: u64) -> io::Result<(Self, Opened)> {
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join(LOCK))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(ErrorKind::WouldBlock, "another process has this queue open")
            }
            TryLockError::Error(error) => error,
        })?;
        let mut opened = Opened::default();
        let firsts = segment::list(folder)?;
        let mut segments = BTreeMap::new();
        for (index, first) in firsts.iter().enumerate() {
            let last = index + 1 == firsts.len();
            let (segment, scan) = Segment::open(folder, *first, last)?;
            opened.damaged += scan.damaged;
            opened
                .places
                .extend(scan.found.into_iter().map(|record| Place {
                    segment: *first,
                    record,
                }));
            segments.insert(*first, segment);
        }
        opened.cursor = read_cursor(&folder.join(CURSOR));
        let log = Self {
            folder: folder.to_owned(),
            _lock: lock,
            segments,
            segment_bytes,
        };
        Ok((log, opened))
    }

    /// Appends `blocks` with numbers from `first` on and makes them durable, all or none.
    pub(super) fn append(
        &mut self,
        first: u64,
        blocks: &[(Header, &Block)],
    ) -> io::Result<Vec<Place>> {
        let room = self
            .segments
            .last_key_value()
            .map(|(at, segment)| (*at, segment.len()));
        let current = match room {
            Some((at, len)) if len < self.segment_bytes => at,
            _ => {
                let segment = Segment::create(&self.folder, first)?;
                self.segments.insert(first, segment);
                first
            }
        };
        let Some(segment) = self.segments.get_mut(&current) else {
            return Err(io::Error::other("the segment just made is not there"));
        };
        let before = segment.len();
        let appended = append_all(segment, current, blocks).and_then(|places| {
            segment.sync()?;
            Ok(places)
        });
        if appended.is_err() {
            segment.truncate(before)?;
        }
        appended
    }

    /// The block at `place`; `None` if it was damaged since it was written.
    pub(super) fn read(&self, place: &Place) -> io::Result<Option<Block>> {
        match self.segments.get(&place.segment) {
            Some(segment) => segment.read(place.record.offset, &place.record.header),
            None => Ok(None),
        }
    }

    /// Removes every segment but the last that holds none of the records from `oldest` on; with nothing left to keep,
    /// the last one as well.
    pub(super) fn remove_before(&mut self, oldest: Option<u64>) -> io::Result<()> {
        while let Some((first, end)) = self.oldest_segment() {
            let unused = match (oldest, end) {
                (None, _) => true,
                (Some(oldest), Some(end)) => end <= oldest,
                (Some(_), None) => false,
            };
            if !unused {
                break;
            }
            if let Some(segment) = self.segments.remove(&first) {
                segment.remove(&self.folder)?;
            }
        }
        Ok(())
    }

    /// The oldest segment, and the number that the next one begins with.
    fn oldest_segment(&self) -> Option<(u64, Option<u64>)> {
        let mut firsts = self.segments.keys();
        Some((*firsts.next()?, firsts.next().copied()))
    }

    /// Writes one segment anew with `keep` only; returns where they lie now.
    pub(super) fn rewrite(&mut self, segment: u64, keep: &[Found]) -> io::Result<Vec<Found>> {
        match self.segments.get_mut(&segment) {
            Some(open) => open.rewrite(&self.folder, keep),
            None => Ok(Vec::new()),
        }
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(Segment::len).sum()
    }

    /// Writes down what was acknowledged; whole or not at all.
    pub(super) fn save_cursor(&self, cursor: &Cursor) -> io::Result<()> {
        let flush = cursor.flush.map(|flush| format!("flush {flush}\n"));
        let shards = cursor.acknowledged.iter();
        let lines = shards.map(|(shard, seq)| format!("{shard} {seq}\n"));
        let lines: String = flush.into_iter().chain(lines).collect();
        self.save(CURSOR, format!("{CURSOR_VERSION}\n{lines}").as_bytes())
    }

    /// Writes the file `name` beside the segments; whole or not at all.
    pub(super) fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.folder.join(format!("{name}.new"));
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.folder.join(name))?;
        segment::sync_folder(&self.folder)
    }

    /// The file `name` beside the segments; `None` if there is none.
    pub(super) fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn append_all(
    segment: &mut Segment,
    first: u64,
    blocks: &[(Header, &Block)],
) -> io::Result<Vec<Place>> {
    let mut places = Vec::with_capacity(blocks.len());
    for (header, block) in blocks {
        let offset = segment.append(header, &block.body)?;
        let record = Found {
            header: *header,
            offset,
        };
        places.push(Place {
            segment: first,
            record,
        });
    }
    Ok(places)
}

/// What the cursor says. One that is missing or damaged says nothing: everything is sent again, which no receiver
/// minds, rather than nothing.
fn read_cursor(path: &Path) -> Cursor {
    let Ok(text) = fs::read_to_string(path) else {
        return Cursor::default();
    };
    let mut lines = text.lines();
    if lines.next() != Some(CURSOR_VERSION) {
        return Cursor::default();
    }
    let mut cursor = Cursor::default();
    for line in lines {
        let parsed = match line.split_once(' ') {
            Some(("flush", flush)) => flush.parse().map(|flush| cursor.flush = Some(flush)).ok(),
            Some((shard, seq)) => shard
                .parse()
                .ok()
                .zip(seq.parse().ok())
                .map(|(shard, seq)| {
                    cursor.acknowledged.insert(shard, seq);
                }),
            None => None,
        };
        if parsed.is_none() {
            return Cursor::default();
        }
    }
    cursor
}
