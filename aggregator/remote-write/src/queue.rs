//! The queue of batches to send: first in, first out per shard, bounded in bytes and age, on disk
//! or in memory.
//!
//! ```text
//! push (one flush, one fsync) -> pending of each shard -> front -> acknowledge
//!                                    └ over the limit: drop every other flush, then the oldest
//! ```
//!
//! Invariant, in samples: recovered + pushed = acknowledged + dropped (by reason) + pending.
//!
//! Every method may block on the disk.

mod cursor;
mod limits;
mod log;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;

use crate::batch::{Batch, Kind};
pub use limits::{
    AMP_AGE_MAX, DISK_BYTES, DropReason, Limits, MEMORY_BYTES, SEGMENT_BYTES, Totals, Waiting,
};

use crate::queue::cursor::Cursor;
use crate::queue::log::{Log, RecordPosition};
use crate::queue::record::Header;
use common_segments::{Header as _, ScanResult};

#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    log: Option<Log>,
    next_seq: u64,
    /// By shard, in ascending order of sequence numbers.
    pending: BTreeMap<u16, VecDeque<Pending>>,
    cursor: Cursor,
    /// True if the cursor on disk is older than `cursor`.
    cursor_behind: bool,
    bytes: u64,
    memory_bytes: u64,
    totals: Totals,
}

#[derive(Clone, Debug)]
struct Pending {
    header: Header,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Disk(RecordPosition),
    Memory(Batch),
}

// === impl Queue ===

impl Queue {
    /// A queue that is lost with the process.
    pub fn in_memory(limits: Limits) -> Self {
        Self {
            limits: Limits {
                memory_bytes: limits.bytes,
                ..limits
            },
            log: None,
            next_seq: 1,
            pending: BTreeMap::new(),
            cursor: Cursor::default(),
            cursor_behind: false,
            bytes: 0,
            memory_bytes: 0,
            totals: Totals::default(),
        }
    }

    /// Opens or creates the queue in `folder` and recovers its batches. Damage is never an error.
    pub fn open(folder: &Path, limits: Limits) -> io::Result<Self> {
        let (log, opened) = Log::open(folder, limits.segment_bytes)?;
        let mut queue = Self {
            limits,
            ..Self::in_memory(limits)
        };
        queue.totals.damaged_bytes = opened.damaged;
        // Above every number ever used: a reused one would count as acknowledged by the cursor.
        let acknowledged = opened.cursor.acknowledged.values().max().copied();
        queue.next_seq = (acknowledged.unwrap_or(0) + 1).max(opened.next_segment);
        queue.cursor = opened.cursor;
        for position in opened.positions {
            let header = position.record.header;
            queue.next_seq = queue.next_seq.max(header.seq + 1);
            queue.cursor.flush = queue.cursor.flush.max(Some(header.timestamp));
            let sent = queue.cursor.acknowledged.get(&header.shard);
            if header.seq > sent.copied().unwrap_or(0) {
                queue.totals.recovered += u64::from(header.samples);
                queue.enqueue(header, Body::Disk(position));
            }
        }
        queue.log = Some(log);
        Ok(queue)
    }

    /// Adds the batches of one flush, durable when this returns. If the disk fails they are held in
    /// memory, within its limit. `now` is Unix time in milliseconds.
    pub fn push(&mut self, now: i64, batches: Vec<Batch>) {
        let mut numbered = Vec::with_capacity(batches.len());
        for batch in batches {
            self.totals.pushed += u64::from(batch.samples);
            match Header::new(self.next_seq, &batch) {
                Some(header) => {
                    self.next_seq += 1;
                    numbered.push((header, batch));
                }
                None => self.count(DropReason::TooLarge, batch.samples),
            }
        }
        let Some((first, _)) = numbered.first() else {
            return;
        };
        let first = first.seq;
        let newest = numbered.iter().map(|(header, _)| header.timestamp).max();
        self.cursor.flush = self.cursor.flush.max(newest);
        self.cursor_behind = true;
        let borrowed: Vec<_> = numbered
            .iter()
            .map(|(header, batch)| (*header, batch))
            .collect();
        let positions = self.log.as_mut().map(|log| log.append(first, &borrowed));
        match positions {
            Some(Ok(positions)) => {
                for ((header, _), position) in numbered.into_iter().zip(positions) {
                    self.enqueue(header, Body::Disk(position));
                }
            }
            written => {
                if let Some(Err(error)) = written {
                    self.totals.write_errors += 1;
                    tracing::warn!(%error, "remote write: cannot write the queue to disk; holding it in memory");
                }
                for (header, batch) in numbered {
                    self.memory_bytes += header.record_len();
                    self.enqueue(header, Body::Memory(batch));
                }
            }
        }
        self.enforce(now);
    }

    /// The next batch of `shard` to send and its number. An unreadable one is dropped and counted.
    pub fn front(&mut self, shard: u16) -> Option<(u64, Batch)> {
        loop {
            let pending = self.pending.get(&shard)?.front()?.clone();
            let read = match (&pending.body, &self.log) {
                (Body::Memory(batch), _) => Ok(Some(batch.clone())),
                (Body::Disk(position), Some(log)) => log.read(position),
                (Body::Disk(_), None) => Ok(None),
            };
            match read {
                Ok(Some(batch)) => return Some((pending.header.seq, batch)),
                Ok(None) => tracing::warn!(
                    seq = pending.header.seq,
                    "remote write: a queued batch is damaged; dropping it"
                ),
                Err(error) => {
                    tracing::warn!(%error, seq = pending.header.seq, "remote write: cannot read a queued batch; dropping it");
                }
            }
            self.drop_front(shard, DropReason::Corrupt);
        }
    }

    /// True if number `seq` is the next of `shard` to send: it may be dropped while it is sent.
    pub fn is_front(&self, shard: u16, seq: u64) -> bool {
        let front = self.pending.get(&shard).and_then(VecDeque::front);
        front.is_some_and(|pending| pending.header.seq == seq)
    }

    /// The number of the next batch of `shard` to send.
    pub fn front_seq(&self, shard: u16) -> Option<u64> {
        Some(self.pending.get(&shard)?.front()?.header.seq)
    }

    /// Removes the batches of `shard` up to number `seq`: the receiver stored or rejected them.
    pub fn acknowledge(&mut self, shard: u16, seq: u64) {
        while let Some(front) = self.pending.get(&shard).and_then(VecDeque::front) {
            if front.header.seq > seq {
                break;
            }
            self.totals.acknowledged += u64::from(front.header.samples);
            self.forget_front(shard);
        }
        self.remove_sent_segments();
    }

    /// Drops batches beyond the limits of age and bytes. `now` is Unix time in milliseconds.
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
        // The cheapest loss first: sent batches, then resolution, then the oldest samples.
        if self.is_full() {
            self.compact();
        }
        if self.is_full() {
            self.thin();
            self.compact();
        }
        while self.is_full() && self.drop_oldest() {}
        self.remove_sent_segments();
    }

    /// Saves what was acknowledged, so that it is not sent again after a restart. A crash before
    /// that is harmless: receivers store a sample sent twice once.
    pub fn save_cursor(&mut self) -> io::Result<()> {
        if let Some(log) = &self.log
            && self.cursor_behind
        {
            log.save_cursor(&self.cursor)?;
            self.cursor_behind = false;
        }
        Ok(())
    }

    /// Timestamp of the newest flush, also of one before a restart; `None` without one.
    pub fn last_flush(&self) -> Option<i64> {
        self.cursor.flush
    }

    pub fn is_on_disk(&self) -> bool {
        self.log.is_some()
    }

    /// Saves the checkpoint of the next flush atomically. Does nothing for a queue in memory.
    pub fn save_state(&self, state: &[u8]) -> io::Result<()> {
        match &self.log {
            Some(log) => log.save_state(state),
            None => Ok(()),
        }
    }

    /// The last state saved by [`Queue::save_state`].
    pub fn state(&self) -> io::Result<Option<Vec<u8>>> {
        match &self.log {
            Some(log) => log.state(),
            None => Ok(None),
        }
    }

    /// Saves the list of series written atomically. Does nothing for a queue in memory.
    pub fn save_written(&self, written: &[u8]) -> io::Result<()> {
        match &self.log {
            Some(log) => log.save_written(written),
            None => Ok(()),
        }
    }

    /// The last list saved by [`Queue::save_written`].
    pub fn written(&self) -> io::Result<Option<Vec<u8>>> {
        match &self.log {
            Some(log) => log.written(),
            None => Ok(None),
        }
    }

    /// Drops all pending batches: another replica writes.
    pub fn discard_pending(&mut self) {
        for shard in self.shards() {
            while self.front_timestamp(shard).is_some() {
                self.drop_front(shard, DropReason::OtherWriter);
            }
        }
        self.remove_sent_segments();
    }

    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    pub fn waiting(&self) -> Waiting {
        let all = || self.pending.values().flatten();
        Waiting {
            samples: all().map(|pending| u64::from(pending.header.samples)).sum(),
            batches: all().count(),
            bytes: self.bytes,
            oldest: all().map(|pending| pending.header.timestamp).min(),
            first: all()
                .min_by_key(|pending| pending.header.seq)
                .map(|pending| pending.header.timestamp),
        }
    }

    /// Shards with pending batches, including shards of an earlier number of shards.
    pub fn shards(&self) -> Vec<u16> {
        let waiting = self.pending.iter().filter(|(_, queue)| !queue.is_empty());
        waiting.map(|(shard, _)| *shard).collect()
    }

    fn enqueue(&mut self, header: Header, body: Body) {
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

    /// Keeps every other pending flush, the newest included. Running totals lose resolution, not
    /// increments.
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

    /// Rewrites segments without their sent batches. Where that fails, they stay until the segment
    /// is removed.
    fn compact(&mut self) {
        let Some(log) = &mut self.log else {
            return;
        };
        // Segments without pending batches are rewritten, too: they are removed only once they are
        // the oldest.
        let segments = log.segments().map(|segment| (segment, Vec::new()));
        let mut segments: BTreeMap<u64, Vec<ScanResult<Header>>> = segments.collect();
        for pending in self.pending.values().flatten() {
            if let Body::Disk(position) = &pending.body {
                segments
                    .entry(position.segment)
                    .or_default()
                    .push(position.record);
            }
        }
        let mut moved: BTreeMap<u64, ScanResult<Header>> = BTreeMap::new();
        for (segment, mut keep) in segments {
            keep.sort_unstable_by_key(|found| found.offset);
            match log.rewrite(segment, &keep) {
                Ok(found) => moved.extend(found.into_iter().map(|found| (found.header.seq, found))),
                Err(error) => {
                    self.totals.write_errors += 1;
                    tracing::warn!(%error, "remote write: cannot free disk space");
                }
            }
        }
        for pending in self.pending.values_mut().flatten() {
            if let Body::Disk(position) = &mut pending.body
                && let Some(found) = moved.get(&pending.header.seq)
            {
                position.record = *found;
            }
        }
    }

    /// Drops the first batch of the oldest flush; false if the queue is empty.
    fn drop_oldest(&mut self) -> bool {
        let fronts = self
            .pending
            .iter()
            .filter_map(|(shard, queue)| Some((queue.front()?.header.seq, *shard)));
        match fronts.min() {
            Some((_, shard)) => {
                self.drop_front(shard, DropReason::Full);
                self.remove_sent_segments();
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
        self.cursor.acknowledged.insert(shard, pending.header.seq);
        self.cursor_behind = true;
    }

    fn count(&mut self, reason: DropReason, samples: u32) {
        *self.totals.dropped.entry(reason).or_default() += u64::from(samples);
    }

    /// Removes the oldest segments up to the first with a pending batch.
    fn remove_sent_segments(&mut self) {
        let on_disk = self.pending.values().filter_map(|queue| {
            let first = queue
                .iter()
                .find(|pending| matches!(pending.body, Body::Disk(_)));
            first.map(|pending| pending.header.seq)
        });
        let oldest = on_disk.min();
        // Without batches only the cursor has the time of the last flush: it must be saved first.
        if oldest.is_none()
            && let Err(error) = self.save_cursor()
        {
            self.totals.write_errors += 1;
            tracing::warn!(%error, "remote write: cannot save the cursor");
            return;
        }
        if let Some(log) = &mut self.log
            && let Err(error) = log.remove_before(oldest)
        {
            self.totals.write_errors += 1;
            tracing::warn!(%error, "remote write: cannot remove a sent segment");
        }
    }
}
