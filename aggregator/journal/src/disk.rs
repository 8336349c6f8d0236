//! The folder: segments of batches, bounded in bytes, in files and in age.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use aggregator_ledger::Ledger;
use aggregator_ledger::limits::KEPT;
use common_segments::{Folder, Header as _, Names, Scan, Segment};
use common_time::UnixMillis;

use crate::batch::{self, Header};
use crate::counts::{Counts, LossReason};
use crate::limits::{BYTES_MIN, FILES_MAX, SEGMENT_PART};

const NAMES: Names = Names {
    user: "ledger",
    what: "ledger",
    files: &[],
};

/// Segments in a folder, the oldest first. Every method may block on the disk.
#[derive(Debug)]
pub struct Disk {
    folder: Folder,
    segments: VecDeque<File>,
    /// True if the newest segment may be appended to. Each start begins a new one, so that nothing
    /// follows a torn batch.
    is_open: bool,
    next_seq: u64,
    limit: u64,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct File {
    segment: Segment,
    newest: UnixMillis,
}

// === impl Disk ===

impl Disk {
    /// Opens or creates the ledger in `folder`, of at most `limit` bytes, and gives all of it to
    /// `ledger`. Damage is left out, counted and logged, never an error. An error if the folder is
    /// unusable, or another process uses it.
    pub fn open(folder: &Path, limit: u64, now: UnixMillis, ledger: &Ledger) -> io::Result<Self> {
        let folder = Folder::open(folder, NAMES)?;
        let mut disk = Self {
            segments: VecDeque::new(),
            is_open: false,
            next_seq: 1,
            limit: limit.max(BYTES_MIN),
            counts: Arc::default(),
            folder,
        };
        for first in disk.folder.segments()? {
            disk.next_seq = disk.next_seq.max(first.saturating_add(1));
            let path = disk.folder.segment(first);
            match Segment::open::<Header>(&path) {
                Ok((segment, scan)) => disk.restore(&path, segment, &scan, ledger),
                Err(error) => disk.damaged(&path, &error.to_string()),
            }
        }
        disk.make_room(0, now);
        Ok(disk)
    }

    /// Counts of what is written and lost.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Appends `entries` of the ledger, durable when this returns. On an error all of them are
    /// lost, and the next call tries again.
    pub fn append(&mut self, now: UnixMillis, entries: &[Vec<u8>]) -> io::Result<()> {
        let count = entries.len() as u64;
        let appended = self.try_append(now, entries);
        if appended.is_ok() {
            self.counts.add_written(count);
        } else {
            self.counts.lose(LossReason::Disk, count);
            self.is_open = false;
        }
        self.counts.set_bytes(self.bytes());
        appended
    }

    fn try_append(&mut self, now: UnixMillis, entries: &[Vec<u8>]) -> io::Result<()> {
        let Some((header, body)) = batch::pack(self.next_seq, now, entries) else {
            return Err(io::Error::other("the batch is too large"));
        };
        self.make_room(header.record_len(), now);
        let full = self.limit / SEGMENT_PART;
        let newest = self.segments.back().filter(|_| self.is_open);
        if newest.is_none_or(|file| file.segment.len() + header.record_len() > full) {
            let path = self.folder.segment(self.next_seq);
            let segment = Segment::create(&self.folder, path)?;
            self.segments.push_back(File {
                segment,
                newest: now,
            });
            self.is_open = true;
        }
        let Some(file) = self.segments.back_mut() else {
            return Err(io::Error::other("the newest segment is missing"));
        };
        self.next_seq += 1;
        let before = file.segment.len();
        let appended = file.segment.append(&header, &body);
        let appended = appended.and_then(|_| file.segment.sync());
        if appended.is_err() {
            file.segment.truncate(before)?;
        }
        file.newest = now;
        appended
    }

    /// Gives the batches of a segment to `ledger`.
    fn restore(&mut self, path: &Path, segment: Segment, scan: &Scan<Header>, ledger: &Ledger) {
        let mut newest = UnixMillis(0);
        let mut damaged = u64::from(scan.damaged > 0);
        for found in &scan.found {
            self.next_seq = self.next_seq.max(found.header.seq + 1);
            newest = newest.max(found.header.written);
            let mut restored = 0;
            let restore = |entry: &[u8]| restored += u64::from(ledger.restore(entry).is_ok());
            let body = segment.read(found.offset, &found.header);
            let body = body.ok().flatten();
            let is_whole = body.is_some_and(|body| batch::unpack(&body, restore));
            damaged += u64::from(!is_whole || restored != u64::from(found.header.entries));
            self.counts.add_restored(restored);
        }
        if damaged > 0 {
            self.counts.lose(LossReason::Damaged, damaged);
            tracing::warn!(
                file = %path.display(),
                batches = damaged,
                bytes = scan.damaged,
                "ledger: a file is damaged or torn; its intact reads are restored"
            );
        }
        self.segments.push_back(File { segment, newest });
    }

    fn damaged(&self, path: &Path, error: &str) {
        self.counts.lose(LossReason::Damaged, 1);
        tracing::warn!(file = %path.display(), error, "ledger: a file cannot be read; it is left out");
    }

    /// Removes the oldest segments until `more` bytes fit, and those of more than a day ago.
    fn make_room(&mut self, more: u64, now: UnixMillis) {
        let oldest = now.before(KEPT);
        while let Some(file) = self.segments.front() {
            let is_full = self.bytes() + more > self.limit || self.segments.len() >= FILES_MAX;
            if !is_full && file.newest >= oldest {
                break;
            }
            if let Some(file) = self.segments.pop_front()
                && let Err(error) = file.segment.remove(&self.folder)
            {
                tracing::warn!(%error, "ledger: cannot remove its oldest file");
            }
            self.is_open &= !self.segments.is_empty();
        }
        self.counts.set_bytes(self.bytes());
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|file| file.segment.len()).sum()
    }
}
