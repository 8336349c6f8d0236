//! What waits to be sent: first in, first out for each shard, bounded in bytes and age, on disk or in memory.
//!
//! ```text
//! push (one flush, one fsync) -> pending of each shard -> front -> acknowledge
//!                                    └ over the limit: thin (every other flush of the backlog), then drop the oldest
//! ```
//!
//! Invariant, in samples: recovered + pushed = acknowledged + dropped (by reason) + pending.
//!
//! Blocking: every method may wait for the disk.

mod log;
mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::block::{Block, Kind};
use crate::queue::log::{Log, Place};
use crate::queue::record::Header;
use crate::queue::segment::Found;

/// Bytes of a file of the log before the next one is begun.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Default of [`Limits::bytes`] on disk.
pub const DISK_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Default of [`Limits::bytes`] in memory, and of [`Limits::memory_bytes`].
pub const MEMORY_BYTES: u64 = 64 * 1024 * 1024;

/// AMP refuses samples older than an hour; what is older than this would not arrive in time.
pub const AMP_AGE_MAX: Duration = Duration::from_mins(55);

/// What the queue holds at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of pending blocks with their headers.
    pub bytes: u64,
    /// Of these, bytes held in memory while the disk does not take them.
    pub memory_bytes: u64,
    /// Age of a pending block; `None` for no limit.
    pub age: Option<Duration>,
    /// Bytes of a file before the next one is begun.
    pub segment_bytes: u64,
}

/// Why samples were dropped unsent.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum DropReason {
    /// The queue was full, and a later sample of the same running total remains.
    Thinned,
    /// The queue was full.
    Full,
    /// Older than [`Limits::age`].
    TooOld,
    /// The disk gave back other bytes than were written, or could not be read.
    Corrupt,
    /// The block is longer than any request may be.
    TooLarge,
}

/// Samples that went through the queue since it was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Found on disk when the queue was opened.
    pub recovered: u64,
    /// Pushed.
    pub pushed: u64,
    /// Acknowledged.
    pub acknowledged: u64,
    /// Dropped, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Bytes on disk that were no records when the queue was opened.
    pub damaged_bytes: u64,
    /// Writes that the disk did not take; their blocks were held in memory.
    pub write_errors: u64,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Waiting {
    /// Samples.
    pub samples: u64,
    /// Blocks.
    pub blocks: usize,
    /// Bytes of the blocks with their headers.
    pub bytes: u64,
    /// Timestamp of the oldest, in Unix milliseconds.
    pub oldest: Option<i64>,
}

/// Blocks to send, in order.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    log: Option<Log>,
    next_seq: u64,
    /// By shard, each in ascending order of sequence numbers.
    pending: BTreeMap<u16, VecDeque<Pending>>,
    /// Highest number acknowledged, by shard.
    acknowledged: BTreeMap<u16, u64>,
    /// True if `acknowledged` is ahead of the cursor on disk.
    cursor_behind: bool,
    bytes: u64,
    memory_bytes: u64,
    totals: Totals,
}

/// A block that waits.
#[derive(Clone, Debug)]
struct Pending {
    header: Header,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Disk(Place),
    Memory(Block),
}

// === impl Limits ===

impl Limits {
    /// For a queue on disk, with AMP's limit of age.
    pub const DISK: Self = Self {
        bytes: DISK_BYTES,
        memory_bytes: MEMORY_BYTES,
        age: Some(AMP_AGE_MAX),
        segment_bytes: SEGMENT_BYTES,
    };

    /// For a queue in memory, with AMP's limit of age.
    pub const MEMORY: Self = Self {
        bytes: MEMORY_BYTES,
        ..Self::DISK
    };
}

// === impl DropReason ===

impl DropReason {
    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Thinned => "thinned",
            Self::Full => "queue_full",
            Self::TooOld => "too_old",
            Self::Corrupt => "corrupt",
            Self::TooLarge => "too_large",
        }
    }
}

// === impl Totals ===

impl Totals {
    /// All samples dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.values().sum()
    }
}

// === impl Queue ===

impl Queue {
    /// A queue that is gone with the process.
    pub fn in_memory(limits: Limits) -> Self {
        Self {
            limits: Limits {
                memory_bytes: limits.bytes,
                ..limits
            },
            log: None,
            next_seq: 1,
            pending: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            cursor_behind: false,
            bytes: 0,
            memory_bytes: 0,
            totals: Totals::default(),
        }
    }

    /// Opens or makes the queue in `folder` and finds what it holds. Damage never keeps it from opening.
    pub fn open(folder: &Path, limits: Limits) -> io::Result<Self> {
        let (log, opened) = Log::open(folder, limits.segment_bytes)?;
        let mut queue = Self {
            limits,
            ..Self::in_memory(limits)
        };
        queue.totals.damaged_bytes = opened.damaged;
        let acknowledged = opened.acknowledged.values().max().copied().unwrap_or(0);
        queue.next_seq = acknowledged + 1;
        for place in opened.places {
            let header = place.record.header;
            queue.next_seq = queue.next_seq.max(header.seq + 1);
            let sent = opened.acknowledged.get(&header.shard).copied().unwrap_or(0);
            if header.seq > sent {
                queue.totals.recovered += u64::from(header.samples);
                queue.wait(header, Body::Disk(place));
            }
        }
        queue.acknowledged = opened.acknowledged;
        queue.log = Some(log);
        Ok(queue)
    }

    /// Takes in the blocks of one flush, durable when this returns. Blocks that the disk does not take wait in memory
    /// as long as there is room. `now` is Unix time in milliseconds.
    pub fn push(&mut self, now: i64, blocks: Vec<Block>) {
        let mut numbered = Vec::with_capacity(blocks.len());
        for block in blocks {
            self.totals.pushed += u64::from(block.samples);
            match Header::new(self.next_seq, &block) {
                Some(header) => {
                    self.next_seq += 1;
                    numbered.push((header, block));
                }
                None => self.count(DropReason::TooLarge, block.samples),
            }
        }
        let Some((first, _)) = numbered.first() else {
            return;
        };
        let first = first.seq;
        let borrowed: Vec<_> = numbered
            .iter()
            .map(|(header, block)| (*header, block))
            .collect();
        let places = self.log.as_mut().map(|log| log.append(first, &borrowed));
        match places {
            Some(Ok(places)) => {
                for ((header, _), place) in numbered.into_iter().zip(places) {
                    self.wait(header, Body::Disk(place));
                }
            }
            written => {
                if let Some(Err(error)) = written {
                    self.totals.write_errors += 1;
                    tracing::warn!(%error, "remote write: the disk does not take the queue; holding it in memory");
                }
                for (header, block) in numbered {
                    self.memory_bytes += header.record_len();
                    self.wait(header, Body::Memory(block));
                }
            }
        }
        self.enforce(now);
    }

    /// The next block of `shard` to send and its number. One that cannot be read is dropped and counted.
    pub fn front(&mut self, shard: u16) -> Option<(u64, Block)> {
        loop {
            let pending = self.pending.get(&shard)?.front()?.clone();
            let read = match (&pending.body, &self.log) {
                (Body::Memory(block), _) => Ok(Some(block.clone())),
                (Body::Disk(place), Some(log)) => log.read(place),
                (Body::Disk(_), None) => Ok(None),
            };
            match read {
                Ok(Some(block)) => return Some((pending.header.seq, block)),
                Ok(None) => tracing::warn!(
                    seq = pending.header.seq,
                    "remote write: a queued block is damaged"
                ),
                Err(error) => {
                    tracing::warn!(%error, seq = pending.header.seq, "remote write: a queued block cannot be read");
                }
            }
            self.drop_front(shard, DropReason::Corrupt);
        }
    }

    /// True if number `seq` is the next of `shard` to send: it may have been dropped while it was on its way.
    pub fn is_front(&self, shard: u16, seq: u64) -> bool {
        let front = self.pending.get(&shard).and_then(VecDeque::front);
        front.is_some_and(|pending| pending.header.seq == seq)
    }

    /// The receiver has everything of `shard` up to number `seq`, or will never want it.
    pub fn acknowledge(&mut self, shard: u16, seq: u64) {
        while let Some(front) = self.pending.get(&shard).and_then(VecDeque::front) {
            if front.header.seq > seq {
                break;
            }
            self.totals.acknowledged += u64::from(front.header.samples);
            self.forget_front(shard);
        }
        self.tidy();
    }

    /// Drops what is too old at `now`, Unix time in milliseconds.
    pub fn enforce(&mut self, now: i64) {
        if let Some(age) = self.limits.age {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            let oldest = now.saturating_sub(age);
            for shard in self.shards() {
                while self
                    .front_timestamp(shard)
                    .is_some_and(|timestamp| timestamp < oldest)
                {
                    self.drop_front(shard, DropReason::TooOld);
                }
            }
        }
        if self.is_full() {
            self.compact();
        }
        if self.is_full() {
            self.thin();
            self.compact();
        }
        while self.is_full() && self.drop_oldest() {}
        self.tidy();
    }

    /// Writes down what was acknowledged, so that it is not sent again after a restart. A crash in between is
    /// harmless: what is sent twice is stored once.
    pub fn save_cursor(&mut self) -> io::Result<()> {
        if let Some(log) = &self.log
            && self.cursor_behind
        {
            log.save_cursor(&self.acknowledged)?;
            self.cursor_behind = false;
        }
        Ok(())
    }

    /// What went through.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What waits.
    pub fn waiting(&self) -> Waiting {
        let all = || self.pending.values().flatten();
        Waiting {
            samples: all().map(|pending| u64::from(pending.header.samples)).sum(),
            blocks: all().count(),
            bytes: self.bytes,
            oldest: all().map(|pending| pending.header.timestamp).min(),
        }
    }

    /// Shards that have something to send. After a change of the number of shards those of before are among them.
    pub fn shards(&self) -> Vec<u16> {
        let waiting = self.pending.iter().filter(|(_, queue)| !queue.is_empty());
        waiting.map(|(shard, _)| *shard).collect()
    }

    fn wait(&mut self, header: Header, body: Body) {
        self.bytes += header.record_len();
        let queue = self.pending.entry(header.shard).or_default();
        queue.push_back(Pending { header, body });
    }

    fn is_full(&self) -> bool {
        let on_disk = self.log.as_ref().map_or(0, Log::bytes);
        self.bytes > self.limits.bytes
            || on_disk > self.limits.bytes.saturating_add(self.limits.segment_bytes)
            || self.memory_bytes > self.limits.memory_bytes
    }

    fn front_timestamp(&self, shard: u16) -> Option<i64> {
        Some(self.pending.get(&shard)?.front()?.header.timestamp)
    }

    /// Keeps every other flush of what waits, the newest among them. Running totals lose resolution, not increments.
    fn thin(&mut self) {
        let flushes: BTreeSet<i64> = self
            .pending
            .values()
            .flatten()
            .map(|pending| pending.header.timestamp)
            .collect();
        let thinned: BTreeSet<i64> = flushes.into_iter().rev().skip(1).step_by(2).collect();
        let mut dropped = 0;
        for queue in self.pending.values_mut() {
            queue.retain(|pending| {
                let header = &pending.header;
                let keep = header.kind == Kind::Marks || !thinned.contains(&header.timestamp);
                if !keep {
                    dropped += u64::from(header.samples);
                    self.bytes -= header.record_len();
                    if let Body::Memory(_) = pending.body {
                        self.memory_bytes -= header.record_len();
                    }
                }
                keep
            });
        }
        *self.totals.dropped.entry(DropReason::Thinned).or_default() += dropped;
    }

    /// Gives the room of what no longer waits back to the disk. Where that fails it stays until its segment goes.
    fn compact(&mut self) {
        let Some(log) = &mut self.log else {
            return;
        };
        let mut segments: BTreeMap<u64, Vec<Found>> = BTreeMap::new();
        for pending in self.pending.values().flatten() {
            if let Body::Disk(place) = &pending.body {
                segments
                    .entry(place.segment)
                    .or_default()
                    .push(place.record);
            }
        }
        let mut moved: BTreeMap<u64, Found> = BTreeMap::new();
        for (segment, mut keep) in segments {
            keep.sort_unstable_by_key(|found| found.offset);
            match log.rewrite(segment, &keep) {
                Ok(found) => moved.extend(found.into_iter().map(|found| (found.header.seq, found))),
                Err(error) => {
                    self.totals.write_errors += 1;
                    tracing::warn!(%error, "remote write: the disk's room cannot be freed");
                }
            }
        }
        for pending in self.pending.values_mut().flatten() {
            if let Body::Disk(place) = &mut pending.body
                && let Some(found) = moved.get(&pending.header.seq)
            {
                place.record = *found;
            }
        }
    }

    /// Drops the oldest flush's first block; false if nothing waits.
    fn drop_oldest(&mut self) -> bool {
        let fronts = self
            .pending
            .iter()
            .filter_map(|(shard, queue)| Some((queue.front()?.header.seq, *shard)));
        match fronts.min() {
            Some((_, shard)) => {
                self.drop_front(shard, DropReason::Full);
                self.tidy();
                true
            }
            None => false,
        }
    }

    fn drop_front(&mut self, shard: u16, reason: DropReason) {
        let samples = self
            .pending
            .get(&shard)
            .and_then(VecDeque::front)
            .map(|p| p.header.samples);
        if let Some(samples) = samples {
            self.count(reason, samples);
            self.forget_front(shard);
        }
    }

    fn forget_front(&mut self, shard: u16) {
        let Some(pending) = self.pending.get_mut(&shard).and_then(VecDeque::pop_front) else {
            return;
        };
        let bytes = pending.header.record_len();
        self.bytes -= bytes;
        if let Body::Memory(_) = pending.body {
            self.memory_bytes -= bytes;
        }
        self.acknowledged.insert(shard, pending.header.seq);
        self.cursor_behind = true;
    }

    fn count(&mut self, reason: DropReason, samples: u32) {
        *self.totals.dropped.entry(reason).or_default() += u64::from(samples);
    }

    /// Removes segments that hold nothing that waits.
    fn tidy(&mut self) {
        let on_disk = self.pending.values().filter_map(|queue| {
            let first = queue
                .iter()
                .find(|pending| matches!(pending.body, Body::Disk(_)));
            first.map(|pending| pending.header.seq)
        });
        let oldest = on_disk.min();
        if let Some(log) = &mut self.log
            && let Err(error) = log.remove_before(oldest)
        {
            self.totals.write_errors += 1;
            tracing::warn!(%error, "remote write: a segment that was sent cannot be removed");
        }
    }
}
