use super::*;

/// Now, on the aggregator's clock.
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn at(seconds: u64) -> UnixMillis {
    NOW + Duration::from_secs(seconds)
}

fn behind(time: UnixMillis, ms: u64) -> UnixMillis {
    time.before(Duration::from_millis(ms))
}

/// Nothing is mapped before anything was observed.
#[test]
fn knows_nothing_at_first() {
    assert_eq!(SidecarClock::default().map(NOW), None);
}

/// Frames that take 5 to 500 ms: the quickest one tells the difference of the clocks, and a slow one does not
/// shift time.
#[test]
fn a_delayed_frame_does_not_shift_time() {
    let mut clock = SidecarClock::default();
    let skew = 7_200_000;
    for (second, delay) in [(0, 40), (1, 5), (2, 500), (3, 60)] {
        clock.observe(at(second), behind(at(second), skew + delay));
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
    clock.observe(NOW, at(90));
    assert_eq!(clock.map(at(95)), Some(at(5)));
}

/// A clock that is set back heals within two spans, one that is set forward at once.
#[test]
fn steps_heal() {
    let mut clock = SidecarClock::default();
    for second in 0..40 {
        clock.observe(at(second), at(second));
    }
    for second in 40..101 {
        clock.observe(at(second), behind(at(second), 3000));
    }
    assert_eq!(clock.map(behind(at(101), 3000)), Some(at(101)));
    clock.observe(at(102), at(102) + Duration::from_secs(9));
    assert_eq!(clock.map(at(112)), Some(at(103)));
}

/// A late frame after a long silence does not shift time; what was known before fades once there is more to go by.
#[test]
fn a_silence_is_bridged() {
    let mut clock = SidecarClock::default();
    clock.observe(NOW, NOW);
    clock.observe(at(600), behind(at(600), 9000));
    assert_eq!(clock.map(at(600)), Some(at(600)));
    for second in [620, 631] {
        clock.observe(at(second), behind(at(second), 250));
    }
    assert_eq!(clock.map(behind(at(640), 250)), Some(at(640)));
}

/// After a restart only new frames count.
#[test]
fn restarts() {
    let mut clock = SidecarClock::default();
    clock.observe(NOW, at(10));
    clock.restart();
    assert_eq!(clock.map(NOW), None);
    clock.observe(NOW, NOW);
    assert_eq!(clock.map(at(1)), Some(at(1)));
}
