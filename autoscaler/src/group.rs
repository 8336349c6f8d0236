//! Which pods count: `groupPods` of the controller.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::hpa::Settings;
use crate::observed::{Observed, Phase, Pod};

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

    pub(crate) fn of(groups: &Groups<'_>, values: &BTreeMap<String, i128>) -> Self {
        let mut tally = Self::default();
        for group in groups.by_name.values() {
            tally.count(*group);
        }
        for (name, value) in values {
            if groups.counts(name) {
                tally.sum += value;
                tally.values += 1;
            }
        }
        tally
    }

    fn count(&mut self, group: Group) {
        match group {
            Group::Ready => self.ready += 1,
            Group::Unready => self.unready += 1,
            Group::Missing => self.missing += 1,
            Group::Ignored => self.ignored += 1,
        }
    }
}

/// The group of each pod.
pub(crate) struct Groups<'a> {
    pub(crate) by_name: BTreeMap<&'a str, Group>,
}

// === impl Groups ===

impl<'a> Groups<'a> {
    /// Groups the pods for a metric with values of the pods `valued`; `cpu`: of the resource `cpu`.
    pub(crate) fn new(
        observed: &Observed<'a>,
        valued: &BTreeSet<&str>,
        cpu: Option<&Settings>,
    ) -> Self {
        let group = |pod: &'a Pod| {
            let group = if pod.deleting || pod.phase == Phase::Failed {
                Group::Ignored
            } else if pod.phase == Phase::Pending {
                Group::Unready
            } else if !valued.contains(pod.name.as_str()) {
                Group::Missing
            } else if cpu.is_some_and(|settings| starts_up(pod, observed.now, settings)) {
                Group::Unready
            } else {
                Group::Ready
            };
            (pod.name.as_str(), group)
        };
        Self {
            by_name: observed.pods.iter().map(group).collect(),
        }
    }

    /// Whether the value of `name` counts. Those of unknown pods do.
    pub(crate) fn counts(&self, name: &str) -> bool {
        matches!(self.by_name.get(name), None | Some(Group::Ready))
    }

    pub(crate) fn names(&self, group: Group) -> impl Iterator<Item = &'a str> {
        let of = self.by_name.iter().filter(move |(_, own)| **own == group);
        of.map(|(name, _)| *name)
    }
}

/// Whether the CPU time of `pod` is that of its start.
fn starts_up(pod: &Pod, now: Duration, settings: &Settings) -> bool {
    let Some(startup) = &pod.startup else {
        return false;
    };
    let (Some(started), Some(changed)) = (startup.started, startup.ready_changed) else {
        return true;
    };
    if started + settings.cpu_initialization > now {
        !pod.ready || startup.sampled < changed + startup.window
    } else {
        // Not ready, and never was.
        !pod.ready && started + settings.initial_readiness_delay > changed
    }
}
