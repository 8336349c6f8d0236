use proptest::prelude::*;

use super::*;

/// Where the first interval begins.
const EPOCH: u64 = 1_800_000_000_000;

/// What happened in one interval.
#[derive(Clone, Copy, Debug)]
struct Rise {
    start: u64,
    end: u64,
    delta: u64,
}

/// Intervals one after the other, from (pause, length, delta) of each.
fn rises(steps: &[(u64, u64, u64)]) -> Vec<Rise> {
    let mut end = EPOCH;
    let rise = |(pause, length, delta): &(u64, u64, u64)| {
        let start = end + pause;
        end = start + length;
        Rise {
            start,
            end,
            delta: *delta,
        }
    };
    steps.iter().map(rise).collect()
}

fn history(rises: &[Rise]) -> History {
    let mut history = History::default();
    let mut total = 0;
    for rise in rises.iter().filter(|rise| rise.delta > 0) {
        let (start, end) = (Monotonic(rise.start), Monotonic(rise.end));
        history.rise(start, end, total, total + rise.delta);
        total += rise.delta;
    }
    history
}

/// The naive model: every interval is kept and cut at the window's ends.
fn naive(rises: &[Rise], from: u64, to: u64) -> f64 {
    let part = |rise: &Rise| {
        let overlap = rise.end.min(to).saturating_sub(rise.start.max(from));
        float(rise.delta) * float(overlap) / float(rise.end - rise.start)
    };
    rises.iter().map(part).sum()
}

/// All that rose in intervals within a second and a bit of `at`.
fn near(rises: &[Rise], at: u64) -> f64 {
    let reach = 1_100;
    let is_near = |rise: &&Rise| rise.start < at + reach && at < rise.end + reach;
    rises
        .iter()
        .filter(is_near)
        .map(|rise| float(rise.delta))
        .sum()
}

fn increase(history: &History, from: u64, to: u64) -> f64 {
    history.increase(Monotonic(from), Monotonic(to))
}

/// The last moment, and the earliest that can still be asked for.
fn reach(rises: &[Rise]) -> (u64, u64) {
    let last = rises.last().map_or(EPOCH, |rise| rise.end);
    (Monotonic(last).before(DEPTH).0.max(EPOCH), last)
}

proptest! {
    /// Reports a second apart or more, with pauses between them: any window holds exactly what the
    /// naive model says, whatever moments it begins and ends at.
    #[test]
    fn equals_the_naive_model(
        steps in prop::collection::vec(
            (prop_oneof![Just(0u64), 100u64..20_000], 1000u64..20_000, 0u64..1_000_000),
            1..40,
        ),
        (a, b) in (0.0..1.0f64, 0.0..1.0f64),
    ) {
        let rises = rises(&steps);
        let history = history(&rises);
        let (first, last) = reach(&rises);
        let (from, to) = between(first, last, a, b);
        let expected = naive(&rises, from, to);
        let got = increase(&history, from, to);
        prop_assert!((got - expected).abs() < 1e-3, "{got} instead of {expected}");

        // Adjoining windows in one pass are as if each was asked for, also outside of the points.
        let bounds = [EPOCH - 5, first, from, from, to, last, last + 7].map(Monotonic);
        let mut rises = [0.5; 6];
        history.add_rises(&bounds, &mut rises);
        for (bounds, rise) in bounds.windows(2).zip(rises) {
            prop_assert!((rise - 0.5 - history.increase(bounds[0], bounds[1])).abs() < 1e-6);
        }
    }

    /// Reports of any length, also many in a second: what is merged shifts increases by less than a
    /// second, the sum over everything is exact, and windows add up.
    #[test]
    fn merging_shifts_by_less_than_a_second(
        steps in prop::collection::vec((0u64..300, 1u64..1500, 0u64..1_000_000), 1..150),
        (a, b, c) in (0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64),
    ) {
        let rises = rises(&steps);
        let history = history(&rises);
        let (first, last) = reach(&rises);
        let (from, to) = between(first, last, a, b);
        let expected = naive(&rises, from, to);
        let got = increase(&history, from, to);
        let bound = near(&rises, from) + near(&rises, to) + 1e-3;
        prop_assert!((got - expected).abs() <= bound, "{got} instead of {expected}");

        let middle = between(from, to, c, c).0;
        let parts = increase(&history, from, middle) + increase(&history, middle, to);
        prop_assert!((parts - got).abs() < 1e-3, "{parts} instead of {got}");
        if first == EPOCH {
            let all: u64 = rises.iter().map(|rise| rise.delta).sum();
            prop_assert!((increase(&history, first, last) - float(all)).abs() < 1e-3);
        }
        prop_assert!(history.points.len() <= POINTS_MAX);
    }
}

/// The two points at shares `a` and `b` of the way from `first` to `last`, in order.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a few minutes in milliseconds"
)]
fn between(first: u64, last: u64, a: f64, b: f64) -> (u64, u64) {
    let at = |share: f64| first + (float(last - first) * share) as u64;
    (at(a.min(b)), at(a.max(b)))
}

/// A late rise is spread over the time without points, not heaped on its end.
#[test]
fn a_gap_is_filled_evenly() {
    let mut history = History::default();
    history.rise(Monotonic(EPOCH), Monotonic(EPOCH + 1000), 0, 10);
    history.rise(Monotonic(EPOCH + 500), Monotonic(EPOCH + 11_000), 10, 110);
    assert!((increase(&history, EPOCH + 9000, EPOCH + 11_000) - 20.0).abs() < 1e-9);
}

/// Three points that span [`MERGE`] are kept: each of two rises stays where it was. Closer ones are
/// one rise.
#[test]
fn points_a_second_apart_are_kept() {
    for (millis, first) in [(1000, 10.0), (999, 20.0)] {
        let mut history = History::default();
        let (middle, end) = (EPOCH + millis / 2, EPOCH + millis);
        history.rise(Monotonic(EPOCH), Monotonic(middle), 0, 10);
        history.rise(Monotonic(middle), Monotonic(end), 10, 40);
        let got = increase(&history, EPOCH, middle);
        assert!((got - first).abs() < 0.1, "{millis} ms: {got}");
    }
}

/// A pause of [`PAUSE_MIN`] is kept: nothing rose in it. Over a shorter one the next rise is
/// spread.
#[test]
fn pauses_are_kept_from_their_minimum_on() {
    for (pause, in_it) in [(100, 0.0), (99, 1.0)] {
        let mut history = History::default();
        let (begin, end) = (EPOCH + 1000, EPOCH + 1000 + pause);
        history.rise(Monotonic(EPOCH), Monotonic(begin), 0, 10);
        history.rise(Monotonic(end), Monotonic(end + 9900), 10, 110);
        let got = increase(&history, begin, end);
        assert!((got - in_it).abs() < 0.1, "{pause} ms: {got}");
    }
}

/// A rise within no time ends where it is said to, be it the first or a later one.
#[test]
fn a_rise_in_no_time_ends_in_time() {
    let mut history = History::default();
    for (at, total) in [(EPOCH, 10), (EPOCH + 5000, 20)] {
        history.rise(Monotonic(at), Monotonic(at), total - 10, total);
        let got = increase(&history, at - 1, at);
        assert!((got - 10.0).abs() < 1e-9, "{got}");
    }
}

/// A rise in time that is already covered raises the last point, or changes nothing; nothing is
/// lost.
#[test]
fn an_interval_out_of_order_loses_nothing() {
    let mut history = History::default();
    history.rise(Monotonic(EPOCH), Monotonic(EPOCH + 5000), 0, 10);
    for to in [12, 11] {
        history.rise(Monotonic(EPOCH + 1000), Monotonic(EPOCH + 2000), 10, to);
        assert!((increase(&history, EPOCH, EPOCH + 5000) - 12.0).abs() < 1e-9);
    }
}

/// Reports as fast as can be do not make the past longer than its bound, and what is too old goes.
#[test]
fn stays_bounded() {
    let mut history = History::default();
    for n in 0..100_000 {
        let start = Monotonic(EPOCH + n * 7);
        history.rise(start, start + Duration::from_millis(3), n, n + 1);
        assert!(history.points.len() <= POINTS_MAX);
    }
    let oldest = history.points.front().map(|point| point.at);
    let newest = history.points.back().map(|point| point.at);
    let span = newest.unwrap().since(oldest.unwrap());
    assert!(DEPTH <= span && span <= DEPTH + MERGE, "{span:?}");
}

/// Of the points that are too old to be asked for, the newest alone is kept: a line starts there.
#[test]
fn one_point_at_the_horizon_is_kept() {
    let depth = u64::try_from(DEPTH.as_millis()).unwrap();
    for (late, points) in [(0, 3), (1, 4)] {
        let mut history = History::default();
        history.rise(Monotonic(EPOCH - 1000), Monotonic(EPOCH + late), 0, 10);
        let end = EPOCH + depth;
        history.rise(Monotonic(end - 1000), Monotonic(end), 10, 20);
        assert_eq!(history.points.len(), points, "{late} ms within reach");
    }
}

/// All that happened moves with a clock that was mapped anew, later or earlier.
#[test]
fn shifts_all_points() {
    for (millis, begin) in [(500, EPOCH + 500), (-500, EPOCH - 500)] {
        let mut history = History::default();
        history.rise(Monotonic(EPOCH), Monotonic(EPOCH + 1000), 0, 10);
        history.shift(millis);
        let first_half = increase(&history, begin, begin + 500);
        assert!((first_half - 5.0).abs() < 1e-9, "{millis}: {first_half}");
        assert!((increase(&history, 0, begin + 1000) - 10.0).abs() < 1e-9);
    }
}

/// A total that rests costs nothing once its last rise is out of reach.
#[test]
fn forgets_what_is_out_of_reach() {
    let mut history = History::default();
    history.rise(Monotonic(EPOCH), Monotonic(EPOCH + 1000), 0, 10);
    history.forget(Monotonic(EPOCH + 999));
    assert_eq!(history.points.len(), 2);
    history.forget(Monotonic(EPOCH + 1000));
    assert_eq!(history.points.capacity(), 0);
    assert!(increase(&history, EPOCH, EPOCH + 5000).abs() < f64::EPSILON);
}
