//! Values of pods, added up.

use crate::phase::Phase;

/// The values of pods, summed, and the pods by what they count for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Sum of the values that count, in thousandths.
    pub sum: i128,
    /// Number of these values; those of pods that the controller does not know are in it.
    pub values: i64,
    /// Known pods whose values count.
    pub ready: i64,
    /// Pods that are Pending or not ready yet: their values do not count.
    pub unready: i64,
    /// Pods without a value.
    pub missing: i64,
    /// Pods that are being deleted or have failed.
    pub ignored: i64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Group {
    Ready,
    Unready,
    Missing,
    Ignored,
}

// === impl Tally ===

impl Tally {
    /// Adds a pod; `value` in thousandths, `None` if it has none.
    pub fn add(&mut self, phase: Phase, deleting: bool, value: Option<i128>) {
        let group = if deleting || phase == Phase::Failed {
            Group::Ignored
        } else if phase == Phase::Pending {
            Group::Unready
        } else if value.is_none() {
            Group::Missing
        } else {
            Group::Ready
        };
        self.count(group);
        if let (Group::Ready, Some(value)) = (group, value) {
            self.sum += value;
            self.values += 1;
        }
    }

    pub(crate) fn count(&mut self, group: Group) {
        match group {
            Group::Ready => self.ready += 1,
            Group::Unready => self.unready += 1,
            Group::Missing => self.missing += 1,
            Group::Ignored => self.ignored += 1,
        }
    }
}
