//! The ledger as others see it.

use std::fmt;
use std::sync::Arc;

use aggregator_view::documents::Change;
use common_time::UnixMillis;
use parking_lot::{Mutex, MutexGuard};

use crate::changes::Changes;
use crate::entry::{self, Entry, EntryError};
use crate::limits::{AUTOSCALERS_SIXTEENTHS, CHANGES_SIXTEENTHS, OTHERS_SIXTEENTHS};
use crate::query::{Query, Reads};
use crate::read::Read;
use crate::room::Room;

/// Subjects whose blocks a query copies before it lets others at the room: some 100 blocks each of
/// a day, 10 ns a block.
const SUBJECTS_LOCKED: usize = 16;

/// Reads of metrics and changes of HPAs. Writers and readers share it by reference.
#[derive(Debug)]
pub struct Ledger {
    /// Reads of autoscalers. Locked to add one or to copy blocks, as `others` and `changes` are.
    autoscalers: Mutex<Room>,
    /// Reads of people and other tools, which so cannot push out those of autoscalers.
    others: Mutex<Room>,
    changes: Mutex<Changes>,
    limit: usize,
    journal: Option<Arc<dyn Journal>>,
}

/// Writes what the ledger is given to where it outlives the process.
pub trait Journal: fmt::Debug + Send + Sync {
    /// Takes a read or a change, as bytes for [`Ledger::restore`]. Called for each read, so it
    /// never waits.
    fn write(&self, entry: Vec<u8>);
}

common_names::named! {
    /// What gave way because the ledger was full.
    pub enum DropReason {
        /// Reads that lost their pods.
        Details = "details",
        /// Reads of autoscalers that were forgotten before a day was over.
        Autoscalers = "autoscalers",
        /// Reads of people and other tools that were forgotten before a day was over.
        Others = "others",
        /// Changes of an HPA's status that were forgotten before a day was over.
        Changes = "changes",
    }
}

/// What the ledger holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// Bytes on the heap.
    pub bytes: usize,
    /// Their limit.
    pub bytes_max: usize,
    /// Distinct readers with what they read.
    pub subjects: usize,
}

// === impl Ledger ===

impl Ledger {
    /// An empty ledger for at most `limit` bytes on the heap; see
    /// [`bytes_for`](crate::limits::bytes_for).
    pub fn new(limit: usize) -> Self {
        let part = |sixteenths| limit / 16 * sixteenths;
        Self {
            autoscalers: Mutex::new(Room::new(part(AUTOSCALERS_SIXTEENTHS))),
            others: Mutex::new(Room::new(part(OTHERS_SIXTEENTHS))),
            changes: Mutex::new(Changes::new(part(CHANGES_SIXTEENTHS))),
            limit,
            journal: None,
        }
    }

    /// Gives all that is recorded from now on to `journal` as well.
    #[must_use]
    pub fn with_journal(self, journal: Arc<dyn Journal>) -> Self {
        Self {
            journal: Some(journal),
            ..self
        }
    }

    /// Adds a read. The reads of a subject come in the order of time; a clock that is set back only
    /// makes them stay longer.
    pub fn record(&self, read: &Read<'_>) {
        self.add(read);
        if let Some(journal) = &self.journal {
            journal.write(entry::of_read(read));
        }
    }

    fn add(&self, read: &Read<'_>) {
        let room = if read.reader.is_autoscaler() {
            &self.autoscalers
        } else {
            &self.others
        };
        room.lock().add(read);
    }

    /// Adds a change of the status of an HPA in `namespace`. One that changes nothing is left out.
    pub fn changed(&self, namespace: &str, change: Change) {
        let written = self.journal.as_ref().map(|journal| {
            let entry = entry::of_change(namespace, &change);
            (journal, entry)
        });
        let is_new = self.changes.lock().add(namespace, change);
        if let Some((journal, entry)) = written.filter(|_| is_new) {
            journal.write(entry);
        }
    }

    /// Adds what a [`Journal`] was given earlier. What it holds of too long ago is soon forgotten.
    pub fn restore(&self, entry: &[u8]) -> Result<(), EntryError> {
        match entry::parse(entry, |read| self.add(read))? {
            Entry::Read(()) => {}
            Entry::Change { namespace, change } => {
                self.changes.lock().add(&namespace, change);
            }
        }
        Ok(())
    }

    /// The reads that `query` asks for, the oldest first.
    pub fn reads(&self, query: &Query<'_>) -> Reads {
        let Query { from, to, .. } = *query;
        let mut snapshots = Vec::new();
        for room in [&self.autoscalers, &self.others] {
            for first in (0..).step_by(SUBJECTS_LOCKED) {
                let locked = room.lock();
                let places = first..first + SUBJECTS_LOCKED;
                let found = locked.snapshot(places, |key| query.wants(key), from, to);
                // Reads that wait to be recorded come first.
                MutexGuard::unlock_fair(locked);
                match found {
                    Some(found) => snapshots.extend(found),
                    None => break,
                }
            }
        }
        Reads::new(snapshots, from, to)
    }

    /// The changes that `query` asks for, the oldest first.
    pub fn changes(&self, query: &Query<'_>) -> Vec<Change> {
        let Query {
            namespace,
            hpa,
            from,
            to,
        } = *query;
        self.changes.lock().between(namespace, hpa, from, to)
    }

    /// Time of the oldest read of an autoscaler: before it, the ledger knows nothing. `None`
    /// without one.
    pub fn oldest(&self) -> Option<UnixMillis> {
        self.autoscalers.lock().oldest().map(UnixMillis)
    }

    pub fn sizes(&self) -> Sizes {
        let (autoscalers, others) = (self.autoscalers.lock(), self.others.lock());
        Sizes {
            bytes: autoscalers.bytes() + others.bytes() + self.changes.lock().bytes(),
            bytes_max: self.limit,
            subjects: autoscalers.subjects() + others.subjects(),
        }
    }

    /// What gave way since the start, by reason.
    pub fn dropped(&self) -> [(DropReason, u64); DropReason::ALL.len()] {
        let autoscalers = self.autoscalers.lock().dropped();
        let others = self.others.lock().dropped();
        let changes = self.changes.lock().dropped();
        DropReason::ALL.map(|reason| {
            let count = match reason {
                DropReason::Details => autoscalers.details + others.details,
                DropReason::Autoscalers => autoscalers.records,
                DropReason::Others => others.records,
                DropReason::Changes => changes,
            };
            (reason, count)
        })
    }
}
