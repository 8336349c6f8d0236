//! What lists for people show beyond a value: the last two minutes of a pod, its state, and the
//! build of the filter that counts.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::pod::PodKey;
use crate::query::{MetricQuery, Milli};
use crate::status::PodState;
use crate::store::pod_record::PodRecord;
use crate::store::{Store, reading};
use common_time::Monotonic;

/// Builds of the filter that are told apart: a roll-out has two or three.
const BUILDS_MAX: usize = 64;

/// Bytes of a build.
const BUILD_BYTES_MAX: usize = 64;

/// What stands for builds beyond [`BUILDS_MAX`].
const OTHER: &str = "other";

/// State and filter of a pod that reported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodBrief {
    pub state: PodState,
    /// Build of the filter, as its newest hello says; "" if it says none.
    pub build: Arc<str>,
}

/// Builds of which pods have one, so that each is in memory once.
#[derive(Debug, Default)]
pub(super) struct KnownBuilds(Mutex<Vec<Arc<str>>>);

// === impl Store ===

impl Store {
    /// State and filter of a pod; `None` if none of its sidecars reported.
    pub fn brief(&self, now: Monotonic, pod: &PodKey) -> Option<PodBrief> {
        let pod = self.pods.get(pod)?;
        Some(PodBrief {
            state: pod.state(now),
            build: Arc::clone(&pod.build),
        })
    }

    /// Notes which build of the filter reports for a connected pod.
    pub fn note_build(&self, pod: &PodKey, build: &str) {
        let build = self.builds.share(build);
        if let Some(mut pod) = self.pods.get_mut(pod) {
            pod.build = build;
        }
    }

    /// Values of `query`'s metric in `count` adjoining windows of `length`, the last of which ends
    /// at `end`, the oldest first. `None` where reports do not cover a window, and for windows that
    /// began more than two minutes before the newest report. The query's own window is not used.
    pub fn history(
        &self,
        pod: &PodKey,
        query: &MetricQuery,
        end: Monotonic,
        length: Duration,
        count: u32,
    ) -> Vec<Option<Milli>> {
        match self.pods.get(pod) {
            Some(pod) => reading::read_adjoining(&pod, end, length, count, query),
            None => vec![None; count as usize],
        }
    }
}

// === impl PodRecord ===

impl PodRecord {
    /// [`PodRecord::until`] also of a pod that is gone.
    pub(super) fn reported_until(&self) -> Option<Monotonic> {
        let times = self.current().filter_map(|instance| instance.times);
        times.map(|times| times.until).min()
    }
}

// === impl KnownBuilds ===

impl KnownBuilds {
    fn share(&self, build: &str) -> Arc<str> {
        let build: String = build.chars().take(BUILD_BYTES_MAX / 4).collect();
        let mut known = self.0.lock();
        if let Some(known) = known.iter().find(|known| ***known == *build) {
            return Arc::clone(known);
        }
        if known.len() >= BUILDS_MAX {
            // Those that no pod has any more make room.
            known.retain(|build| Arc::strong_count(build) > 1);
        }
        let build: Arc<str> = if known.len() < BUILDS_MAX {
            build.into()
        } else {
            OTHER.into()
        };
        if known.len() < BUILDS_MAX {
            known.push(Arc::clone(&build));
        }
        build
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many builds there are, few are kept; those that are not used make room.
    #[test]
    fn builds_are_bounded() {
        let builds = KnownBuilds::default();
        let used: Vec<_> = (0..BUILDS_MAX)
            .map(|n| builds.share(&n.to_string()))
            .collect();
        assert_eq!(&*builds.share("more"), OTHER);
        assert!(Arc::ptr_eq(&used[3], &builds.share("3")));
        drop(used);
        assert_eq!(&*builds.share("more"), "more");
        assert_eq!(builds.share(&"x".repeat(1000)).len(), BUILD_BYTES_MAX / 4);
    }
}
