//! The table against a naive model, and its limits.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const ROLE: Role = Role::Filter;
const SIDE: Direction = Direction::Inbound;

fn resolve(counters: &mut Counters, cluster: &str, max: usize) -> (SeriesIndex, bool) {
    counters
        .resolve(ROLE, SIDE, cluster, ResponseDetail::Code, max)
        .unwrap()
}

/// Beyond the limit everything goes to "other"; what is known keeps its place.
#[test]
fn the_table_has_a_limit() {
    let mut counters = Counters::default();
    let (a, overflow) = resolve(&mut counters, "a", 2);
    assert!(!overflow);
    assert!(!resolve(&mut counters, "b", 2).1);
    let (other, overflow) = resolve(&mut counters, "c", 2);
    assert!(overflow);
    assert_eq!(counters.get(other).unwrap().key.cluster, OTHER);
    assert_eq!(resolve(&mut counters, "d", 2), (other, true));
    assert_eq!(resolve(&mut counters, "a", 2), (a, false));
    // Each role and direction has its own.
    let (upstream, _) = counters
        .resolve(Role::UpstreamLog, SIDE, "a", ResponseDetail::Off, 3)
        .unwrap();
    assert_ne!(upstream, a);
}

/// Exact statuses beyond the limit are counted by class, and their number is reported.
#[test]
fn statuses_have_a_limit() {
    let mut counters = Counters::default();
    let (index, _) = resolve(&mut counters, "", 1);
    for status in 200..232_u16 {
        counters.respond(index, || Some(status));
    }
    counters.respond(index, || Some(418));
    counters.respond(index, || Some(200));
    counters.respond(index, || Some(999));
    counters.respond(index, || None);
    let series = counters.get(index).unwrap();
    let value = |code| series.value(Counter::Responses(Outcome(code)));
    assert_eq!(value(200), 2);
    assert_eq!(value(231), 1);
    assert_eq!((value(418), value(4)), (0, 1));
    assert_eq!((value(0), value(5)), (1, 1), "999 is a response");
    assert_eq!(counters.refused.code_overflow.value, 1);
}

/// Every response has a class, also one with a status that is none; only what has no response is
/// `none`. A status outside of 100 to 599 is never told exactly, since the wire has no place for
/// it.
#[test]
fn every_response_has_a_class() {
    for (status, class, exact) in [
        (None, 0, false),
        (Some(0), 0, false),
        (Some(1), 5, false),
        (Some(99), 5, false),
        (Some(100), 1, true),
        (Some(101), 1, true),
        (Some(199), 1, true),
        (Some(200), 2, true),
        (Some(499), 4, true),
        (Some(599), 5, true),
        (Some(600), 5, false),
        (Some(999), 5, false),
        (Some(u16::MAX), 5, false),
    ] {
        assert_eq!(Outcome::class(status), Outcome(class), "{status:?}");
        assert_eq!(Outcome::exact(status).is_some(), exact, "{status:?}");
    }
}

/// Where responses do not count, nobody asks for a status.
#[test]
fn the_status_is_asked_for_only_if_it_counts() {
    let mut counters = Counters::default();
    let (index, _) = counters
        .resolve(ROLE, SIDE, "", ResponseDetail::Off, 1)
        .unwrap();
    counters.respond(index, || panic!("asked"));
}

/// What a refused series has pending moves to "other", once.
#[test]
fn refused_series_move_to_other() {
    let mut counters = Counters::default();
    let (index, _) = resolve(&mut counters, "a", 5);
    counters.event(index);
    counters.event(index);
    counters.enter(index, Monotonic(0));
    counters.respond(index, || Some(404));
    counters.iter_mut().for_each(|series| series.refused = true);
    counters.move_refused();
    counters.move_refused();
    let other = counters.other(ROLE, SIDE, ResponseDetail::Code).unwrap();
    let series = counters.get(other).unwrap();
    assert_eq!(series.value(Counter::Events), 2);
    assert_eq!(series.value(Counter::Inflight), 1);
    assert_eq!(series.value(Counter::Responses(Outcome(4))), 1);
    assert_eq!(counters.refused.series_overflow.value, 2);
    // Its end moves too.
    counters.leave(index, Monotonic(0));
    counters.move_refused();
    assert_eq!(counters.get(other).unwrap().value(Counter::Inflight), 0);
    assert!(
        counters
            .iter_mut()
            .filter(|series| series.refused)
            .flat_map(Series::totals_mut)
            .all(|(_, total)| total.pending() == 0)
    );
}

/// What the process has no room for is counted by class from then on.
#[test]
fn refused_statuses_move_to_their_class() {
    let mut counters = Counters::default();
    let (index, _) = resolve(&mut counters, "a", 5);
    counters.respond(index, || Some(404));
    counters
        .iter_mut()
        .for_each(|series| series.refuse_code(404));
    counters.move_refused();
    counters.respond(index, || Some(404));
    counters.move_refused();
    let series = counters.get(index).unwrap();
    assert_eq!(series.value(Counter::Responses(Outcome(4))), 2);
    assert_eq!(counters.refused.code_overflow.value, 2);
}

#[derive(Clone, Debug)]
enum Step {
    Enter(u16),
    Leave(u16),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u16..3).prop_map(Step::Enter),
        (0_u16..3).prop_map(Step::Leave),
        (0_u64..1_000_000).prop_map(Step::Pass),
    ]
}

proptest! {
    /// The integral is the sum of the times that requests were in flight, whenever it is brought
    /// forward.
    #[test]
    fn the_integral_is_the_sum_of_durations(steps in proptest::collection::vec(step(), 0..80)) {
        let mut counters = Counters::default();
        for cluster in ["a", "b", "c"] {
            resolve(&mut counters, cluster, 3);
        }
        let mut now = 5_000_u64;
        let mut open: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        let mut sums = [0_u64; 3];
        for step in steps {
            match step {
                Step::Enter(at) => {
                    counters.enter(SeriesIndex(at), Monotonic(now));
                    open.entry(at).or_default().push(now);
                }
                Step::Leave(at) => {
                    if let Some(begun) = open.entry(at).or_default().pop() {
                        counters.leave(SeriesIndex(at), Monotonic(now));
                        sums[usize::from(at)] += now - begun;
                    }
                }
                Step::Pass(nanos) => {
                    now += nanos;
                    counters.advance(Monotonic(now));
                }
            }
        }
        counters.advance(Monotonic(now));
        for at in 0..3_u16 {
            let running: u64 = open.get(&at).into_iter().flatten().map(|begun| now - begun).sum();
            let series = counters.get(SeriesIndex(at)).unwrap();
            let in_flight = open.get(&at).map_or(0, Vec::len) as u64;
            prop_assert_eq!(series.value(Counter::Inflight), in_flight);
            prop_assert_eq!(series.value(Counter::InflightNanos), sums[usize::from(at)] + running);
        }
    }
}
