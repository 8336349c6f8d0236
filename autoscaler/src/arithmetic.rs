//! From values to the replicas that one metric wants: `replica_calculator.go`.

use crate::fault::{Fault, planted};
use crate::metric::Target;
use crate::ratio::{Tolerances, ratio, round_up, times};
use crate::step::{Filling, Step};
use crate::tally::Tally;

/// What every calculation takes.
pub(crate) struct Calculation<'a> {
    pub(crate) tolerances: Tolerances,
    /// Replicas that there are.
    pub(crate) replicas: i64,
    /// Takes each step.
    pub(crate) say: &'a mut dyn FnMut(Step),
}

/// Pods without a value or not ready, and what becomes of the ratio with them.
struct Refill {
    /// The ratio without them.
    before: f64,
    missing: i64,
    unready: i64,
    filling: Filling,
    /// Number of values with them.
    pods: i64,
    /// The ratio with them.
    after: f64,
}

/// What pods use of what they request, in thousandths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Of pods whose values count and whose request is known.
    pub(crate) used: i128,
    pub(crate) requested: i128,
    /// Requests of each pod without a value.
    pub(crate) missing: Vec<i128>,
    /// Requests of pods that are not ready, summed.
    pub(crate) unready: i128,
}

// === impl Calculation ===

impl Calculation<'_> {
    /// Values of pods against an average: `calcPlainMetricReplicas`. There is at least one value.
    pub(crate) fn average(&mut self, tally: &Tally, target: i128) -> i64 {
        let Tally { sum, values, .. } = *tally;
        let average = sum / i128::from(values);
        self.say_groups(tally);
        (self.say)(Step::Average {
            pods: values,
            sum_milli: sum,
            average_milli: average,
        });
        let before = ratio(average, target);
        (self.say)(Step::Ratio {
            ratio: before,
            target: Target::Average(target),
        });
        let unready = if before > 1.0 { tally.unready } else { 0 };
        if unready == 0 && tally.missing == 0 {
            return self.plain(before, tally.ready);
        }
        let filling = filling(before, Filling::Target(target));
        let (filled, as_milli) = match filling {
            Filling::Target(target) => (tally.missing, target),
            Filling::Nothing => (0, 0),
            _ => (tally.missing, 0),
        };
        let pods = values + filled + unready;
        let after = (sum + i128::from(filled) * as_milli) / i128::from(pods);
        self.refilled(&Refill {
            before,
            missing: tally.missing,
            unready,
            filling,
            pods,
            after: ratio(after, target),
        })
    }

    /// Usage of pods against a share of what they request: `GetResourceReplicas`. Something is
    /// requested.
    pub(crate) fn utilization(&mut self, tally: &Tally, usage: &Usage, target: u32) -> i64 {
        let percent = usage.used * 100 / usage.requested;
        self.say_groups(tally);
        (self.say)(Step::Utilization {
            pods: tally.values,
            percent,
        });
        let before = ratio(percent, i128::from(target));
        (self.say)(Step::Ratio {
            ratio: before,
            target: Target::Utilization(target),
        });
        let unready = if before > 1.0 { tally.unready } else { 0 };
        if unready == 0 && tally.missing == 0 {
            return self.plain(before, tally.ready);
        }
        let fallback = i128::from(target.max(100));
        let filling = filling(before, Filling::Percent(fallback));
        let (mut used, mut requested, mut pods) = (usage.used, usage.requested, tally.values);
        if filling != Filling::Nothing {
            pods += tally.missing;
            requested += usage.missing.iter().sum::<i128>();
        }
        if let Filling::Percent(percent) = filling {
            let filled = usage.missing.iter().map(|request| request * percent / 100);
            used += filled.sum::<i128>();
        }
        if unready > 0 {
            pods += unready;
            requested += usage.unready;
        }
        self.refilled(&Refill {
            before,
            missing: tally.missing,
            unready,
            filling,
            pods,
            after: ratio(used * 100 / requested, i128::from(target)),
        })
    }

    /// A value in all against a value: `getUsageRatioReplicaCount`.
    pub(crate) fn total(&mut self, total: i128, target: i128, ready: i64) -> i64 {
        let ratio = ratio(total, target);
        (self.say)(Step::Total {
            total_milli: total,
            target_milli: target,
            ratio,
        });
        if self.replicas != 0 {
            return self.plain(ratio, ready);
        }
        let replicas = round_up(ratio);
        (self.say)(Step::FromZero { ratio, replicas });
        replicas
    }

    /// A value in all against an average of the replicas: `GetExternalPerPodMetricReplicas`.
    pub(crate) fn total_per_pod(&mut self, total: i128, target: i128, replicas: i64) -> i64 {
        let ratio_of_all = ratio(total, target * i128::from(replicas));
        if replicas > 0 {
            (self.say)(Step::TotalPerPod {
                total_milli: total,
                replicas,
                target_milli: target,
                ratio: ratio_of_all,
            });
        }
        if self.tolerances.hold(ratio_of_all) {
            self.say_within(ratio_of_all, replicas);
            return replicas;
        }
        let wanted = round_up(ratio(total, target));
        (self.say)(Step::Divided {
            total_milli: total,
            target_milli: target,
            replicas: wanted,
        });
        wanted
    }

    fn say_groups(&mut self, tally: &Tally) {
        let (pods, say) = (tally.ignored, &mut self.say);
        if pods > 0 {
            say(Step::Ignored { pods });
        }
        if tally.unready > 0 {
            say(Step::Unready {
                pods: tally.unready,
            });
        }
        if tally.missing > 0 {
            say(Step::Missing {
                pods: tally.missing,
            });
        }
    }

    /// The ratio times the pods, unless it is within the tolerance.
    fn plain(&mut self, ratio: f64, pods: i64) -> i64 {
        if self.tolerances.hold(ratio) {
            return self.stay_within(ratio);
        }
        let replicas = times(ratio, pods);
        (self.say)(Step::Rounded {
            ratio,
            pods,
            replicas,
        });
        replicas
    }

    /// The same with pods filled in, which never turns the direction.
    fn refilled(&mut self, refill: &Refill) -> i64 {
        let &Refill {
            before,
            missing,
            unready,
            filling,
            pods,
            after,
        } = refill;
        (self.say)(Step::Filled {
            missing,
            unready,
            filling,
            pods,
            ratio: after,
        });
        if self.tolerances.hold(after) {
            return self.stay_within(after);
        }
        let wanted = times(after, pods);
        let turned = (before < 1.0 && after > 1.0) || (before > 1.0 && after < 1.0);
        let against =
            (after < 1.0 && wanted > self.replicas) || (after > 1.0 && wanted < self.replicas);
        if turned || against {
            let replicas = self.replicas;
            (self.say)(Step::Turned { replicas });
            return replicas;
        }
        (self.say)(Step::Rounded {
            ratio: after,
            pods,
            replicas: wanted,
        });
        wanted
    }

    fn stay_within(&mut self, ratio: f64) -> i64 {
        self.say_within(ratio, self.replicas);
        self.replicas
    }

    fn say_within(&mut self, ratio: f64, replicas: i64) {
        (self.say)(Step::Within {
            tolerance: self.tolerances.of(ratio),
            replicas,
        });
    }
}

/// What pods without a value are taken for, at a `ratio` of the others.
fn filling(ratio: f64, down: Filling) -> Filling {
    let (up, down) = if planted(Fault::FillsMissingTheWrongWay) {
        (down, Filling::Zero)
    } else {
        (Filling::Zero, down)
    };
    if ratio > 1.0 {
        up
    } else if ratio < 1.0 {
        down
    } else {
        Filling::Nothing
    }
}
