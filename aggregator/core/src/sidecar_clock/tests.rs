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
    clock.observe(NOW, behind(at(90), 0));
    assert_eq!(clock.map(behind(at(95), 0)), Some(at(5)));
}

/// A clock that is set back heals within two spans, one that is set forward at once.
#[test]
fn steps_heal() {
    let mut clock = SidecarClock::default();
    for second in 0..40 {
        clock.observe(at(second), behind(at(second), 0));
    }
    for second in 40..101 {
        clock.observe(at(second), behind(at(second), 3000));
    }
    assert_eq!(clock.map(behind(at(101), 3000)), Some(at(101)));
    clock.observe(at(102), behind(at(111), 0));
    assert_eq!(clock.map(behind(at(112), 0)), Some(at(103)));
}

/// A late frame after a long silence does not shift time; what was known before fades once there is more to go by.
#[test]
fn a_silence_is_bridged() {
    let mut clock = SidecarClock::default();
    clock.observe(NOW, behind(NOW, 0));
    clock.observe(at(600), behind(at(600), 9000));
    assert_eq!(clock.map(behind(at(600), 0)), Some(at(600)));
    for second in [620, 631] {
        clock.observe(at(second), behind(at(second), 250));
    }
    assert_eq!(clock.map(behind(at(640), 250)), Some(at(640)));
}

/// After a restart only new frames count.
#[test]
fn restarts() {
    let mut clock = SidecarClock::default();
    clock.observe(NOW, behind(at(10), 0));
    clock.restart();
    assert_eq!(clock.map(behind(NOW, 0)), None);
    clock.observe(NOW, behind(NOW, 0));
    assert_eq!(clock.map(behind(at(1), 0)), Some(at(1)));
}
