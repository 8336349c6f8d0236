//! Open HTTP streams of a VM, with their root and series.
//!
//! A fixed-size hash table with open addressing. Envoy numbers contexts sequentially, so the number
//! is the hash, and streams close in time are close in memory. The table is allocated for the first
//! stream: most VMs (the main thread's, those of access loggers) never get one.

use crate::counter::SeriesIndex;
use crate::host::{ContextId, RootId};

/// Tracked requests of a VM at most: 192 KiB of memory.
pub const OPEN_MAX: usize = 8192;
/// Half of the slots stay free, which keeps probe sequences short.
const SLOTS: usize = OPEN_MAX * 2;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OpenRequest {
    pub root: RootId,
    /// The series it is in flight in; `None` before its request headers.
    pub series: Option<SeriesIndex>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    context: u32,
    root: u32,
    series: Option<SeriesIndex>,
}

#[derive(Debug, Default)]
pub struct OpenRequests {
    /// Empty before the first stream. Context 0 marks a free slot; Envoy's numbers start at 1.
    slots: Vec<Slot>,
    open: usize,
}

const FREE: Slot = Slot {
    context: 0,
    root: 0,
    series: None,
};

// === impl OpenRequests ===

impl OpenRequests {
    pub fn len(&self) -> usize {
        self.open
    }

    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Adds a stream; false if the table is full. A stream that is in the table stays unchanged.
    #[inline]
    pub fn insert(&mut self, context: ContextId, root: RootId) -> bool {
        if context.0 == 0 || self.open >= OPEN_MAX {
            return false;
        }
        if self.slots.is_empty() {
            self.slots = vec![FREE; SLOTS];
        }
        let Some(slot) = self
            .find(context)
            .and_then(|position| self.slots.get_mut(position))
        else {
            return false;
        };
        if slot.context == 0 {
            *slot = Slot {
                context: context.0,
                root: root.0,
                series: None,
            };
            self.open = self.open.saturating_add(1);
        }
        true
    }

    #[inline]
    pub fn get(&self, context: ContextId) -> Option<OpenRequest> {
        let slot = self.slots.get(self.find(context)?)?;
        slot.known(context)
    }

    /// Sets the series of a stream; false if it is not in the table.
    #[inline]
    pub fn enter(&mut self, context: ContextId, series: SeriesIndex) -> bool {
        let slot = self
            .find(context)
            .and_then(|position| self.slots.get_mut(position))
            .filter(|slot| slot.known(context).is_some());
        if let Some(slot) = slot {
            slot.series = Some(series);
            return true;
        }
        false
    }

    #[inline]
    pub fn remove(&mut self, context: ContextId) -> Option<OpenRequest> {
        let mut hole = self.find(context)?;
        let removed = self.slots.get(hole)?.known(context)?;
        self.open = self.open.saturating_sub(1);
        // Closes the gap (backward shift deletion): a later entry of the probe sequence moves into
        // it, or searches would stop at the gap.
        let mut probe = hole;
        for _ in 0..SLOTS {
            probe = next(probe);
            let Some(slot) = self.slots.get(probe).copied() else {
                break;
            };
            if slot.context == 0 {
                break;
            }
            let displaced = distance(home(slot.context), probe);
            if displaced >= distance(hole, probe) {
                if let Some(target) = self.slots.get_mut(hole) {
                    *target = slot;
                }
                hole = probe;
            }
        }
        if let Some(slot) = self.slots.get_mut(hole) {
            *slot = FREE;
        }
        Some(removed)
    }

    /// The slot of the stream, or the free one for it.
    #[inline]
    fn find(&self, context: ContextId) -> Option<usize> {
        let mut position = home(context.0);
        for _ in 0..SLOTS {
            let slot = self.slots.get(position)?;
            if slot.context == context.0 || slot.context == 0 {
                return Some(position);
            }
            position = next(position);
        }
        None
    }
}

// === impl Slot ===

impl Slot {
    fn known(&self, context: ContextId) -> Option<OpenRequest> {
        (self.context == context.0 && context.0 != 0).then_some(OpenRequest {
            root: RootId(self.root),
            series: self.series,
        })
    }
}

fn home(context: u32) -> usize {
    context as usize % SLOTS
}

fn next(position: usize) -> usize {
    position.wrapping_add(1) % SLOTS
}

/// Steps from `from` to `to` around the table.
fn distance(from: usize, to: usize) -> usize {
    to.wrapping_sub(from) % SLOTS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32),
        Enter(u32),
        Remove(u32),
    }

    /// Contexts that often share a home slot.
    fn context() -> impl Strategy<Value = u32> {
        (0_u32..6, 0_u32..4).prop_map(|(low, high)| {
            // The last slots too, so that searches wrap.
            let slots = u32::try_from(SLOTS).unwrap();
            low + slots - 3 + high * slots
        })
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            context().prop_map(Step::Insert),
            context().prop_map(Step::Enter),
            context().prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// The table holds what a map holds, whatever collides and wraps.
        #[test]
        fn behaves_as_a_map(steps in proptest::collection::vec(step(), 0..200)) {
            let mut table = OpenRequests::default();
            let mut model: BTreeMap<u32, OpenRequest> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(context) => {
                        let root = RootId(context % 3);
                        prop_assert!(table.insert(ContextId(context), root));
                        model.entry(context).or_insert(OpenRequest { root, series: None });
                    }
                    Step::Enter(context) => {
                        let series = SeriesIndex(u16::try_from(context % 7).unwrap());
                        let known = table.enter(ContextId(context), series);
                        prop_assert_eq!(known, model.contains_key(&context));
                        if let Some(open) = model.get_mut(&context) {
                            open.series = Some(series);
                        }
                    }
                    Step::Remove(context) => {
                        prop_assert_eq!(table.remove(ContextId(context)), model.remove(&context));
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                for (context, open) in &model {
                    prop_assert_eq!(table.get(ContextId(*context)), Some(*open));
                }
            }
        }
    }

    /// A full table rejects streams, keeps its entries, and accepts streams again once it has room.
    #[test]
    fn a_full_table_refuses() {
        let mut table = OpenRequests::default();
        let limit = u32::try_from(OPEN_MAX).unwrap();
        for context in 1..=limit {
            assert!(table.insert(ContextId(context), RootId(1)));
        }
        assert!(!table.insert(ContextId(limit + 1), RootId(1)));
        assert_eq!(table.get(ContextId(limit + 1)), None);
        assert!(table.remove(ContextId(7)).is_some());
        assert!(table.insert(ContextId(limit + 1), RootId(1)));
        assert_eq!(table.len(), OPEN_MAX);
    }
}
