use proptest::prelude::*;

use super::*;
use crate::query::WINDOWS;

/// The windows of one pod whose rate was `before` and has been `after` for the last `since` seconds.
fn step(before: f64, after: f64, since: f64) -> Vec<Candidate> {
    WINDOWS
        .iter()
        .map(|length| {
            let seconds = length.as_secs_f64();
            let new = seconds.min(since);
            Candidate {
                requests: after * new + before * (seconds - new),
                seconds,
            }
        })
        .collect()
}

fn chosen_seconds(candidates: &[Candidate]) -> u64 {
    WINDOWS[choose(candidates, None).index].as_secs()
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
        let candidates = step(rate, rate, 0.0);
        assert_eq!(chosen_seconds(&candidates), seconds, "{rate}/s");
    }
}

/// Twice the load in quiet traffic shows within two seconds, in the window that holds the new load only, and
/// in a longer one once there is more of it.
#[test]
fn a_step_up_is_seen_at_once() {
    assert_eq!(chosen_seconds(&step(30.0, 60.0, 0.5)), 15);
    assert_eq!(chosen_seconds(&step(30.0, 60.0, 2.0)), 2);
    assert_eq!(chosen_seconds(&step(30.0, 60.0, 5.0)), 5);
    assert_eq!(chosen_seconds(&step(30.0, 60.0, 10.0)), 10);
    assert_eq!(chosen_seconds(&step(10.0, 100.0, 2.0)), 2);
}

/// Traffic that stops is seen to stop, as soon as there were enough requests to miss.
#[test]
fn a_step_down_is_seen_at_once() {
    assert_eq!(chosen_seconds(&step(30.0, 0.0, 2.0)), 2);
    assert_eq!(chosen_seconds(&step(3.0, 0.0, 2.0)), 60);
    assert_eq!(chosen_seconds(&step(3.0, 0.0, 15.0)), 15);
}

/// A page load on an idle service is not read as a rate.
#[test]
fn a_few_requests_prove_nothing() {
    let burst = |requests| -> Vec<Candidate> {
        let window = |length: &std::time::Duration| Candidate {
            requests,
            seconds: length.as_secs_f64(),
        };
        WINDOWS.iter().map(window).collect()
    };
    assert_eq!(chosen_seconds(&burst(HANDFUL - 1.0)), 60);
    assert_eq!(chosen_seconds(&burst(HANDFUL)), 2);
}

/// Pods so young that all windows are the same, and no pods at all, are no trouble.
#[test]
fn windows_that_are_all_the_same() {
    let young = Candidate {
        requests: 50.0,
        seconds: 1.5,
    };
    assert_eq!(choose(&[young; 6], None).index, 5);
    assert_eq!(choose(&[Candidate::default(); 6], None).index, 5);
    assert_eq!(choose(&[], None).index, 0);
}

/// Requests that come by chance at a steady rate: the window differs from the one for even traffic at most once
/// in a thousand looks (a fixed seed, so that it is always the same thousand).
#[test]
fn chance_is_not_taken_for_news() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = || {
        // xorshift64*: 53 of its bits as a number between 0 and 1.
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        let bits = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        (crate::history::float(bits) + 0.5) / crate::history::float(1 << 53)
    };
    let mut alarms = 0;
    for _ in 0..1000 {
        // Ten requests per second, waiting times exponential, counted backwards from now.
        let (mut ago, mut counts) = (0.0, [0.0; 6]);
        while ago < 60.0 {
            ago -= f64::ln(uniform()) / 10.0;
            for (count, length) in counts.iter_mut().zip(WINDOWS) {
                if ago < length.as_secs_f64() {
                    *count += 1.0;
                }
            }
        }
        let windows = counts.iter().zip(WINDOWS);
        let candidates: Vec<_> = windows
            .map(|(requests, length)| Candidate {
                requests: *requests,
                seconds: length.as_secs_f64(),
            })
            .collect();
        alarms += usize::from(chosen_seconds(&candidates) < 30);
    }
    assert!(alarms <= 1, "{alarms} in 1000");
}

proptest! {
    /// Whatever the windows hold: the choice is one of them, never longer than needed.
    #[test]
    fn chooses_one_of_them(rises in prop::collection::vec(0.0..1e6f64, 6)) {
        let mut requests = 0.0;
        let candidates: Vec<_> = rises
            .iter()
            .zip(WINDOWS)
            .map(|(rise, length)| {
                requests += rise;
                Candidate { requests, seconds: length.as_secs_f64() }
            })
            .collect();
        let chosen = choose(&candidates, None).index;
        let needed = candidates.iter().position(|c| c.requests >= ENOUGH).unwrap_or(5);
        prop_assert!(chosen <= needed);
    }
}

/// While a step is remembered no window reaches back over it, even where chance hides the step for a moment.
#[test]
fn a_remembered_step_holds_the_window_short() {
    let quiet = step(5.0, 5.0, 60.0);
    assert_eq!(choose(&quiet, None).index, 5);
    for longest in 0..5 {
        let choice = choose(&quiet, Some(longest));
        assert_eq!((choice.index, choice.is_short), (longest, true));
    }
    let busy = step(500.0, 500.0, 60.0);
    let choice = choose(&busy, Some(4));
    assert_eq!(
        (choice.index, choice.is_short),
        (0, false),
        "enough requests end it"
    );
}
