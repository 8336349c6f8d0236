use proptest::prelude::*;

use super::*;
use crate::shape::Shape;

fn scenario(signal: Signal) -> Scenario {
    Scenario {
        hpa: Hpa::new(1, 100, vec![Metric::pods("rps", 10_000)]),
        signal,
        sync: Duration::from_secs(15),
        time_to_ready: Duration::from_secs(20),
        capacity: 12.0,
        replicas: 2,
    }
}

/// The first scaling after the step at five minutes, in seconds from it.
fn reaction(signal: Signal) -> f64 {
    let series = Shape::Step.series(20.0, 100.0);
    let outcome = simulate(&series, &scenario(signal)).unwrap();
    let mut up = outcome.scalings.iter().filter(|one| one.to > one.from);
    Duration::from_millis(up.next().unwrap().at_ms).as_secs_f64() - 300.0
}

/// A steady load on target scales nothing, and all numbers are those of a calculator.
#[test]
fn a_steady_load_changes_nothing() {
    let series = Series::of_points(vec![(0.0, 20.0), (600.0, 20.0)]).unwrap();
    for signal in [Signal::MESHMETER, Signal::PROMETHEUS] {
        let outcome = simulate(&series, &scenario(signal)).unwrap();
        assert_eq!(outcome.scalings, []);
        assert_eq!(outcome.most_replicas, 2);
        assert!((outcome.requests - 12_000.0).abs() < 1e-3);
        assert!((outcome.replica_seconds - 1200.0).abs() < 1e-3);
        assert!(outcome.over_capacity_requests < 1e-9);
    }
}

/// A step is answered at the first sync that can see it; the replicas are those that the load
/// needs, and what came meanwhile is over capacity.
#[test]
fn a_step_is_answered_when_it_is_visible() {
    // The step is at a sync, so the next one, 15 s later, sees it.
    assert!((reaction(Signal::MESHMETER) - 15.0).abs() < 0.2);
    let series = Shape::Step.series(20.0, 100.0);
    let [ours, theirs] = [Signal::MESHMETER, Signal::PROMETHEUS]
        .map(|signal| simulate(&series, &scenario(signal)).unwrap());
    assert_eq!(ours.most_replicas, 10);
    // Old pods still show what they had alone when the new ones show their share: too many.
    assert!(theirs.most_replicas > 10);
    assert!(ours.over_capacity_requests < theirs.over_capacity_requests);
    // 15 s to the sync and 20 s until the pods are ready, 76 requests a second beyond capacity,
    // then at most a second round.
    let least = 35.0 * (100.0 - 24.0);
    assert!((least * 0.99..least * 2.0).contains(&ours.over_capacity_requests));
}

/// The delay model beside what `scripts/step` measured: within a fifth.
#[test]
fn delays_are_those_measured() {
    for (signal, measured) in [(Signal::MESHMETER, 2.3), (Signal::PROMETHEUS, 48.6)] {
        let modelled = signal.visible_after().as_secs_f64();
        assert!((modelled / measured - 1.0).abs() < 0.2, "{modelled}");
    }
}

/// What cannot be run is named.
#[test]
fn bad_scenarios_are_named() {
    let series = Shape::Step.series(1.0, 2.0);
    let refused = |change: fn(&mut Scenario)| {
        let mut scenario = scenario(Signal::MESHMETER);
        change(&mut scenario);
        simulate(&series, &scenario).unwrap_err().to_string()
    };
    assert!(refused(|one| one.hpa.max = 9_999).contains("maxReplicas is 9999"));
    assert!(refused(|one| one.capacity = 0.0).contains("a pod serves 0"));
    assert!(refused(|one| one.sync = Duration::ZERO).contains("two syncs"));
    assert!(
        refused(|one| one.hpa.metrics[0].source = Source::Resource).contains("metrics[0] is rps")
    );
    assert!(refused(|one| one.hpa.metrics[0].target = Target::Utilization(80)).contains("percent"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the load: replicas stay within bounds, nothing is counted that did not come, and
    /// each scaling begins where the last one ended.
    #[test]
    fn totals_add_up(
        rates in prop::collection::vec(0.0_f64..500.0, 2..12),
        delay_ms in 0_u64..60_000,
        window_s in 1_u64..120,
        every_s in 1_u64..60,
        ready_s in 0_u64..120,
    ) {
        let points = (0_u32..).zip(&rates).map(|(n, rate)| (f64::from(n) * 60.0, *rate));
        let series = Series::of_points(points.collect()).unwrap();
        let signal = Signal {
            delay: Duration::from_millis(delay_ms),
            window: Duration::from_secs(window_s),
            every: Duration::from_secs(every_s),
        };
        let scenario = Scenario {
            time_to_ready: Duration::from_secs(ready_s),
            ..scenario(signal)
        };
        let outcome = simulate(&series, &scenario).unwrap();
        let mut here = scenario.replicas;
        for scaling in &outcome.scalings {
            prop_assert_eq!(scaling.from, here);
            prop_assert!((1..=100).contains(&scaling.to));
            here = scaling.to;
        }
        // The area below the line, by trapezoids.
        let area: f64 = rates.windows(2).map(|pair| f64::midpoint(pair[0], pair[1]) * 60.0).sum();
        prop_assert!((outcome.requests - area).abs() <= area * 0.01 + 60.0);
        prop_assert!(outcome.over_capacity_requests <= outcome.requests + 1e-6);
        let seconds = series.length().as_secs_f64();
        prop_assert!(outcome.replica_seconds <= seconds * 100.0 + 1e-3);
        prop_assert!(outcome.replica_seconds >= seconds - 1e-3);
    }
}
