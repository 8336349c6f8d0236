//! One sync of the controller: `reconcileAutoscaler`, from the replicas that there are to those
//! that there should be.

use std::time::Duration;

use crate::hpa::Hpa;
use crate::limits::{Limited, Sync};
use crate::memory::Memory;
use crate::metric::Metric;
use crate::observed::Observed;
use crate::proposal::{Failure, Proposal};
use crate::step::{Direction, Step};

/// The decision of an autoscaler in one sync.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Desired replicas; `None` if they could not be computed, so that they stay.
    pub replicas: Option<u32>,
    /// Condition `ScalingActive`; `None`: this sync did not set it.
    pub active: Option<Condition>,
    /// Condition `AbleToScale`; `None`: this sync did not set it again.
    pub able: Option<Condition>,
    /// Condition `ScalingLimited`, if it is true.
    pub limited: Option<Condition>,
    /// For each metric what it wants, or why it wants nothing; empty if none was read.
    pub proposals: Vec<Result<Proposal, Failure>>,
    /// The metric that decided, as an index.
    pub decisive: Option<usize>,
    /// What became of that, in order.
    pub limits: Vec<Step>,
}

/// A condition of an HPA's status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition {
    pub is_true: bool,
    pub reason: &'static str,
    pub message: String,
}

// === impl Condition ===

impl Condition {
    fn new(is_true: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            is_true,
            reason,
            message: message.into(),
        }
    }
}

// === impl Hpa ===

impl Hpa {
    /// One sync. `memory` holds the earlier ones, and takes this one; it takes the scaling as done,
    /// if there is one.
    pub fn decide(&self, memory: &mut Memory, observed: &Observed<'_>) -> Decision {
        let decision = self.evaluate(memory, observed);
        if let Some(replicas) = decision.replicas {
            self.scaled(memory, observed.now, observed.replicas, replicas);
        }
        decision
    }

    /// The same without its scaling: whether it was done is told by [`scaled`](Self::scaled).
    pub fn evaluate(&self, memory: &mut Memory, observed: &Observed<'_>) -> Decision {
        memory.begin(observed.now, observed.replicas);
        self.reconcile(memory, observed)
    }

    /// Remembers that the autoscaler scaled the target, at the end of the sync at `now`. Scalings
    /// by others are none of its own.
    pub fn scaled(&self, memory: &mut Memory, now: Duration, from: u32, to: u32) {
        if from == to {
            return;
        }
        if let Some(behavior) = &self.behavior {
            let rules = if to > from {
                &behavior.up
            } else {
                &behavior.down
            };
            memory.scaled(now, rules.longest_period(), from, to);
        }
        let to_zero = from > 0 && to == 0 && self.min == 0 && self.can_wake();
        memory.set_scaled_to_zero(to_zero);
    }

    fn reconcile(&self, memory: &mut Memory, observed: &Observed<'_>) -> Decision {
        let here = observed.replicas;
        let to_zero = memory.scaled_to_zero().unwrap_or(self.scaled_to_zero);
        let wakes = to_zero && (self.min != 0 || self.can_wake());
        let (replicas, step) = if here == 0 && !wakes {
            (0, Step::Zero)
        } else if here > self.max {
            let replicas = self.max;
            let had = here;
            (replicas, Step::AboveMax { had, replicas })
        } else if here != 0 && here < self.min {
            let replicas = self.min;
            let had = here;
            (replicas, Step::BelowMin { had, replicas })
        } else {
            return self.compute(memory, observed);
        };
        let disabled = Condition::new(
            false,
            "ScalingDisabled",
            "scaling is disabled since the replica count of the target is zero",
        );
        Decision {
            replicas: Some(replicas),
            active: (step == Step::Zero).then_some(disabled),
            limits: vec![step],
            ..Decision::default()
        }
    }

    /// `computeReplicasForMetrics`: what wants most decides; while one fails the others can only
    /// scale up.
    fn compute(&self, memory: &mut Memory, observed: &Observed<'_>) -> Decision {
        let here = i64::from(observed.replicas);
        let metrics = self.metrics.iter().enumerate();
        let proposals: Vec<_> = metrics
            .map(|(index, metric)| self.propose(metric, observed, observed.answers.get(index)))
            .collect();
        let best = most(&proposals);
        let failed = proposals
            .iter()
            .filter(|proposal| proposal.is_err())
            .count();
        let (decisive, wanted) = match best {
            Some((index, wanted)) if failed == 0 || i64::from(wanted) >= here => {
                (index, i64::from(wanted))
            }
            best => {
                let step = best.map(|(_, wanted)| Step::Blocked {
                    failed,
                    wanted: i64::from(wanted),
                    replicas: here,
                });
                return Decision {
                    active: Some(inactive(&proposals)),
                    limits: step.into_iter().collect(),
                    proposals,
                    ..Decision::default()
                };
            }
        };
        let mut limits = Vec::new();
        if failed > 0 {
            limits.push(Step::OnlyUp {
                failed,
                replicas: wanted,
            });
        }
        let metric = &self.metrics[decisive];
        let metrics = proposals.len() - failed;
        if metrics > 1 {
            limits.push(Step::Most {
                metric: metric.to_string(),
                metrics,
                replicas: wanted,
            });
        }
        let sync = Sync {
            hpa: self,
            now: observed.now,
            replicas: observed.replicas,
        };
        let mut limited = sync.limit(memory, wanted);
        limits.append(&mut limited.steps);
        self.wake_to_min(here, &mut limited, &mut limits);
        Decision {
            replicas: Some(u32::try_from(limited.replicas.max(0)).unwrap_or(u32::MAX)),
            active: Some(active(metric)),
            able: Some(able(&limited)),
            limited: limited.reason.map(scaling_limited),
            proposals,
            decisive: Some(decisive),
            limits,
        }
    }

    /// From zero it goes to `minReplicas` at once, if that was raised meanwhile.
    fn wake_to_min(&self, here: i64, limited: &mut Limited, limits: &mut Vec<Step>) {
        let min = i64::from(self.min);
        if here == 0 && limited.replicas < min {
            limits.push(Step::Min {
                wanted: limited.replicas,
                replicas: min,
            });
            limited.replicas = min;
        }
    }
}

/// The metric that wants most, the first of equal ones.
fn most(proposals: &[Result<Proposal, Failure>]) -> Option<(usize, u32)> {
    let mut best: Option<(usize, u32)> = None;
    for (index, proposal) in proposals.iter().enumerate() {
        if let Ok(proposal) = proposal
            && best.is_none_or(|(_, held)| held == 0 || proposal.replicas > held)
        {
            best = Some((index, proposal.replicas));
        }
    }
    best
}

fn active(metric: &Metric) -> Condition {
    let described = metric.described();
    let message =
        format!("the HPA was able to successfully calculate a replica count from {described}");
    Condition::new(true, "ValidMetricFound", message)
}

fn inactive(proposals: &[Result<Proposal, Failure>]) -> Condition {
    let first = proposals
        .iter()
        .find_map(|proposal| proposal.as_ref().err());
    let (reason, why) = first.map_or(("", ""), |first| (first.reason, first.message.as_str()));
    let message = format!("the HPA was unable to compute the replica count: {why}");
    Condition::new(false, reason, message)
}

fn able(limited: &Limited) -> Condition {
    let (reason, message) = match limited.stabilized {
        None => ("ReadyForNewScale", "recommended size matches current size"),
        Some(Direction::Up) => (
            "ScaleUpStabilized",
            "recent recommendations were lower than current one, applying the lowest recent recommendation",
        ),
        Some(Direction::Down) => (
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent recommendation",
        ),
    };
    Condition::new(true, reason, message)
}

fn scaling_limited(reason: &'static str) -> Condition {
    let message = match reason {
        "TooManyReplicas" => "the desired replica count is more than the maximum replica count",
        "TooFewReplicas" => "the desired replica count is less than the minimum replica count",
        "ScaleUpLimit" => {
            "the desired replica count is increasing faster than the maximum scale rate"
        }
        _ => "the desired replica count is decreasing faster than the maximum scale rate",
    };
    Condition::new(true, reason, message)
}
