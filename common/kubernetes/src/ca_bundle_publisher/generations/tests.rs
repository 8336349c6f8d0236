use super::*;

fn pair(name: &str) -> Pair {
    Pair {
        certificate: format!("certificate {name}"),
        key: format!("key {name}"),
    }
}

/// Waits as replicas do that look every `step`, without one for `without` in between; returns each
/// change of what is published with the moment of it.
fn course(mut held: Generations, step: Duration, until: Duration) -> Vec<(Duration, Vec<String>)> {
    let (mut now, mut unchanged) = (Duration::ZERO, Duration::ZERO);
    let names = |held: &Generations| held.certificates().map(str::to_owned).collect::<Vec<_>>();
    let mut told = vec![(now, names(&held))];
    while now < until {
        now += step;
        unchanged += step;
        if let Some(moved) = held.after(unchanged) {
            if names(&moved) != names(&held) {
                told.push((now, names(&moved)));
            }
            held = moved;
            unchanged = Duration::ZERO;
        }
    }
    told
}

/// Published beside the old one for ten minutes, then it signs; the old one goes a day later.
#[test]
fn one_takes_the_place_of_the_other() {
    let held = Generations::new(pair("old")).rotated(|| pair("new"));
    assert_eq!(held.bundle(), "certificate old\ncertificate new\n");
    let told = course(held, Duration::from_secs(15), Duration::from_hours(48));
    let at: Vec<_> = told.iter().map(|(at, _)| *at).collect();
    assert_eq!(
        at,
        [Duration::ZERO, PUBLISHED_FOR, PUBLISHED_FOR + KEPT_FOR]
    );
    assert_eq!(told[0].1, ["certificate old", "certificate new"]);
    assert_eq!(told[1].1, ["certificate new", "certificate old"]);
    assert_eq!(told[2].1, ["certificate new"]);
}

/// Nothing is written where nothing is waited for.
#[test]
fn nothing_happens_by_itself() {
    let held = Generations::new(pair("only"));
    assert_eq!(held.after(Duration::from_hours(10_000)), None);
}

/// To ask twice is to ask once: who is waited for stays, and the time too.
#[test]
fn a_second_demand_changes_nothing() {
    let held = Generations::new(pair("old")).rotated(|| pair("new"));
    let later = held.after(Duration::from_mins(4)).unwrap();
    assert_eq!(later.rotated(|| pair("other")), later);
}

/// A rotation while the one before is still kept: nobody's CA is dropped before its time, and there
/// is a bound.
#[test]
fn rotations_overlap() {
    let mut held = Generations::new(pair("0"));
    for number in 1..=6 {
        held = held.rotated(|| pair(&number.to_string()));
        held = held.after(PUBLISHED_FOR).unwrap();
        assert_eq!(held.signing, pair(&number.to_string()));
        assert!(held.publishes(&format!("certificate {}", number - 1)));
        assert!(held.certificates().count() <= 1 + FORMER_MAX);
    }
    let dropped = held.after(KEPT_FOR).unwrap();
    assert_eq!(dropped, Generations::new(pair("6")));
}

/// What somebody shows who was not asked is published on, once.
#[test]
fn what_is_shown_is_kept() {
    let held = Generations::new(pair("foreign"));
    let kept = held.keeping("certificate ours\n");
    assert!(kept.publishes("certificate ours"));
    assert_eq!(kept.keeping("certificate ours"), kept);
    assert_eq!(kept.after(KEPT_FOR).unwrap(), held);
}

/// What a replica does in one minute of the simulation.
#[derive(Clone, Copy, Debug)]
struct Replica {
    /// What it saw last in the secret, and for how long.
    saw: Option<(u64, Duration)>,
}

/// Several replicas that restart at random and note in the same secret: the time noted is never
/// more than what passed while anyone was there, so nobody switches too early, and it ends all the
/// same.
#[test]
fn no_replica_hurries_another() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for run in 0..300 {
        let count = 1 + next(3);
        let mut replicas: Vec<_> = (0..count).map(|_| Replica { saw: None }).collect();
        let mut held = Generations::new(pair("old")).rotated(|| pair("new"));
        let (mut version, mut now) = (0_u64, Duration::ZERO);
        while held.next.is_some() {
            let step = Duration::from_secs(1 + next(20));
            now += step;
            assert!(now < Duration::from_hours(4), "run {run} does not end");
            for replica in &mut replicas {
                if let Some((_, unchanged)) = &mut replica.saw {
                    *unchanged += step;
                }
                // One that is down for a while knows nothing when it is back.
                if next(60) == 0 {
                    replica.saw = None;
                    continue;
                }
                let unchanged = match replica.saw {
                    Some((saw, unchanged)) if saw == version => unchanged,
                    _ => Duration::ZERO,
                };
                replica.saw = Some((version, unchanged));
                if let Some(moved) = held.after(unchanged) {
                    held = moved;
                    version += 1;
                    replica.saw = Some((version, Duration::ZERO));
                }
            }
            if held.next.is_some() {
                assert!(held.waited <= now, "run {run}");
            } else {
                assert!(now >= PUBLISHED_FOR, "run {run}: switched after {now:?}");
            }
        }
    }
}
