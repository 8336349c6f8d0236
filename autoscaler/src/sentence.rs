//! Each step as one plain sentence.

use std::fmt;
use std::time::Duration;

use crate::metric::Target;
use crate::quantity::Quantity;
use crate::step::{Direction, Filling, Step};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Average { .. }
            | Self::Utilization { .. }
            | Self::Ignored { .. }
            | Self::Unready { .. }
            | Self::Missing { .. }
            | Self::Ratio { .. }
            | Self::Total { .. }
            | Self::TotalPerPod { .. }
            | Self::Filled { .. } => self.write_value(f),
            Self::Within { .. }
            | Self::Turned { .. }
            | Self::Rounded { .. }
            | Self::Divided { .. }
            | Self::FromZero { .. }
            | Self::Most { .. }
            | Self::OnlyUp { .. }
            | Self::Blocked { .. } => self.write_proposal(f),
            _ => self.write_limit(f),
        }
    }
}

impl Step {
    fn write_value(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Average {
                pods: 1, sum_milli, ..
            } => write!(f, "1 pod has a value: {}.", Quantity::of_milli(*sum_milli)),
            Self::Average {
                pods,
                sum_milli,
                average_milli,
            } => write!(
                f,
                "{pods} pods have values: {} in all, {} on average.",
                Quantity::of_milli(*sum_milli),
                Quantity::of_milli(*average_milli)
            ),
            Self::Utilization { pods, percent } => write!(
                f,
                "{} {percent} % of what {} requested.",
                counted(*pods, "uses", "use"),
                if *pods == 1 { "it" } else { "they" },
            ),
            Self::Ignored { pods } => write!(
                f,
                "{} being deleted or {} failed: ignored.",
                counted(*pods, "is", "are"),
                if *pods == 1 { "has" } else { "have" },
            ),
            Self::Unready { pods } => {
                write!(
                    f,
                    "{} not ready yet: left out.",
                    counted(*pods, "is", "are")
                )
            }
            Self::Missing { pods } => {
                write!(f, "{} no value.", counted(*pods, "has", "have"))
            }
            _ => self.write_ratio(f),
        }
    }

    fn write_ratio(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio { ratio, target } => {
                write!(f, "That is {} of {}.", OfTarget(*ratio), Aim(*target))
            }
            Self::Total {
                total_milli,
                target_milli,
                ratio,
            } => write!(
                f,
                "The value of {} is {} of {}.",
                Quantity::of_milli(*total_milli),
                OfTarget(*ratio),
                Quantity::of_milli(*target_milli)
            ),
            Self::TotalPerPod {
                total_milli,
                replicas,
                target_milli,
                ratio,
            } => write!(
                f,
                "The value of {} for {} is {} of {} per pod.",
                Quantity::of_milli(*total_milli),
                Replicas(*replicas),
                OfTarget(*ratio),
                Quantity::of_milli(*target_milli)
            ),
            Self::Filled {
                missing,
                unready,
                filling,
                pods,
                ratio,
            } => write_filled(f, (*missing, *unready), *filling, *pods, *ratio),
            _ => Ok(()),
        }
    }

    fn write_proposal(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Within {
                tolerance,
                replicas,
            } => write!(
                f,
                "That is within the tolerance of {} %: it stays at {}.",
                Rounded(tolerance * 100.0),
                Replicas(*replicas)
            ),
            Self::Turned { replicas } => write!(
                f,
                "With these pods counted the direction would turn: it stays at {}.",
                Replicas(*replicas)
            ),
            Self::Rounded {
                ratio,
                pods,
                replicas,
            } => write!(
                f,
                "{} times {}, rounded up, makes {}.",
                Rounded(*ratio),
                counted(*pods, "", "").trim_end(),
                Replicas(*replicas)
            ),
            Self::Divided {
                total_milli,
                target_milli,
                replicas,
            } => write!(
                f,
                "{} divided by {}, rounded up, makes {}.",
                Quantity::of_milli(*total_milli),
                Quantity::of_milli(*target_milli),
                Replicas(*replicas)
            ),
            Self::FromZero { ratio, replicas } => write!(
                f,
                "There is no replica, so the ratio itself counts: {}, rounded up, makes {}.",
                Rounded(*ratio),
                Replicas(*replicas)
            ),
            Self::Most {
                metric,
                metrics,
                replicas,
            } => write!(
                f,
                "Of {metrics} metrics {metric} wants most: {}.",
                Replicas(*replicas)
            ),
            Self::OnlyUp { failed, replicas } => write!(
                f,
                "{} failed, and the others want no fewer replicas than there are, so their {} count.",
                Metrics(*failed),
                Replicas(*replicas)
            ),
            Self::Blocked {
                failed,
                wanted,
                replicas,
            } => write!(
                f,
                "{} failed, so it cannot scale down to {wanted}: it stays at {}.",
                Metrics(*failed),
                Replicas(*replicas)
            ),
            _ => Ok(()),
        }
    }

    fn write_limit(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stabilized {
                direction,
                window,
                age,
                wanted,
                replicas,
            } => write_stabilized(f, *direction, (*window, *age), *wanted, *replicas),
            Self::Limited {
                direction,
                policy,
                start,
                wanted,
                replicas,
            } => write!(
                f,
                "behavior.{} allows {policy}, from {} at the start of that time: {} instead of {wanted}.",
                direction.field(),
                Replicas(*start),
                Replicas(*replicas)
            ),
            Self::Doubled { wanted, replicas } => write!(
                f,
                "Without spec.behavior one sync at most doubles the replicas, or makes them 4: {} instead of {wanted}.",
                Replicas(*replicas)
            ),
            Self::Disabled {
                direction,
                replicas,
            } => write!(
                f,
                "behavior.{} is disabled: it stays at {}.",
                direction.field(),
                Replicas(*replicas)
            ),
            Self::Max { wanted, replicas } => {
                write!(f, "maxReplicas allows {replicas} instead of {wanted}.")
            }
            Self::Min { wanted, replicas } => {
                write!(f, "minReplicas asks for {replicas} instead of {wanted}.")
            }
            Self::AboveMax { had, replicas } => write!(
                f,
                "{had} replicas are more than maxReplicas: it goes to {replicas} without reading a metric."
            ),
            Self::BelowMin { had, replicas } => write!(
                f,
                "{had} is fewer than minReplicas: it goes to {replicas} without reading a metric."
            ),
            Self::Zero => f.write_str(
                "There are 0 replicas, and the autoscaler did not scale to zero itself: it does nothing until there is one.",
            ),
            _ => Ok(()),
        }
    }
}

fn write_filled(
    f: &mut fmt::Formatter<'_>,
    (missing, unready): (i64, i64),
    filling: Filling,
    pods: i64,
    ratio: f64,
) -> fmt::Result {
    let count = missing + unready;
    let which = match (missing, unready) {
        (_, 0) => "without a value",
        (0, _) => "not ready yet",
        _ => "without a value or not ready yet",
    };
    let which = format!("{} {which}", counted(count, "", "").trim_end());
    let counts = if count == 1 { "counts" } else { "count" };
    match filling {
        Filling::Zero => write!(f, "As it is to scale up, {which} {counts} as 0")?,
        Filling::Target(milli) => write!(
            f,
            "As it is to scale down, {which} {counts} as the target of {}",
            Quantity::of_milli(milli)
        )?,
        Filling::Percent(percent) => write!(
            f,
            "As it is to scale down, {which} {counts} as {percent} % of the request"
        )?,
        Filling::Nothing => {
            return write!(f, "Exactly on target, {which} {counts} for nothing.");
        }
    }
    write!(
        f,
        ": the average of {pods} pods is then {}.",
        OfTarget(ratio)
    )
}

fn write_stabilized(
    f: &mut fmt::Formatter<'_>,
    direction: Direction,
    (window, age): (Duration, Option<Duration>),
    wanted: i64,
    replicas: i64,
) -> fmt::Result {
    let window = window.as_secs();
    let which = match direction {
        Direction::Up => "lowest",
        Direction::Down => "highest",
    };
    let Some(age) = age else {
        return write!(
            f,
            "What it wanted in the last {window} s lies on both sides of {}: it stays there instead of going to {wanted}.",
            Replicas(replicas)
        );
    };
    write!(
        f,
        "Of what it wanted in the last {window} s the {which} counts: {} ({} s before) instead of {wanted}.",
        Replicas(replicas),
        age.as_secs()
    )
}

/// A ratio to at most three places.
struct Rounded(f64);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_finite() {
            return f.write_str("infinitely many");
        }
        let text = format!("{:.3}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A ratio to the target.
struct OfTarget(f64);

impl fmt::Display for OfTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.to_bits() == 1.0_f64.to_bits() {
            return f.write_str("exactly the target");
        }
        write!(f, "{} times the target", Rounded(self.0))
    }
}

/// The number of a target.
struct Aim(Target);

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Target::Average(milli) | Target::Value(milli) => Quantity::of_milli(milli).fmt(f),
            Target::Utilization(percent) => write!(f, "{percent} %"),
        }
    }
}

struct Replicas(i64);

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.0 == 1 { "replica" } else { "replicas" };
        write!(f, "{} {unit}", self.0)
    }
}

struct Metrics(usize);

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.0 == 1 { "metric" } else { "metrics" };
        write!(f, "{} {unit}", self.0)
    }
}

fn counted(pods: i64, one: &str, many: &str) -> String {
    if pods == 1 {
        format!("1 pod {one}")
    } else {
        format!("{pods} pods {many}")
    }
}
