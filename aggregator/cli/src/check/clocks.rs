//! Clocks of the replicas, against ours and each other. Pure.

use aggregator_view::documents::Replica;

use super::report::Group;
use crate::numbers::time;

const CHECK: &str = "clocks";
/// Beyond it, ages and timestamps mislead people.
const APART_MAX_MS: u64 = 5_000;

/// Judges the clocks of replicas that were asked between `sent` and `received` on ours.
pub(super) fn judge(replicas: &[&Replica], sent: u64, received: u64, report: &mut Group<'_>) {
    let clocks = replicas.iter().filter(|one| one.at_unix_ms > 0);
    let clocks: Vec<_> = clocks
        .map(|one| (one.name.as_str(), one.at_unix_ms))
        .collect();
    if clocks.is_empty() {
        return;
    }
    let mut is_good = true;
    for (name, at) in &clocks {
        let (apart, way) = if *at > received {
            (at - received, "ahead of")
        } else {
            (sent.saturating_sub(*at), "behind")
        };
        if apart > APART_MAX_MS {
            is_good = false;
            report.warn(
                CHECK,
                format!("the clock of replica {name} is {} {way} yours", time(Some(apart))),
                "rates and ages do not depend on it; timestamps do: set the time of its node, or of this machine, by NTP",
            );
        }
    }
    let (earliest, latest) = (
        clocks.iter().min_by_key(|one| one.1),
        clocks.iter().max_by_key(|one| one.1),
    );
    // All were asked within that time.
    let took = received.saturating_sub(sent);
    if let (Some(earliest), Some(latest)) = (earliest, latest) {
        let apart = (latest.1 - earliest.1).saturating_sub(took);
        if apart > APART_MAX_MS {
            is_good = false;
            report.warn(
                CHECK,
                format!(
                    "the clocks of replicas {} and {} are {} apart",
                    earliest.0,
                    latest.0,
                    time(Some(apart))
                ),
                "set the time of their nodes by NTP: reads of several replicas are merged by it",
            );
        }
    }
    if is_good {
        report.ok(
            CHECK,
            format!("clocks are within {} of yours", time(Some(APART_MAX_MS))),
        );
    }
}
