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
        clock.observe(at(second), behind(at(second), skew + delay), None);
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
    clock.observe(NOW, behind(at(90), 0), None);
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
            let change = clock.observe(at(second), theirs(second, 0), after);
            assert_eq!(change, Change::Adjusted(0));
        }
        let change = clock.observe(at(10), theirs(10, step), Some(at(9)));
        assert_eq!(change, Change::Stepped, "{step}");
        assert_eq!(clock.map(theirs(11, step)), Some(at(11)), "{step}");
    }
}

/// A first frame that was late mapped time too late; what was mapped by it moves with the first
/// that is not.
#[test]
fn a_late_first_frame_heals() {
    let mut clock = SidecarClock::default();
    clock.observe(at(2), behind(at(0), 0), None);
    let change = clock.observe(at(3), behind(at(3), 0), Some(at(2)));
    assert_eq!(change, Change::Adjusted(-2000));
}

/// A late frame after a long silence does not shift time; what was known before fades once there is
/// more to go by.
#[test]
fn a_silence_is_bridged() {
    let mut clock = SidecarClock::default();
    clock.observe(NOW, behind(NOW, 0), None);
    clock.observe(at(600), behind(at(600), 9000), None);
    assert_eq!(clock.map(behind(at(600), 0)), Some(at(600)));
    for second in [620, 631] {
        clock.observe(at(second), behind(at(second), 250), None);
    }
    assert_eq!(clock.map(behind(at(640), 250)), Some(at(640)));
}
