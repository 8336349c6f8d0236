//! Schedule of flushes, by a wall clock that may be set.
//!
//! Times are Unix milliseconds. Flushes are aligned to the interval. A clock that is set back by
//! more than an interval changes only timestamps: written samples cannot be withdrawn, and waiting
//! until the clock has passed them would be a gap as long as the step.

/// The next flush after `now`; after `last`, if the clock was set back by less than an interval.
pub(super) fn next_flush(now: i64, interval: i64, last: i64) -> i64 {
    let after = |moment: i64| (moment.div_euclid(interval) + 1) * interval;
    let aligned = after(now);
    if last >= aligned && last - aligned < interval {
        after(last)
    } else {
        aligned
    }
}

/// The timestamp of the flush due at `next`, after waiting for it; `None` if the clock was set back
/// meanwhile; the last aligned time if it was set forward.
pub(super) fn due(now: i64, interval: i64, next: i64) -> Option<i64> {
    if now < next {
        return None;
    }
    Some(if now - next >= interval {
        now.div_euclid(interval) * interval
    } else {
        next
    })
}

/// The timestamp of the final flush.
pub(super) fn ending(now: i64, interval: i64, last: i64) -> i64 {
    if last >= now && last - now < interval {
        last + 1
    } else {
        now
    }
}

#[cfg(test)]
mod tests {
    use super::{due, ending, next_flush};

    const INTERVAL: i64 = 15_000;

    #[test]
    fn flushes_are_aligned() {
        assert_eq!(next_flush(30_001, INTERVAL, 30_000), 45_000);
        assert_eq!(next_flush(45_000, INTERVAL, 45_000), 60_000);
        assert_eq!(due(45_003, INTERVAL, 45_000), Some(45_000));
    }

    /// However far the clock is set, the next flush is at most two intervals away, and never the
    /// last one again.
    #[test]
    fn a_step_of_the_clock_silences_nobody() {
        for now in (0..400_000).step_by(777) {
            for last in [0, 30_000, 44_321, 200_000, 3_900_000] {
                let next = next_flush(now, INTERVAL, last);
                assert!(next > now && next - now <= 2 * INTERVAL, "{now} {last}");
                assert_ne!(next, last);
                let ended = ending(now, INTERVAL, last);
                assert!(
                    ended != last && (now..=now + INTERVAL).contains(&ended),
                    "{now} {last}"
                );
            }
        }
    }

    #[test]
    fn a_step_while_it_is_waited_for_is_seen() {
        // Back: wait again. A little forward: it is late. Far forward: it is now.
        assert_eq!(due(40_000, INTERVAL, 45_000), None);
        assert_eq!(due(59_999, INTERVAL, 45_000), Some(45_000));
        assert_eq!(due(3_645_100, INTERVAL, 45_000), Some(3_645_000));
    }
}
