//! What stabilisation, policies, minimum and maximum make of a recommendation:
//! `normalizeDesiredReplicas`, with and without behaviour.

use std::time::Duration;

use crate::behavior::{Behavior, Policy, PolicyKind, Rules, SelectPolicy};
use crate::fault::{Fault, planted};
use crate::hpa::Hpa;
use crate::memory::{Entry, Memory};
use crate::step::{Direction, Step};

/// A recommendation after its limits.
pub(crate) struct Limited {
    pub(crate) replicas: i64,
    pub(crate) stabilized: Option<Direction>,
    /// Why less or more is not allowed, in the words of the condition `ScalingLimited`.
    pub(crate) reason: Option<&'static str>,
    pub(crate) steps: Vec<Step>,
}

/// Without `spec.behavior`: at most so many times the replicas in one sync, or so many.
const FACTOR_MAX: i64 = 2;
const PODS_MIN: i64 = 4;

/// One sync.
pub(crate) struct Sync<'a> {
    pub(crate) hpa: &'a Hpa,
    pub(crate) now: Duration,
    pub(crate) replicas: u32,
}

// === impl Sync ===

impl Sync<'_> {
    /// Limits `wanted`, and remembers it.
    pub(crate) fn limit(&self, memory: &mut Memory, wanted: i64) -> Limited {
        let (min, max) = (i64::from(self.hpa.min), i64::from(self.hpa.max));
        let wanted = if planted(Fault::BoundsFirst) {
            wanted.max(min).min(max)
        } else {
            wanted
        };
        let mut steps = Vec::new();
        let stabilized = match &self.hpa.behavior {
            None => self.stabilize_down(memory, wanted, &mut steps),
            Some(_) => self.stabilize(memory, wanted, &mut steps),
        };
        let reach = self.hpa.up_window().max(self.hpa.down_window());
        memory.recommend(self.now, reach, wanted);
        let (replicas, reason) = match &self.hpa.behavior {
            None => self.double(stabilized, &mut steps),
            Some(behavior) => self.rate(memory, behavior, stabilized, &mut steps),
        };
        Limited {
            replicas,
            stabilized: (stabilized != wanted).then(|| {
                if wanted >= i64::from(self.replicas) {
                    Direction::Up
                } else {
                    Direction::Down
                }
            }),
            reason,
            steps,
        }
    }

    /// `stabilizeRecommendation`: the highest of the window counts, whatever there is now.
    fn stabilize_down(&self, memory: &Memory, wanted: i64, steps: &mut Vec<Step>) -> i64 {
        let window = self.hpa.down_window();
        let within = |entry: &&Entry| entry.at + window >= self.now;
        let recent = memory.recommendations().iter().filter(within);
        let highest = pick(recent, wanted, |one, best| one > best);
        if let Some(highest) = highest {
            self.say_stabilized((Direction::Down, window), wanted, highest, steps);
            return highest.replicas;
        }
        wanted
    }

    /// `stabilizeRecommendationWithBehaviors`: the current replicas, moved between the lowest of
    /// one window and the highest of the other.
    fn stabilize(&self, memory: &Memory, wanted: i64, steps: &mut Vec<Step>) -> i64 {
        let of = |window: Duration| {
            let within = move |entry: &&Entry| entry.at + window > self.now;
            memory.recommendations().iter().filter(within)
        };
        let (up, down) = (self.hpa.up_window(), self.hpa.down_window());
        let lowest = pick(of(up), wanted, |one, best| one < best);
        let highest = pick(of(down), wanted, |one, best| one > best);
        let here = i64::from(self.replicas);
        let replicas_of = |entry: Option<Entry>| entry.map_or(wanted, |entry| entry.replicas);
        let stabilized = here.max(replicas_of(lowest)).min(replicas_of(highest));
        if stabilized != wanted {
            let winner = [
                (Direction::Up, up, lowest),
                (Direction::Down, down, highest),
            ]
            .into_iter()
            .find_map(|(direction, window, entry)| {
                let entry = entry.filter(|entry| entry.replicas == stabilized)?;
                Some(((direction, window), entry))
            });
            match winner {
                Some((which, entry)) => self.say_stabilized(which, wanted, entry, steps),
                None => steps.push(Step::Stabilized {
                    direction: if wanted > here {
                        Direction::Up
                    } else {
                        Direction::Down
                    },
                    window: if wanted > here { up } else { down },
                    age: None,
                    wanted,
                    replicas: stabilized,
                }),
            }
        }
        stabilized
    }

    fn say_stabilized(
        &self,
        (direction, window): (Direction, Duration),
        wanted: i64,
        entry: Entry,
        steps: &mut Vec<Step>,
    ) {
        steps.push(Step::Stabilized {
            direction,
            window,
            age: Some(self.now.saturating_sub(entry.at)),
            wanted,
            replicas: entry.replicas,
        });
    }

    /// `convertDesiredReplicasWithRules`.
    fn double(&self, wanted: i64, steps: &mut Vec<Step>) -> (i64, Option<&'static str>) {
        let limit = (FACTOR_MAX * i64::from(self.replicas)).max(PODS_MIN);
        if wanted < i64::from(self.hpa.min) {
            return self.at_least(wanted, steps);
        }
        if limit < i64::from(self.hpa.max) && wanted > limit {
            steps.push(Step::Doubled {
                wanted,
                replicas: limit,
            });
            return (limit, Some("ScaleUpLimit"));
        }
        self.at_most(wanted, steps)
    }

    /// `convertDesiredReplicasWithBehaviorRate`.
    fn rate(
        &self,
        memory: &Memory,
        behavior: &Behavior,
        wanted: i64,
        steps: &mut Vec<Step>,
    ) -> (i64, Option<&'static str>) {
        let here = i64::from(self.replicas);
        if wanted > here {
            let (limit, step) = self.highest(memory, &behavior.up, wanted);
            let limit = limit.max(here);
            if limit < i64::from(self.hpa.max) && wanted > limit {
                steps.push(step);
                return (limit, Some("ScaleUpLimit"));
            }
            return self.at_most(wanted, steps);
        }
        if wanted < here {
            let (limit, step) = self.lowest(memory, &behavior.down, wanted);
            let limit = limit.min(here);
            if limit > i64::from(self.hpa.min) && wanted < limit {
                steps.push(step);
                return (limit, Some("ScaleDownLimit"));
            }
            return self.at_least(wanted, steps);
        }
        (wanted, None)
    }

    fn at_most(&self, wanted: i64, steps: &mut Vec<Step>) -> (i64, Option<&'static str>) {
        let max = i64::from(self.hpa.max);
        if wanted <= max {
            return (wanted, None);
        }
        steps.push(Step::Max {
            wanted,
            replicas: max,
        });
        (max, Some("TooManyReplicas"))
    }

    fn at_least(&self, wanted: i64, steps: &mut Vec<Step>) -> (i64, Option<&'static str>) {
        let min = i64::from(self.hpa.min);
        if wanted >= min {
            return (wanted, None);
        }
        steps.push(Step::Min {
            wanted,
            replicas: min,
        });
        (min, Some("TooFewReplicas"))
    }

    /// `calculateScaleUpLimitWithScalingRules`: the most that the policies allow, and why.
    fn highest(&self, memory: &Memory, rules: &Rules, wanted: i64) -> (i64, Step) {
        let grown = |policy: &Policy, start: i64| match policy.kind {
            PolicyKind::Pods => start + i64::from(policy.value),
            PolicyKind::Percent => grown_by(start, policy.value),
        };
        let better = match rules.select {
            SelectPolicy::Min => |one: i64, best: i64| one < best,
            _ => |one: i64, best: i64| one > best,
        };
        self.limit_of(memory, rules, (Direction::Up, wanted), grown, better)
    }

    /// `calculateScaleDownLimitWithBehaviors`: the fewest that the policies allow, and why.
    fn lowest(&self, memory: &Memory, rules: &Rules, wanted: i64) -> (i64, Step) {
        let shrunk = |policy: &Policy, start: i64| match policy.kind {
            PolicyKind::Pods => start - i64::from(policy.value),
            PolicyKind::Percent => shrunk_by(start, policy.value),
        };
        let better = match rules.select {
            SelectPolicy::Min => |one: i64, best: i64| one > best,
            _ => |one: i64, best: i64| one < best,
        };
        self.limit_of(memory, rules, (Direction::Down, wanted), shrunk, better)
    }

    fn limit_of(
        &self,
        memory: &Memory,
        rules: &Rules,
        (direction, wanted): (Direction, i64),
        allows: impl Fn(&Policy, i64) -> i64,
        better: impl Fn(i64, i64) -> bool,
    ) -> (i64, Step) {
        let here = i64::from(self.replicas);
        let disabled = Step::Disabled {
            direction,
            replicas: here,
        };
        if rules.select == SelectPolicy::Disabled {
            return (here, disabled);
        }
        let mut best: Option<(i64, Policy, i64)> = None;
        for policy in &rules.policies {
            let start = memory.start_of(policy.period, self.now, self.replicas);
            let limit = allows(policy, start);
            if best.is_none_or(|(held, ..)| better(limit, held)) {
                best = Some((limit, *policy, start));
            }
        }
        // kube-apiserver refuses rules without a policy.
        let Some((limit, policy, start)) = best else {
            return (here, disabled);
        };
        let replicas = match direction {
            Direction::Up => limit.max(here),
            Direction::Down => limit.min(here),
        };
        let step = Step::Limited {
            direction,
            policy,
            start,
            wanted,
            replicas,
        };
        (limit, step)
    }
}

/// The entry that is `better` than `wanted` and all others; the newest of equal ones, which holds
/// longest. `None`: `wanted` is the best.
fn pick<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    wanted: i64,
    better: impl Fn(i64, i64) -> bool,
) -> Option<Entry> {
    let mut best: Option<Entry> = None;
    for entry in entries {
        let wins = match best {
            None => better(entry.replicas, wanted),
            Some(best) if entry.replicas == best.replicas => entry.at > best.at,
            Some(best) => better(entry.replicas, best.replicas),
        };
        if wins && !planted(Fault::NewestStabilises) {
            best = Some(*entry);
        }
    }
    best
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "the controller's own rounding, of counts of 32 bits"
)]
fn grown_by(start: i64, percent: u32) -> i64 {
    (start as f64 * (1.0 + f64::from(percent) / 100.0)).ceil() as i64
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "the controller's own rounding, of counts of 32 bits"
)]
fn shrunk_by(start: i64, percent: u32) -> i64 {
    (start as f64 * (1.0 - f64::from(percent) / 100.0)) as i64
}
