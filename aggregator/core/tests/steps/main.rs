//! Loads that step, pause and start again, through the store as an autoscaler reads it: how soon
//! each step is visible, and how still a value is while the load is. The same seeds every time.
//! `--nocapture` prints the tables.
#![expect(
    clippy::print_stdout,
    reason = "the tables are what one looks at after a change"
)]

mod run;
mod sidecar;

use crate::run::{Case, Look, StepOutcome, cut, down, load};
use crate::sidecar::{Arrivals, Phase, Random, State, real};

use Arrivals::{Even, Pages, Poisson};

/// The tolerance of the HPA: within it nothing is scaled.
const TOLERANCE: f64 = 0.1;

/// The smallest time that so many percent of `times` do not exceed.
fn quantile(mut times: Vec<f64>, percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times[rank - 1]
}

fn percent(part: usize, all: usize) -> f64 {
    100.0 * real(part as u64) / real(all as u64)
}

/// So many cases of one kind.
fn cases(
    count: u64,
    pods: usize,
    arrivals: Arrivals,
    make: impl Fn(&mut Random) -> Vec<Phase>,
) -> Vec<Case> {
    let case = |seed| Case {
        loads: vec![make(&mut Random::new(1000 + seed)); pods],
        arrivals,
        seed,
    };
    (0..count).map(case).collect()
}

fn steps(cases: &[Case]) -> Vec<StepOutcome> {
    let each = cases.iter().map(|case| case.steps(&case.run()));
    each.flatten().collect()
}

/// The load comes back after a pause or after a restart of the sidecar.
#[test]
fn a_step_is_seen_though_there_was_one_just_before() {
    let mut late = Vec::new();
    for (rate, limit) in [(100.0, 3.0), (20.0, 7.0), (10.0, 7.0)] {
        let idle = [5.0, 15.0, 25.0, 35.0, 45.0, 55.0].map(|seconds| load(0.0, seconds));
        let down = [4.0, 8.0].map(down);
        for pause in idle.into_iter().chain(down) {
            for arrivals in [Even, Poisson] {
                let phases = vec![load(rate, 40.3), pause, load(rate, 12.0)];
                let mut steps = steps(&cases(10, 1, arrivals, |_| phases.clone()));
                steps.retain(|step| step.to > step.from);
                let time = quantile(steps.iter().map(|step| step.window_s).collect(), 95);
                println!(
                    "{rate:5}/s, {:4} s {:?}, {arrivals:?}: {time:.1} s",
                    pause.seconds, pause.state
                );
                if time > limit {
                    late.push((rate, pause, arrivals, time));
                }
            }
        }
    }
    assert!(late.is_empty(), "{late:#?}");
}

/// A load of some of `rates`, each for at least `shortest` seconds, with pauses and restarts, for
/// two minutes.
fn any_load(random: &mut Random, rates: &[f64], shortest: u64) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    let mut seconds = 0;
    while seconds < 120 {
        let length = shortest + random.below(25);
        let tenths = real(random.below(10)) / 10.0;
        let last = phases.last().map(|phase| phase.rate);
        let phase = match random.below(6) {
            0 if last.is_some_and(|rate| rate > 0.0) => down(4.0 + tenths),
            _ => load(random.pick(rates), real(length) + tenths),
        };
        if last != Some(phase.rate) {
            phases.push(phase);
            seconds += length;
        }
    }
    phases
}

/// Any load that is constant for a while, steps, pauses and begins again: each step is visible
/// within the limit for 95 % of them, and from then on the value is that of the new load.
#[test]
fn each_of_any_number_of_steps_is_visible() {
    let busy = [0.0, 200.0, 400.0];
    let quiet = [0.0, 10.0, 20.0, 40.0];
    let mut wrong = Vec::new();
    for (rates, pods, arrivals, shortest, limit) in [
        (&busy[..], 1, Even, 5, 3.0),
        (&busy, 1, Poisson, 5, 3.0),
        (&busy, 3, Poisson, 5, 3.0),
        (&quiet, 1, Even, 10, 7.0),
        (&quiet, 3, Even, 10, 7.0),
        (&quiet, 3, Poisson, 10, 7.0),
        // Ten requests a second are 100 +- 10 in ten seconds: less than twenty of them do not tell
        // it from twice as many.
        (&quiet, 1, Poisson, 20, 7.0),
    ] {
        let (mut steps, mut settled, mut off) = (Vec::new(), 0, 0);
        for case in cases(60, pods, arrivals, |random| {
            any_load(random, rates, shortest)
        }) {
            let looks = case.run();
            steps.extend(case.steps(&looks));
            let here = still(&case, &looks, limit);
            settled += here.len();
            off += here.iter().filter(|look| !is_fair(&case, look)).count();
        }
        let times = |percent| quantile(steps.iter().map(|step| step.window_s).collect(), percent);
        let (time, off) = (times(95), percent(off, settled));
        println!(
            "{rates:?}, {pods} pods, {arrivals:?}: {} steps, p50 {:.1} s, p95 {time:.1} s, then {off:.2} % of {settled} values off",
            steps.len(),
            times(50)
        );
        if time > limit || off > 0.5 {
            wrong.push((rates, pods, arrivals, time, off));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Values that are read later than `limit` seconds after a step, while the sidecars are there and
/// before the next one.
fn still<'a>(case: &Case, looks: &'a [Look], limit: f64) -> Vec<&'a Look> {
    let mut still = Vec::new();
    for ((begin, end), phase) in case.phases().into_iter().zip(&case.loads[0][1..]) {
        if phase.state == State::Up {
            let from = begin + sidecar::millis(limit);
            still.extend(looks.iter().filter(|look| (from..end).contains(&look.ms)));
        }
    }
    still
}

/// True if the value is one that the load of this moment may give: within the tolerance, and what
/// chance does to so many requests.
fn is_fair(case: &Case, look: &Look) -> bool {
    let Some(value) = look.value else {
        return false;
    };
    let rate = case.rate(look.ms - 1);
    let due = rate * look.window * real(case.loads.len() as u64);
    let chance = match case.arrivals {
        Even => 0.0,
        Poisson | Pages(_) => 4.0 / due.max(1.0).sqrt(),
    };
    (value - rate).abs() <= rate * (TOLERANCE + chance) + 1.0
}

/// A steady load gives the value of the window that fits, but for fewer than one read in a hundred,
/// whatever its size; where four or eight requests come at once, fewer than one in twenty.
#[test]
fn a_steady_load_does_not_flap() {
    let mut wrong = Vec::new();
    for (rate, pods, arrivals, most) in [
        (1.0, 1, Poisson, 1.0),
        (3.0, 1, Poisson, 1.0),
        (10.0, 1, Poisson, 1.0),
        (10.0, 3, Poisson, 1.0),
        (20.0, 1, Poisson, 1.0),
        (150.0, 1, Poisson, 1.0),
        (400.0, 1, Poisson, 1.0),
        (10.0, 1, Even, 0.0),
        (10.0, 1, Pages(4), 5.0),
        (100.0, 1, Pages(4), 5.0),
        (100.0, 1, Pages(8), 5.0),
    ] {
        let (mut values, mut short, mut off, mut far) = (0, 0, 0, 0);
        for case in cases(15, pods, arrivals, |_| vec![load(rate, 240.0)]) {
            for look in case.run().iter().filter(|look| look.ms > 120_000) {
                let error = (look.value.unwrap_or(f64::INFINITY) / rate - 1.0).abs();
                values += 1;
                short += usize::from(look.window < 60.0 && look.requests < 390.0);
                off += usize::from(error > TOLERANCE);
                far += usize::from(error > 0.25);
            }
        }
        let [short, off, far] = [short, off, far].map(|part| percent(part, values));
        println!(
            "{rate}/s, {pods} pods, {arrivals:?}: {short:.2} % shorter, {off:.2} % more than 10 % off, {far:.2} % than 25 %"
        );
        if short > most {
            wrong.push((rate, pods, arrivals, short));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The load is one number, then another, each for so long.
#[test]
fn alternating_loads_are_followed() {
    let mut late = Vec::new();
    for (low, high, limit) in [(200.0, 400.0, 3.0), (20.0, 60.0, 5.0), (0.0, 20.0, 4.0)] {
        for seconds in [10.0, 20.0, 30.0] {
            let phases = [load(low, seconds), load(high, seconds)].repeat(5);
            let steps = steps(&cases(10, 1, Poisson, |_| phases.clone()));
            let time = quantile(steps.iter().map(|step| step.window_s).collect(), 95);
            println!("{low}/s and {high}/s, {seconds} s each: {time:.1} s");
            if time > limit {
                late.push((low, high, seconds, time));
            }
        }
    }
    assert!(late.is_empty(), "{late:?}");
}

/// Bursts too small to be a rate are none: the value stays that of a minute.
#[test]
fn page_loads_on_an_idle_service_are_no_rate() {
    let phases = [load(0.0, 20.0), load(19.0, 1.0)].repeat(6);
    for case in cases(20, 1, Even, |_| phases.clone()) {
        let values = case.run().into_iter().filter_map(|look| look.value);
        let most = values.fold(0.0, f64::max);
        assert!(most <= 1.0, "{most}/s");
    }
}

/// A load that grows steadily: the value is that of a few seconds ago.
#[test]
fn a_ramp_is_followed() {
    for (from, by, lag) in [(20.0, 10.0, 6.0), (10.0, 2.0, 9.0)] {
        let phases: Vec<_> = (0..60)
            .map(|n| load(from + by * f64::from(n), 1.0))
            .collect();
        let mut lags = Vec::new();
        for case in cases(10, 1, Poisson, |_| phases.clone()) {
            for look in case.run().iter().filter(|look| look.ms > 20_000) {
                lags.push((case.rate(look.ms - 1) - look.value.unwrap_or_default()) / by);
            }
        }
        let time = quantile(lags, 95);
        println!("{by}/s more each second: {time:.1} s behind");
        assert!(time <= lag, "{by}/s more each second: {time:.1} s behind");
    }
}

/// One of many pods steps, or joins: it is seen in the sum, and not read into the others.
#[test]
fn one_of_many_pods() {
    let steady = vec![load(10.0, 80.0)];
    for (name, one) in [
        ("steps", vec![load(10.0, 60.4), load(150.0, 19.6)]),
        (
            "pauses",
            vec![load(150.0, 30.4), load(0.0, 30.0), load(150.0, 19.6)],
        ),
    ] {
        let case = |seed| Case {
            loads: std::iter::once(one.clone())
                .chain(std::iter::repeat_n(steady.clone(), 9))
                .collect(),
            arrivals: Poisson,
            seed,
        };
        let steps = steps(&(0..20).map(case).collect::<Vec<_>>());
        let time = quantile(steps.iter().map(|step| step.window_s).collect(), 95);
        println!("one of ten {name}: {time:.1} s");
        assert!(time <= 4.0, "one of ten {name}: {time:.1} s");
    }
}

/// A stream that was cut for some seconds loses nothing, and what it tells late is no step.
#[test]
fn a_gap_is_no_step() {
    for rate in [10.0, 100.0] {
        for arrivals in [Even, Poisson] {
            let phases = vec![load(rate, 60.3), cut(rate, 8.0), load(rate, 30.0)];
            let (mut all, mut unfair) = (0, 0);
            for case in cases(20, 1, arrivals, |_| phases.clone()) {
                for look in case.run().iter().filter(|look| look.ms > 30_000) {
                    all += 1;
                    unfair += usize::from(!is_fair(&case, look));
                }
            }
            let unfair = percent(unfair, all);
            println!("{rate}/s, {arrivals:?}: {unfair:.2} % of the values around a gap are off");
            assert!(unfair <= 0.5, "{rate}/s, {arrivals:?}: {unfair} %");
        }
    }
}
