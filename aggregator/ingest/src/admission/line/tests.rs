use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const BEGIN: Monotonic = Monotonic(1_000_000);

fn after(millis: u64) -> Monotonic {
    Monotonic(BEGIN.0 + millis)
}

fn line(at_once: usize, waiting: usize) -> Line {
    Line::new(LineLimits { at_once, waiting })
}

fn entered(answer: Answer) -> Ticket {
    match answer {
        Answer::Enter(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn waits(answer: Answer) -> Ticket {
    match answer {
        Answer::Wait(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn comes_back(answer: Answer) -> Duration {
    match answer {
        Answer::ComeBack(after) => after,
        other => panic!("{other:?}"),
    }
}

/// So many begin at once, so many wait, in the order in which they came; the others come back.
#[test]
fn first_come_first_in() {
    let mut line = line(2, 3);
    let [one, _two] = [0, 0].map(|_| entered(line.arrive(BEGIN, None, 0)));
    let [three, four] = [0, 0].map(|_| waits(line.arrive(BEGIN, None, 0)));
    assert_eq!(line.ask(BEGIN, three, 0), Answer::Wait(three));
    line.leave(one);
    assert_eq!(line.ask(BEGIN, four, 0), Answer::Wait(four));
    // One that comes now does not pass those that wait.
    let five = waits(line.arrive(BEGIN, None, 0));
    comes_back(line.arrive(BEGIN, None, 0));
    assert_eq!((line.inside(), line.waiting()), (1, 3));
    assert_eq!(line.ask(BEGIN, three, 0), Answer::Enter(three));
    // Who gives up while it waits makes room for the next.
    line.leave(four);
    line.leave(three);
    assert_eq!(line.ask(BEGIN, five, 0), Answer::Enter(five));
}

/// Nobody waits for longer than the deadline; who is inside and says nothing makes room sooner.
#[test]
fn nobody_waits_for_ever() {
    let mut line = line(1, 2);
    let silent = entered(line.arrive(BEGIN, None, 0));
    let next = waits(line.arrive(after(10), None, 0));
    let last = waits(line.arrive(after(20), None, 0));
    assert_eq!(line.ask(after(999), next, 0), Answer::Wait(next));
    assert_eq!(line.ask(after(1000), next, 0), Answer::Enter(next));
    // Its end is told later; the place is not given away twice.
    line.leave(silent);
    assert_eq!(line.ask(after(1990), last, 0), Answer::Wait(last));
    assert_eq!(line.inside(), 1);
    line.inside.insert(
        next,
        Place {
            address: None,
            since: after(2000),
        },
    );
    assert_eq!(line.ask(after(2019), last, 0), Answer::Wait(last));
    comes_back(line.ask(after(2020), last, 0));
    assert_eq!(line.waiting(), 0);
}

/// One address has a quarter of the places; others find room beside it.
#[test]
fn one_address_does_not_fill_the_line() {
    let mut line = line(4, 4);
    let [flood, other] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().ok());
    let held = [0, 0].map(|_| entered(line.arrive(BEGIN, flood, 0)));
    for _ in 0..100 {
        comes_back(line.arrive(BEGIN, flood, 0));
    }
    entered(line.arrive(BEGIN, other, 0));
    line.leave(held[0]);
    entered(line.arrive(BEGIN, flood, 0));
    comes_back(line.arrive(BEGIN, flood, 0));
}

/// Ten thousand that come at once are told to come back at the pace at which streams are taken in,
/// as long as that is within the longest time.
#[test]
fn times_to_come_back_follow_the_pace() {
    let mut line = line(1, 0);
    // A thousand were taken in within the last second.
    for millis in 0..1000 {
        let ticket = entered(line.arrive(after(millis), None, 0));
        line.leave(ticket);
    }
    entered(line.arrive(after(1000), None, 0));
    let mut due: Vec<u64> = (0_u64..3000)
        .map(|stream| {
            let random = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            u64::try_from(comes_back(line.arrive(after(1000), None, random)).as_millis()).unwrap()
        })
        .collect();
    due.sort_unstable();
    // Nobody sooner than half a second, and in no second more than twice the pace.
    assert!(due[0] >= 500, "{}", due[0]);
    for begin in (500..4000).step_by(250) {
        let come = due
            .iter()
            .filter(|at| (begin..begin + 1000).contains(*at))
            .count();
        assert!(come <= 2000, "{come} come back from {begin} ms on");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Arrive { address: Option<u8>, random: u64 },
    Ask { which: usize },
    Leave { which: usize },
    Later { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop::option::of(0_u8..3), any::<u64>()).prop_map(|(address, random)| Step::Arrive { address, random }),
        3 => any::<usize>().prop_map(|which| Step::Ask { which }),
        2 => any::<usize>().prop_map(|which| Step::Leave { which }),
        2 => (0_u64..1500).prop_map(|millis| Step::Later { millis }),
    ]
}

proptest! {
    /// Whatever happens in whatever order: limits hold, times to come back are within theirs, who
    /// has left is forgotten, and an empty line takes in whoever comes.
    #[test]
    fn limits_hold(at_once in 1_usize..5, waiting in 0_usize..6, steps in prop::collection::vec(step(), 0..200)) {
        let mut line = line(at_once, waiting);
        let mut now = BEGIN;
        let mut known: Vec<Ticket> = Vec::new();
        let mut let_in = BTreeSet::new();
        let pick = |known: &[Ticket], which: usize| (!known.is_empty()).then(|| known[which % known.len()]);
        for step in steps {
            let answer = match step {
                Step::Arrive { address, random } => {
                    let address = address.map(|last| IpAddr::from([10, 0, 0, last]));
                    Some(line.arrive(now, address, random))
                }
                // Only those ask that wait.
                Step::Ask { which } => pick(&known, which)
                    .filter(|ticket| !let_in.contains(ticket))
                    .map(|ticket| line.ask(now, ticket, 7)),
                Step::Leave { which } => {
                    if let Some(ticket) = pick(&known, which) {
                        line.leave(ticket);
                        known.retain(|other| *other != ticket);
                    }
                    None
                }
                Step::Later { millis } => {
                    now = now + Duration::from_millis(millis);
                    None
                }
            };
            match answer {
                Some(Answer::Enter(ticket)) => {
                    let_in.insert(ticket);
                    known.push(ticket);
                }
                Some(Answer::Wait(ticket)) => known.push(ticket),
                Some(Answer::ComeBack(after)) => prop_assert!((RETRY_MIN..=RETRY_MAX).contains(&after), "{after:?}"),
                None => {}
            }
            known.sort_unstable();
            known.dedup();
            prop_assert!(line.inside() <= at_once && line.waiting() <= waiting);
            let places = line.inside.values().chain(line.waiting.values());
            let counted: usize = line.by_address.values().sum();
            prop_assert_eq!(places.filter(|place| place.address.is_some()).count(), counted);
        }
        for ticket in known {
            line.leave(ticket);
        }
        let waiting: Vec<Ticket> = line.waiting.keys().copied().collect();
        for ticket in waiting {
            line.leave(ticket);
        }
        line.inside.clear();
        line.by_address.clear();
        prop_assert!(matches!(line.arrive(now, None, 0), Answer::Enter(_)));
    }
}
