//! Refuses impossible totals before any of their report is taken.

use std::time::Duration;

use crate::limits::{EVENTS_PER_SECOND_MAX, INFLIGHT_MAX, TOTAL_MAX};
use crate::report::{Report, SeriesTotals};
use crate::store::counter::Counter;
use crate::store::instance::Instance;
use crate::store::refused::StoreRefusal;
use crate::store::tally::Tally;

/// Time added to the elapsed time, since clocks and intervals are not exact.
const SLACK: Duration = Duration::from_secs(1);

/// Checks every total of `report` against those that `instance` reported before, `elapsed` ago.
pub(super) fn check(
    instance: &Instance,
    elapsed: Duration,
    report: &Report,
) -> Result<(), StoreRefusal> {
    let elapsed = elapsed.saturating_add(SLACK);
    for (index, (key, totals)) in report.series.iter().enumerate() {
        check_series(index, instance.tally(key), elapsed, totals)?;
    }
    Ok(())
}

fn check_series(
    index: usize,
    previous: Option<&Tally>,
    elapsed: Duration,
    totals: &SeriesTotals,
) -> Result<(), StoreRefusal> {
    let field = |name: &str| format!("report.series[{index}].{name}");
    let total_of = |counter: Option<&Counter>| counter.map_or(0, Counter::total);
    let events = per_second(EVENTS_PER_SECOND_MAX, elapsed);
    if let Some(total) = totals.requests {
        let before = total_of(previous.and_then(|tally| tally.requests.as_ref()));
        check_total(|| field("requests"), total)?;
        check_rise(|| field("requests"), total, before, elapsed, events)?;
    }
    if let Some(total) = totals.upstream_attempts {
        let before = total_of(previous.and_then(|tally| tally.upstream_attempts.as_ref()));
        check_total(|| field("upstream_attempts"), total)?;
        check_rise(
            || field("upstream_attempts"),
            total,
            before,
            elapsed,
            events,
        )?;
    }
    for (position, (&code, &total)) in totals.responses.iter().enumerate() {
        let before = previous.and_then(|tally| tally.code(code)).unwrap_or(0);
        let name = || field(&format!("responses[{position}].total"));
        check_total(name, total)?;
        check_rise(name, total, before, elapsed, events)?;
    }
    if let Some(inflight) = totals.inflight
        && inflight > INFLIGHT_MAX
    {
        return Err(StoreRefusal::TotalTooHigh {
            field: field("inflight"),
            total: inflight,
            max: INFLIGHT_MAX,
        });
    }
    if let Some(total) = totals.inflight_ns {
        let before = total_of(previous.and_then(|tally| tally.inflight_ns.as_ref()));
        let max = per_second(INFLIGHT_MAX.saturating_mul(1_000_000_000), elapsed);
        check_rise(|| field("inflight_ns"), total, before, elapsed, max)?;
    }
    Ok(())
}

fn check_total(field: impl Fn() -> String, total: u64) -> Result<(), StoreRefusal> {
    if total <= TOTAL_MAX {
        return Ok(());
    }
    Err(StoreRefusal::TotalTooHigh {
        field: field(),
        total,
        max: TOTAL_MAX,
    })
}

fn check_rise(
    field: impl Fn() -> String,
    total: u64,
    before: u64,
    elapsed: Duration,
    max: u64,
) -> Result<(), StoreRefusal> {
    let rise = total.saturating_sub(before);
    if rise <= max {
        return Ok(());
    }
    Err(StoreRefusal::RoseTooFast {
        field: field(),
        total,
        rise,
        elapsed,
        max,
    })
}

/// Events in `elapsed` at `rate` per second.
fn per_second(rate: u64, elapsed: Duration) -> u64 {
    let possible = u128::from(rate).saturating_mul(elapsed.as_millis()) / 1000;
    u64::try_from(possible).unwrap_or(u64::MAX)
}
