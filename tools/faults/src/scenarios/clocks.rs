//! Clocks that are set under an even load: each value that the API gives is right, none is said to
//! be newer than it is, and the pod is there all the time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_envoy::watch::{Traffic, Watch};
use tests_envoy::{Backends, FRONT};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::clock;
use tests_support::envoy::{self, Envoy};
use tests_support::set_clock::SetClock;

use super::gaps;
use crate::rig::{first_value, plugins};
use crate::row::Row;

/// Requests per second.
const RATE: f64 = 100.0;
/// By how much the aggregator's clock is off, one after the other: it is set by -3, -10, -60, -3600
/// and +30 s.
const AGGREGATORS: [i64; 5] = [-3, -13, -73, -3_673, -3_643];
/// The same of Envoy's: it is set by +30 min, and twice by -30 min.
const ENVOYS: [i64; 3] = [1_800, 0, -1_800];
/// For how long values are read after a step: longer than a window is at least, and than reports
/// take.
const AFTER: Duration = Duration::from_secs(4);
/// Time for which Envoy is then stopped: a newer value is wrong.
const SILENCE: Duration = Duration::from_millis(1_500);
/// Less than the smallest step: an age as old as one would be the step.
const AGE_MAX: Duration = Duration::from_millis(2_900);
/// What whole seconds and the way of an answer make of a clock.
const SHOWN_WITHIN_MS: u64 = 2_000;

#[derive(Clone, Copy, PartialEq)]
enum Whose {
    Aggregator,
    Envoy,
}

pub(super) async fn of_aggregator() -> Result<Vec<Row>> {
    run("clock-aggregator", Whose::Aggregator, &AGGREGATORS).await
}

pub(super) async fn of_envoy() -> Result<Vec<Row>> {
    run("clock-envoy", Whose::Envoy, &ENVOYS).await
}

async fn run(scenario: &'static str, whose: Whose, steps: &[i64]) -> Result<Vec<Row>> {
    let mut set = SetClock::new()?;
    let environment = |of| {
        let its = (whose == of).then(|| set.environment());
        its.unwrap_or_default()
    };
    let options = Options {
        environment: environment(Whose::Aggregator),
        ..Options::default()
    };
    let aggregator = Aggregator::start(&options).await?;
    let backends = Backends::start().await?;
    let bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins()?)?;
    let options = envoy::Options {
        env: environment(Whose::Envoy),
        ..envoy::Options::default()
    };
    let envoy = Envoy::start(&bootstrap.to_json(), &options).await?;
    let traffic = Traffic::even(envoy.listener(FRONT)?, RATE);
    first_value(&aggregator).await?;
    let mut watch = Watch::default();
    watch.read_for(&aggregator, AFTER).await?;
    for seconds in steps {
        set.set(*seconds)?;
        match whose {
            Whose::Aggregator => watch.wall_off = *seconds,
            Whose::Envoy => goes_by(&envoy, &set).await?,
        }
        watch.read_for(&aggregator, AFTER).await?;
        silence(&envoy, &aggregator, &mut watch).await?;
    }
    let mut rows = gaps::row(scenario, &aggregator, &envoy, traffic, &watch).await?;
    let row = rows.first_mut().context("no row")?;
    row.worst_age_ms = u64::try_from(watch.worst_age.as_millis()).ok();
    row.wrong += watch.unknown;
    row.promise(watch.unknown == 0, || {
        format!(
            "{} times there was no value: {:?}",
            watch.unknown, watch.reasons
        )
    });
    row.promise(watch.worst_age <= AGE_MAX, || {
        format!("a value was {:?} old, at most {AGE_MAX:?}", watch.worst_age)
    });
    Ok(rows)
}

/// Envoy is stopped and continued.
async fn silence(envoy: &Envoy, aggregator: &Aggregator, watch: &mut Watch) -> Result<()> {
    envoy.pause().await?;
    watch.silent_since = Some(clock::now());
    watch.read_for(aggregator, SILENCE).await?;
    watch.silent_since = None;
    envoy.resume()?;
    // What is held is at first as old as the silence was long.
    let worst = watch.worst_age;
    watch.read_for(aggregator, SILENCE).await?;
    watch.worst_age = worst;
    Ok(())
}

/// Fails unless Envoy shows its clients the time that was set.
async fn goes_by(envoy: &Envoy, set: &SetClock) -> Result<()> {
    let (shown, due) = (envoy.wall().await?, set.unix());
    ensure!(
        shown.0.abs_diff(due.0) <= SHOWN_WITHIN_MS,
        "Envoy's clock shows {} instead of {} ms: what is preloaded does not reach it",
        shown.0,
        due.0
    );
    Ok(())
}
