//! The segments of a queue on disk, and the cursor that says what was sent.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::batch::Batch;
use crate::queue::cursor::Cursor;
use crate::queue::folder::{CURSOR, Folder, STATE, WRITTEN};
use crate::queue::record::Header;
use crate::queue::segment::{ScanResult, Segment};

/// The segments of a folder. One process at a time has it.
#[derive(Debug)]
pub(super) struct Log {
    folder: Folder,
    /// By the sequence number they begin with.
    segments: BTreeMap<u64, Segment>,
    /// The one that is appended to. After a start a new one is begun, so that nothing follows a
    /// torn end.
    current: Option<u64>,
    segment_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RecordPosition {
    /// Number that the segment begins with.
    pub(super) segment: u64,
    pub(super) record: ScanResult,
}

/// What was found on opening.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Every record whose header is good, in order.
    pub(super) places: Vec<RecordPosition>,
    /// What was sent, and the last flush.
    pub(super) cursor: Cursor,
    /// Bytes that cannot be used and are skipped.
    pub(super) damaged: u64,
    /// The next segment may not begin with a number below this: there is a file of that name.
    pub(super) next_segment: u64,
}

// === impl Log ===

impl Log {
    /// Opens or makes the log in `folder`. Damage is skipped, counted and logged, never an error;
    /// the error is a folder that cannot be used, or that another process uses.
    pub(super) fn open(folder: &Path, segment_bytes: u64) -> io::Result<(Self, Opened)> {
        let folder = Folder::open(folder)?;
        let mut opened = Opened::default();
        let mut segments = BTreeMap::new();
        for first in folder.segments()? {
            opened.next_segment = first.saturating_add(1);
            let path = folder.segment(first);
            match Segment::open(&path) {
                Ok((segment, scan)) => {
                    if scan.damaged > 0 {
                        opened.damage(&path, scan.damaged, "some of it is no record");
                    }
                    let found = scan.found.into_iter();
                    opened.places.extend(found.map(|record| RecordPosition {
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
            return Err(io::Error::other("the segment just made is not there"));
        };
        let before = segment.len();
        let appended = append_all(segment, current, batches).and_then(|places| {
            segment.sync()?;
            Ok(places)
        });
        if appended.is_err() && segment.truncate(before).is_err() {
            // What the disk holds behind `before` is not known: the next flush begins a segment of
            // its own.
            self.current = None;
        }
        appended
    }

    /// The batch at `place`; `None` if it was damaged since it was written.
    pub(super) fn read(&self, place: &RecordPosition) -> io::Result<Option<Batch>> {
        match self.segments.get(&place.segment) {
            Some(segment) => segment.read(place.record.offset, &place.record.header),
            None => Ok(None),
        }
    }

    /// Removes every segment but the last that holds none of the records from `oldest` on; with
    /// nothing left to keep, the last one as well.
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

    /// The oldest segment, and the number that the next one begins with.
    fn oldest_segment(&self) -> Option<(u64, Option<u64>)> {
        let mut firsts = self.segments.keys();
        Some((*firsts.next()?, firsts.next().copied()))
    }

    /// Writes one segment anew with `keep` only; returns where they lie now.
    pub(super) fn rewrite(
        &mut self,
        segment: u64,
        keep: &[ScanResult],
    ) -> io::Result<Vec<ScanResult>> {
        match self.segments.get_mut(&segment) {
            Some(open) => open.rewrite(&self.folder, keep),
            None => Ok(Vec::new()),
        }
    }

    /// Numbers that the segments begin with.
    pub(super) fn segments(&self) -> impl Iterator<Item = u64> {
        self.segments.keys().copied()
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(Segment::len).sum()
    }

    /// Writes down what was acknowledged; whole or not at all.
    pub(super) fn save_cursor(&self, cursor: &Cursor) -> io::Result<()> {
        let path = self.folder.file(CURSOR);
        self.folder.save(&path, cursor.encode().as_bytes())
    }

    /// Writes down what belongs to the next flush; whole or not at all.
    pub(super) fn save_state(&self, state: &[u8]) -> io::Result<()> {
        self.folder.save(&self.folder.file(STATE), state)
    }

    /// What [`Log::save_state`] wrote last.
    pub(super) fn state(&self) -> io::Result<Option<Vec<u8>>> {
        Folder::load(&self.folder.file(STATE))
    }

    /// Writes down which series were written, whole or not at all.
    pub(super) fn save_written(&self, written: &[u8]) -> io::Result<()> {
        self.folder.save(&self.folder.file(WRITTEN), written)
    }

    /// What [`Log::save_written`] wrote last.
    pub(super) fn written(&self) -> io::Result<Option<Vec<u8>>> {
        Folder::load(&self.folder.file(WRITTEN))
    }
}

// === impl Opened ===

impl Opened {
    /// One that is missing or damaged says nothing: everything is sent again, which no receiver
    /// minds, rather than nothing.
    fn read_cursor(&mut self, path: &Path) {
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
            "remote write: a file of the queue is damaged; what is whole is sent"
        );
    }
}

fn append_all(
    segment: &mut Segment,
    first: u64,
    batches: &[(Header, &Batch)],
) -> io::Result<Vec<RecordPosition>> {
    let mut places = Vec::with_capacity(batches.len());
    for (header, batch) in batches {
        let offset = segment.append(header, &batch.body)?;
        let record = ScanResult {
            header: *header,
            offset,
        };
        places.push(RecordPosition {
            segment: first,
            record,
        });
    }
    Ok(places)
}
