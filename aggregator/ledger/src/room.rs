//! A room: subjects that together have a limit in bytes.
//!
//! What gives way first when it is full: details of reads around changes, the oldest first; then
//! records, the oldest first; what is younger than [`DETAILED`] last.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use hashbrown::HashTable;

use crate::limits::{DETAILED, SUBJECT_PART};
use crate::read::{Read, millis};
use crate::subject::{Key, Snapshot, Subject};

/// Bytes that the tables of a room take for one subject, when they are at their emptiest.
const TABLES_PER_SUBJECT: usize = 256;

#[derive(Debug)]
pub(crate) struct Room {
    subjects: Vec<Option<Box<Subject>>>,
    /// Empty places in `subjects`.
    free: Vec<usize>,
    /// Places in `subjects` by the hash of their keys.
    by_key: HashTable<usize>,
    hasher: RandomState,
    /// Times of the oldest block of details of each subject, with its place.
    details: BTreeSet<(u64, usize)>,
    /// Times of the oldest block of records of each subject, with its place.
    records: BTreeSet<(u64, usize)>,
    /// Place of the subject that is looked at next for what is too old.
    sweep: usize,
    bytes: usize,
    limit: usize,
    dropped: Dropped,
}

/// Reads that gave way, since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Dropped {
    /// Reads that lost their pods.
    pub(crate) details: u64,
    /// Reads that were forgotten.
    pub(crate) records: u64,
}

/// Where a subject stands in the order of what gives way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Standing {
    bytes: usize,
    details: Option<u64>,
    records: Option<u64>,
}

// === impl Room ===

impl Room {
    /// A room for `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            subjects: Vec::new(),
            free: Vec::new(),
            by_key: HashTable::new(),
            hasher: RandomState::new(),
            details: BTreeSet::new(),
            records: BTreeSet::new(),
            sweep: 0,
            bytes: 0,
            limit,
            dropped: Dropped::default(),
        }
    }

    /// Adds a read, and makes room for it.
    pub(crate) fn add(&mut self, read: &Read<'_>) {
        let now = read.at.0;
        let place = self.place_of(read);
        let share = self.limit / SUBJECT_PART;
        self.change(place, |subject, dropped| {
            subject.add(read);
            subject.expire(now);
            while subject.heap() > share {
                let details = subject.drop_details();
                dropped.details += u64::from(details);
                if details == 0 {
                    let records = subject.drop_records();
                    dropped.records += u64::from(records);
                    if records == 0 {
                        break;
                    }
                }
            }
        });
        self.sweep_one(now);
        self.make_room(now);
    }

    /// Copies of what queries need of the subjects in `places` that `is_wanted`; `None` if there
    /// are no such places.
    pub(crate) fn snapshot(
        &self,
        places: Range<usize>,
        is_wanted: impl Fn(&Key) -> bool,
        from: u64,
        to: u64,
    ) -> Option<Vec<Snapshot>> {
        let end = places.end.min(self.subjects.len());
        let subjects = self.subjects.get(places.start..end)?;
        let wanted = subjects.iter().flatten();
        let wanted = wanted.filter(|subject| is_wanted(&subject.key));
        let snapshots = wanted.map(|subject| subject.snapshot(from, to));
        let known = |snapshot: &Snapshot| !snapshot.records.is_empty();
        (places.start < end).then(|| snapshots.filter(known).collect())
    }

    /// Time of the oldest read.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let subjects = self.subjects.iter().flatten();
        subjects.filter_map(|subject| subject.oldest()).min()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn subjects(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// The place of the subject of `read`, which is new if there is none.
    fn place_of(&mut self, read: &Read<'_>) -> usize {
        let Self {
            subjects,
            free,
            by_key,
            hasher,
            ..
        } = self;
        let hash = hasher.hash_one(Key::texts(read));
        let is_it = |place: &usize| {
            let subject = subjects.get(*place).and_then(Option::as_ref);
            subject.is_some_and(|subject| subject.key.is_of(read))
        };
        if let Some(place) = by_key.find(hash, is_it) {
            return *place;
        }
        let subject = Box::new(Subject::new(Key::of(read)));
        self.bytes += subject.heap() + TABLES_PER_SUBJECT;
        let place = free.pop().unwrap_or(subjects.len());
        match subjects.get_mut(place) {
            Some(empty) => *empty = Some(subject),
            None => subjects.push(Some(subject)),
        }
        by_key.insert_unique(hash, place, |place| {
            let subject = subjects.get(*place).and_then(Option::as_ref);
            subject.map_or(0, |subject| hasher.hash_one(subject.key.as_texts()))
        });
        place
    }

    /// Changes a subject; removes it if nothing is left of it.
    fn change(&mut self, place: usize, change: impl FnOnce(&mut Subject, &mut Dropped)) {
        let Some(subject) = self.subjects.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        let before = Standing::of(subject);
        change(subject, &mut self.dropped);
        let after = Standing::of(subject);
        self.bytes = self.bytes + after.bytes - before.bytes;
        for (times, before, after) in [
            (&mut self.details, before.details, after.details),
            (&mut self.records, before.records, after.records),
        ] {
            if before != after {
                if let Some(at) = before {
                    times.remove(&(at, place));
                }
                times.extend(after.map(|at| (at, place)));
            }
        }
        if after.records.is_none() {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: usize) {
        let Some(subject) = self.subjects.get_mut(place).and_then(Option::take) else {
            return;
        };
        let standing = Standing::of(&subject);
        if let Some(at) = standing.details {
            self.details.remove(&(at, place));
        }
        self.bytes -= standing.bytes + TABLES_PER_SUBJECT;
        let hash = self.hasher.hash_one(subject.key.as_texts());
        if let Ok(entry) = self.by_key.find_entry(hash, |found| *found == place) {
            entry.remove();
        }
        self.free.push(place);
    }

    /// Looks at one more subject, so that those that nobody reads any more are forgotten, too.
    fn sweep_one(&mut self, now: u64) {
        self.sweep = (self.sweep + 1) % self.subjects.len().max(1);
        self.change(self.sweep, |subject, _| subject.expire(now));
    }

    fn make_room(&mut self, now: u64) {
        let recent = now.saturating_sub(u64::from(millis(DETAILED)));
        while self.bytes > self.limit {
            let details = self.details.first().copied();
            let records = self.records.first().copied();
            let is_old = |(at, _): &(u64, usize)| *at < recent;
            let details_first = match (details, records) {
                (Some(details), _) if is_old(&details) => true,
                (_, Some(records)) if is_old(&records) => false,
                (details, _) => details.is_some(),
            };
            let first = if details_first { details } else { records };
            let Some((_, place)) = first else {
                return;
            };
            self.change(place, |subject, dropped| {
                if details_first {
                    dropped.details += u64::from(subject.drop_details());
                } else {
                    dropped.records += u64::from(subject.drop_records());
                }
            });
        }
    }
}

// === impl Standing ===

impl Standing {
    fn of(subject: &Subject) -> Self {
        Self {
            bytes: subject.heap(),
            details: subject.oldest_details(),
            records: subject.oldest_records(),
        }
    }
}
