//! From which value on an HPA would go to another number of replicas.

use crate::hpa::Hpa;
use crate::metric::{Metric, Target};
use crate::tally::Tally;

/// Where the next change lies, for one metric alone and as long as its pods are as they are. What
/// stabilisation and policies make of it is not in it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Thresholds {
    /// From this value on it scales up; `None`: not at all, as by `maxReplicas`.
    pub up: Option<Threshold>,
    /// At this value and below it scales down; `None`: not at all, as by `minReplicas`.
    pub down: Option<Threshold>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Threshold {
    /// In thousandths: per pod, or in all for a target in all.
    pub value_milli: i128,
    /// Replicas that it goes to at this value.
    pub replicas: u32,
}

/// Values beyond it, in thousandths, are not looked at: 64 bits, as Kubernetes has them.
const VALUE_MAX: i128 = i64::MAX as i128;

// === impl Hpa ===

impl Hpa {
    /// Where `metric` would change `replicas`, all of which have a value and the same one. `None`
    /// without replicas, and for a share of what pods request.
    pub fn thresholds(&self, metric: &Metric, replicas: u32) -> Option<Thresholds> {
        if replicas == 0 || matches!(metric.target, Target::Utilization(_)) {
            return None;
        }
        let at = |value: i128| self.replicas_at(metric, replicas, value);
        // The first value that scales up, and the last one that scales down: what is wanted never
        // falls while the value grows.
        let up = first(0, VALUE_MAX, |value| at(value) > replicas);
        let down = first(0, VALUE_MAX, |value| at(value) >= replicas);
        let down = match down {
            Some(first) => first.checked_sub(1).filter(|last| *last >= 0),
            None => None,
        };
        let threshold = |value_milli: i128| Threshold {
            value_milli,
            replicas: at(value_milli),
        };
        Some(Thresholds {
            up: up.map(threshold),
            down: down.map(threshold),
        })
    }

    fn replicas_at(&self, metric: &Metric, replicas: u32, value: i128) -> u32 {
        let pods = i64::from(replicas);
        let wanted = if !metric.needs_no_pods() {
            let tally = Tally {
                sum: value * i128::from(pods),
                values: pods,
                ready: pods,
                ..Tally::default()
            };
            self.replicas_for_pods(metric, replicas, &tally)
        } else if let Target::Average(_) = metric.target {
            self.replicas_for_total(metric, replicas, value * i128::from(pods))
        } else {
            self.replicas_for_total(metric, replicas, value)
        };
        wanted.unwrap_or(replicas)
    }
}

/// The first of `from..=to` for which `holds`, which holds for all after it.
fn first(from: i128, to: i128, holds: impl Fn(i128) -> bool) -> Option<i128> {
    let (mut low, mut high) = (from, to);
    if !holds(high) {
        return None;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(low)
}
