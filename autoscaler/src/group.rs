//! Which pods count: `groupPods` of the controller.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::hpa::Settings;
use crate::observed::{Observed, Pod};
use crate::phase::Phase;
use crate::tally::{Group, Tally};

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

    /// The `values` that count, and the pods by group.
    pub(crate) fn tally(&self, values: &BTreeMap<String, i128>) -> Tally {
        let mut tally = Tally::default();
        for group in self.by_name.values() {
            tally.count(*group);
        }
        for (name, value) in values {
            if self.counts(name) {
                tally.sum += value;
                tally.values += 1;
            }
        }
        tally
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
