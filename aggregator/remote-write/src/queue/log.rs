//! The segments of a queue on disk, and its cursor.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::batch::Batch;
use crate::queue::cursor::Cursor;
use crate::queue::record::Header;
use common_segments::{Folder, Names, ScanResult, Segment};

const CURSOR: &str = "cursor";

/// Checkpoint of the next flush.
const STATE: &str = "state";

/// List of series written.
const WRITTEN: &str = "written";

const NAMES: Names = Names {
    user: "remote write",
    what: "queue",
    files: &[CURSOR, STATE, WRITTEN],
};

/// The segments of a folder.
#[derive(Debug)]
pub(super) struct Log {
    folder: Folder,
    /// By their first sequence number.
    segments: BTreeMap<u64, Segment>,
    /// The segment that is appended to. Each start begins a new one, so that nothing follows a torn
    /// record.
    current: Option<u64>,
    segment_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RecordPosition {
    /// First sequence number of the segment.
    pub(super) segment: u64,
    pub(super) record: ScanResult<Header>,
}

/// Content of a folder when it was opened.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Every record with a valid header, in order.
    pub(super) positions: Vec<RecordPosition>,
    pub(super) cursor: Cursor,
    /// Bytes without records, which are skipped.
    pub(super) damaged: u64,
    /// Lowest number for the next segment: lower ones are names of existing files.
    pub(super) next_segment: u64,
}

// === impl Log ===

impl Log {
    /// Opens or creates the log in `folder`. Damage is skipped, counted and logged, never an error.
    pub(super) fn open(folder: &Path, segment_bytes: u64) -> io::Result<(Self, Opened)> {
        let folder = Folder::open(folder, NAMES)?;
        let mut opened = Opened::default();
        let mut segments = BTreeMap::new();
        for first in folder.segments()? {
            opened.next_segment = first.saturating_add(1);
            let path = folder.segment(first);
            match Segment::open(&path) {
                Ok((segment, scan)) => {
                    if scan.damaged > 0 {
                        opened.damage(&path, scan.damaged, "parts of it hold no record");
                    }
                    let found = scan.found.into_iter();
                    opened.positions.extend(found.map(|record| RecordPosition {
                        segment: first,
                        record,
                    }));
                    segments.insert(first, segment);
                }
                Err(error) => {
                    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
                    opened.damage(&path, bytes, &error.to_string());
                }
            }
        }
        opened.read_cursor(&folder.file(CURSOR));
        let log = Self {
            folder,
            segments,
            current: None,
            segment_bytes,
        };
        Ok((log, opened))
    }

    /// Appends `batches` with numbers from `first` on and makes them durable, all or none.
    pub(super) fn append(
        &mut self,
        first: u64,
        batches: &[(Header, &Batch)],
    ) -> io::Result<Vec<RecordPosition>> {
        let is_full = |segment: &Segment| segment.len() >= self.segment_bytes;
        let open = self.current.and_then(|at| self.segments.get(&at));
        if open.is_none_or(is_full) {
            let segment = Segment::create(&self.folder, self.folder.segment(first))?;
            self.segments.insert(first, segment);
            self.current = Some(first);
        }
        let current = self.current.unwrap_or(first);
        let Some(segment) = self.segments.get_mut(&current) else {
            return Err(io::Error::other("the current segment is missing"));
        };
        let before = segment.len();
        let appended = append_all(segment, current, batches).and_then(|positions| {
            segment.sync()?;
            Ok(positions)
        });
        if appended.is_err() && segment.truncate(before).is_err() {
            // The content behind `before` is unknown: the next flush begins a new segment.
            self.current = None;
        }
        appended
    }

    /// The batch at `position`; `None` if it is damaged.
    pub(super) fn read(&self, position: &RecordPosition) -> io::Result<Option<Batch>> {
        match self.segments.get(&position.segment) {
            Some(segment) => {
                let ScanResult { header, offset } = &position.record;
                let body = segment.read(*offset, header)?;
                Ok(body.map(|body| header.batch(body)))
            }
            None => Ok(None),
        }
    }

    /// Removes all segments whose records are older than number `oldest`; all if it is `None`.
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
            self.current = self.current.filter(|current| *current != first);
            if let Some(segment) = self.segments.remove(&first) {
                segment.remove(&self.folder)?;
            }
        }
        Ok(())
    }

    /// First numbers of the oldest segment and of the one after it.
    fn oldest_segment(&self) -> Option<(u64, Option<u64>)> {
        let mut firsts = self.segments.keys();
        Some((*firsts.next()?, firsts.next().copied()))
    }

    /// Rewrites one segment with only the records `keep`; returns their new offsets.
    pub(super) fn rewrite(
        &mut self,
        segment: u64,
        keep: &[ScanResult<Header>],
    ) -> io::Result<Vec<ScanResult<Header>>> {
        match self.segments.get_mut(&segment) {
            Some(open) => open.rewrite(&self.folder, keep),
            None => Ok(Vec::new()),
        }
    }

    /// First number of each segment.
    pub(super) fn segments(&self) -> impl Iterator<Item = u64> {
        self.segments.keys().copied()
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(Segment::len).sum()
    }

    /// Saves the cursor atomically.
    pub(super) fn save_cursor(&self, cursor: &Cursor) -> io::Result<()> {
        let path = self.folder.file(CURSOR);
        self.folder.save(&path, cursor.encode().as_bytes())
    }

    /// Saves the checkpoint of the next flush atomically.
    pub(super) fn save_state(&self, state: &[u8]) -> io::Result<()> {
        self.folder.save(&self.folder.file(STATE), state)
    }

    pub(super) fn state(&self) -> io::Result<Option<Vec<u8>>> {
        Folder::load(&self.folder.file(STATE))
    }

    /// Saves the list of series written atomically.
    pub(super) fn save_written(&self, written: &[u8]) -> io::Result<()> {
        self.folder.save(&self.folder.file(WRITTEN), written)
    }

    pub(super) fn written(&self) -> io::Result<Option<Vec<u8>>> {
        Folder::load(&self.folder.file(WRITTEN))
    }
}

// === impl Opened ===

impl Opened {
    fn read_cursor(&mut self, path: &Path) {
        // Without a cursor everything is sent again: receivers store a sample sent twice once.
        match Folder::load(path) {
            Ok(None) => {}
            Ok(Some(bytes)) => match Cursor::decode(&bytes) {
                Some(cursor) => self.cursor = cursor,
                None => self.damage(path, bytes.len() as u64, "its checksum or version is wrong"),
            },
            Err(error) => self.damage(path, 0, &error.to_string()),
        }
    }

    fn damage(&mut self, path: &Path, bytes: u64, error: &str) {
        self.damaged = self.damaged.saturating_add(bytes);
        tracing::warn!(
            file = %path.display(),
            bytes,
            error,
            "remote write: a file of the queue is damaged; sending its intact records"
        );
    }
}

fn append_all(
    segment: &mut Segment,
    first: u64,
    batches: &[(Header, &Batch)],
) -> io::Result<Vec<RecordPosition>> {
    let mut positions = Vec::with_capacity(batches.len());
    for (header, batch) in batches {
        let offset = segment.append(header, &batch.body)?;
        let record = ScanResult {
            header: *header,
            offset,
        };
        positions.push(RecordPosition {
            segment: first,
            record,
        });
    }
    Ok(positions)
}
