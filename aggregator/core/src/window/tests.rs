use proptest::prelude::*;

use super::*;

/// What each window holds of one pod that counted `rates` in the seconds before now, the newest
/// first; it was idle before.
fn requests(rates: &[f64]) -> [f64; WINDOWS.len()] {
    WINDOWS.map(|window| since(rates, window.as_secs_f64()))
}

fn profile(rates: &[f64], known: f64) -> Profile {
    let mut profile = Profile::default();
    profile.add(known, &AGES.map(|age| since(rates, age.into())));
    profile
}

/// Requests in the `seconds` before now.
fn since(rates: &[f64], seconds: f64) -> f64 {
    let mut left = seconds;
    let parts = rates.iter().map(|rate| {
        let part = left.clamp(0.0, 1.0);
        left -= 1.0;
        rate * part
    });
    parts.sum()
}

/// The window served of one pod, in seconds.
fn chosen(rates: &[f64]) -> u64 {
    WINDOWS[choose(&requests(rates), profile(rates, 120.0))].as_secs()
}

/// Loads that followed one another, the newest first: requests per second, for so many seconds.
fn loads(loads: &[(f64, usize)]) -> Vec<f64> {
    let each = loads.iter();
    each.flat_map(|(rate, seconds)| std::iter::repeat_n(*rate, *seconds))
        .collect()
}

/// Steady traffic gets the shortest window that holds enough, and the longest where none does.
#[test]
fn steady_traffic() {
    for (rate, seconds) in [
        (0.0, 60),
        (1.0, 60),
        (6.0, 60),
        (10.0, 60),
        (14.0, 30),
        (30.0, 15),
        (50.0, 10),
        (100.0, 5),
        (199.0, 5),
        (200.0, 2),
        (50_000.0, 2),
    ] {
        assert_eq!(chosen(&[rate; 120]), seconds, "{rate}/s");
    }
}

/// The window is the longest that begins after the newest step, whatever was before it.
#[test]
fn no_window_reaches_over_the_newest_step() {
    for (name, past, seconds) in [
        ("up", vec![(60.0, 2), (30.0, 118)], 2),
        ("up", vec![(60.0, 6), (30.0, 114)], 5),
        ("up", vec![(20.0, 11), (10.0, 109)], 10),
        ("up", vec![(20.0, 16), (10.0, 104)], 15),
        ("down", vec![(10.0, 6), (20.0, 114)], 5),
        ("stopped", vec![(0.0, 2), (30.0, 118)], 2),
        ("stopped", vec![(0.0, 8), (3.0, 112)], 5),
        ("too little to tell", vec![(0.0, 2), (3.0, 118)], 60),
        (
            "again after a pause",
            vec![(100.0, 3), (0.0, 45), (100.0, 40)],
            2,
        ),
        (
            "again after a pause",
            vec![(20.0, 6), (0.0, 25), (20.0, 40)],
            5,
        ),
        (
            "again after a moment",
            vec![(20.0, 6), (0.0, 2), (20.0, 100)],
            5,
        ),
        ("down and up", vec![(60.0, 6), (20.0, 10), (60.0, 60)], 5),
        ("up and up", vec![(40.0, 6), (20.0, 15), (10.0, 60)], 5),
        ("enough since then", vec![(100.0, 35), (20.0, 85)], 5),
        (
            "at its clearest cut",
            vec![(20.0, 6), (30.0, 9), (10.0, 105)],
            10,
        ),
        ("hidden lately", vec![(20.0, 5), (30.0, 6), (20.0, 109)], 10),
        (
            "hidden for long",
            vec![(20.0, 8), (30.0, 6), (20.0, 106)],
            30,
        ),
        (
            "up and up, a while ago",
            vec![(12.0, 36), (6.0, 15), (1.0, 60)],
            30,
        ),
    ] {
        assert_eq!(chosen(&loads(&past)), seconds, "{name}: {past:?}");
    }
}

/// A page load on an idle service is not read as a rate, and neither is a larger burst, unless it
/// lasts.
#[test]
fn a_burst_is_no_rate() {
    for requests in [1.0, MIN_STEP_EVENTS - 1.0, 40.0, 300.0] {
        for seconds in 0..60 {
            let past = [(0.0, seconds), (requests, 1), (0.0, 60)];
            assert_eq!(chosen(&loads(&past)), 60, "{past:?}");
        }
    }
    for seconds in 0..60 {
        let past = [(0.2, seconds), (12.0, 1), (0.2, 60)];
        assert_eq!(chosen(&loads(&past)), 60, "{past:?}");
    }
    assert_eq!(chosen(&loads(&[(40.0, 3), (0.0, 60)])), 2);
}

/// Requests that come four at a time are no steps, whatever the moment.
#[test]
fn pages_at_a_steady_rate_are_no_steps() {
    let pages = [16.0, 4.0, 8.0, 12.0, 0.0, 20.0, 8.0, 12.0, 4.0, 16.0].repeat(20);
    for skipped in 0..20 {
        assert_eq!(chosen(&pages[skipped..]), 60, "{skipped}");
    }
}

/// A pod that joins does not step the others, whatever it counts; what it counts itself is found.
#[test]
fn a_pod_that_joins_is_no_step() {
    let joined = |rate: f64, known: f64| {
        let (old, new) = (loads(&[(5.0, 120)]), loads(&[(rate, 10)]));
        let mut both = profile(&old, 120.0);
        both.add(known, &AGES.map(|age| since(&new, age.into())));
        both.newest_step()
    };
    assert_eq!(joined(50.0, 10.0), None);
    assert_eq!(joined(50.0, 10.9), None);
    for known in [11.0, 25.4] {
        assert_eq!(joined(50.0, known), Some(9), "known for {known} s");
    }
}

/// The newest second alone may be a step.
#[test]
fn the_newest_second_is_a_step() {
    let rates = loads(&[(1000.0, 1), (10.0, 119)]);
    assert_eq!(profile(&rates, 120.0).newest_step(), Some(0));
}

/// No pods, and pods that are not known for long, are no trouble.
#[test]
fn nothing_is_known() {
    assert_eq!(choose(&[0.0; 6], Profile::default()), 5);
    for known in [0.0, 0.5, 1.0, 1.5, 2.0, 3.0] {
        let rates = loads(&[(50.0, 3), (0.0, 1)]);
        assert_eq!(
            choose(&requests(&rates), profile(&rates, known)),
            5,
            "{known}"
        );
    }
}

proptest! {
    /// Whatever the past: the choice is one of the windows, never longer than needed.
    #[test]
    fn chooses_one_of_them(rates in prop::collection::vec(0.0..1e3f64, 120), known in 0.0..130f64) {
        let requests = requests(&rates);
        let chosen = choose(&requests, profile(&rates, known));
        let needed = requests.iter().position(|requests| *requests >= MIN_EVENTS).unwrap_or(5);
        prop_assert!(chosen <= needed);
    }
}
