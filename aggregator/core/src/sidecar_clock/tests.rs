use super::*;

/// Now, on the aggregator's clock.
const NOW: Monotonic = Monotonic(1_800_000_000_000);

fn at(seconds: u64) -> Monotonic {
    NOW + Duration::from_secs(seconds)
}

/// On the sidecar's clock, which is `ms` behind ours.
fn behind(time: Monotonic, ms: u64) -> UnixMillis {
    UnixMillis(time.0 - ms)
}

/// Nothing is mapped before anything was observed.
#[test]
fn knows_nothing_at_first() {
    assert_eq!(SidecarClock::default().map(behind(NOW, 0)), None);
}

/// Frames that take 5 to 500 ms: the quickest one tells the difference of the clocks, and a slow
/// one does not shift time.
#[test]
fn a_delayed_frame_does_not_shift_time() {
    let mut clock = SidecarClock::default();
    let skew = 7_200_000;
    for (second, delay) in [(0, 40), (1, 5), (2, 500), (3, 60)] {
        clock.observe(
            at(second),
            behind(at(second), skew + delay),
            None,
            Duration::ZERO,
        );
    }
    assert_eq!(
        clock.map(behind(at(4), skew)),
        Some(at(4) + Duration::from_millis(5))
    );
}

/// A sidecar's clock that is ahead is mapped back.
#[test]
fn a_clock_ahead_is_mapped_back() {
    let mut clock = SidecarClock::default();
    clock.observe(NOW, behind(at(90), 0), None, Duration::ZERO);
    assert_eq!(clock.map(behind(at(95), 0)), Some(at(5)));
}

/// A clock that is set, either way, is noticed with the next report, which was made after the last
/// one had arrived.
#[test]
fn steps_are_noticed() {
    for step in [-3_600_000_i64, -2000, 2000, 3_600_000] {
        let mut clock = SidecarClock::default();
        let theirs = |second: u64, step: i64| {
            UnixMillis(at(second).0.checked_add_signed(step).unwrap() + 7_200_000)
        };
        for second in 0..10_u64 {
            let after = second.checked_sub(1).map(at);
            let change = clock.observe(at(second), theirs(second, 0), after, Duration::ZERO);
            assert_eq!(change, Change::Adjusted(0));
        }
        let change = clock.observe(at(10), theirs(10, step), Some(at(9)), Duration::ZERO);
        assert_eq!(change, Change::Stepped, "{step}");
        assert_eq!(clock.map(theirs(11, step)), Some(at(11)), "{step}");
    }
}

/// A first frame that was late mapped time too late; what was mapped by it moves with the first
/// that is not.
#[test]
fn a_late_first_frame_heals() {
    let mut clock = SidecarClock::default();
    clock.observe(at(2), behind(at(0), 0), None, Duration::ZERO);
    let change = clock.observe(at(3), behind(at(3), 0), Some(at(2)), Duration::ZERO);
    assert_eq!(change, Change::Adjusted(-2000));
}

/// A late frame after a long silence does not shift time; what was known before fades once there is
/// more to go by.
#[test]
fn a_silence_is_bridged() {
    let mut clock = SidecarClock::default();
    clock.observe(NOW, behind(NOW, 0), None, Duration::ZERO);
    clock.observe(at(600), behind(at(600), 9000), None, Duration::ZERO);
    assert_eq!(clock.map(behind(at(600), 0)), Some(at(600)));
    for second in [620, 631] {
        clock.observe(at(second), behind(at(second), 250), None, Duration::ZERO);
    }
    assert_eq!(clock.map(behind(at(640), 250)), Some(at(640)));
}

/// One frame a second in the order of `ways`: how long each took, and how long the replica says
/// that it may have waited, in milliseconds.
fn observe_all(ways: &[(u64, u64)]) -> (SidecarClock, i64) {
    let (mut clock, mut moved) = (SidecarClock::default(), 0);
    for (second, (way, waited)) in (0..).zip(ways) {
        let waited = Duration::from_millis(*waited);
        let change = clock.observe(at(second), behind(at(second), *way), None, waited);
        match change {
            Change::Adjusted(millis) if second > 0 => moved += millis,
            Change::Adjusted(_) => {}
            Change::Stepped => panic!("no clock was set"),
        }
    }
    (clock, moved)
}

/// By how much what is made now is mapped too late, in milliseconds.
fn late_by(clock: &SidecarClock) -> i64 {
    signed(clock.map(behind(NOW, 0)).unwrap().0) - signed(NOW.0)
}

/// Frames that all waited three seconds map nothing too late if that is known, and as before if
/// not.
#[test]
fn a_known_wait_is_taken_off() {
    let (clock, _) = observe_all(&[(3000, 3000); 20]);
    assert_eq!(late_by(&clock), 0);
    let (clock, _) = observe_all(&[(3000, 0); 20]);
    assert_eq!(late_by(&clock), 3000);
}

/// The first frame that did not wait puts right what was taken off too much, and moves what was
/// mapped before along.
#[test]
fn a_frame_that_did_not_wait_puts_it_right() {
    let (clock, moved) = observe_all(&[(5, 3000), (5, 3000)]);
    assert_eq!((late_by(&clock), moved), (5 - 3000, 0));
    let (clock, moved) = observe_all(&[(5, 3000), (5, 3000), (7, 0)]);
    assert_eq!((late_by(&clock), moved), (5, 3000));
}

proptest::proptest! {
    /// Where each frame waited no longer than is said, nothing is mapped later than the quickest
    /// way outside of the replica; where one did not wait, exactly by the quickest frame, as if
    /// nothing had been said of waiting.
    #[test]
    fn never_younger_than_it_is(frames in proptest::collection::vec((5_u64..60, 0_u64..4000, 0_u64..2000), 1..25)) {
        let ways: Vec<(u64, u64)> = frames.iter().map(|(way, waits, more)| (way + waits, waits + more)).collect();
        let (clock, _) = observe_all(&ways);
        proptest::prop_assert!(late_by(&clock) <= 60, "{}", late_by(&clock));
        let mut calm = ways;
        calm.push((30, 0));
        let quickest = calm.iter().map(|(way, _)| *way).min().unwrap();
        let (clock, _) = observe_all(&calm);
        proptest::prop_assert_eq!(late_by(&clock), i64::try_from(quickest).unwrap());
    }
}
