//! The rate limiter against receivers with a limit of their own.

use super::RateLimiter;

/// Sends as fast as it may for `seconds`, `batch` samples a request, to a receiver that takes
/// `limit` a second. Returns samples taken and requests refused.
fn run(limiter: &mut RateLimiter, from: f64, seconds: f64, batch: u32, limit: f64) -> (f64, u32) {
    let (mut now, mut taken, mut refused) = (from, 0.0, 0);
    let mut bucket = limit;
    while now < from + seconds {
        let wait = limiter.admit(now, batch, false);
        let step = if wait > 0.0 { wait } else { 0.02 };
        if wait <= 0.0 {
            if bucket >= f64::from(batch) {
                bucket -= f64::from(batch);
                taken += f64::from(batch);
            } else {
                refused += 1;
                limiter.refused(now);
            }
        }
        bucket = (bucket + limit * step).min(limit);
        now += step;
    }
    (taken, refused)
}

#[test]
fn there_is_no_limit_before_the_first_refusal() {
    let mut limiter = RateLimiter::new(0.0);
    for _ in 0..1_000 {
        assert!(limiter.admit(0.0, 2_000, false) <= 0.0);
    }
    assert_eq!(limiter.rate(false), None);
}

#[test]
fn it_settles_near_what_the_receiver_takes() {
    let mut limiter = RateLimiter::new(0.0);
    run(&mut limiter, 0.0, 60.0, 500, 5_000.0);
    let (taken, refused) = run(&mut limiter, 60.0, 600.0, 500, 5_000.0);
    assert!(taken > 600.0 * 5_000.0 * 0.5, "taken {taken}");
    assert!(refused < 60, "refused {refused} times in ten minutes");
}

#[test]
fn refusals_of_shards_that_were_refused_together_count_once() {
    let mut limiter = RateLimiter::new(0.0);
    limiter.pushed(1.0, 100_000);
    for shard in 0..8 {
        limiter.refused(1.0 + f64::from(shard) * 0.01);
    }
    let once = limiter.rate(false).unwrap();
    limiter.refused(3.0);
    assert!(limiter.rate(false).unwrap() < once * 0.6);
}

#[test]
fn catching_up_goes_at_twice_the_live_rate() {
    let mut limiter = RateLimiter::new(0.0);
    let mut now = 0.0;
    for _ in 0..40 {
        now += 15.0;
        limiter.pushed(now, 15_000);
    }
    let begin = now;
    let mut sent = 0;
    while now < begin + 100.0 {
        let wait = limiter.admit(now, 500, true);
        if wait <= 0.0 {
            sent += 500;
        }
        now += wait.max(0.001);
    }
    assert!(
        (180_000..=220_000).contains(&sent),
        "{sent} in 100 s at 1,000 a second live"
    );
}

#[test]
fn a_limit_is_forgotten_when_it_is_grown_out_of() {
    let mut limiter = RateLimiter::new(0.0);
    limiter.pushed(1.0, 100_000);
    limiter.refused(1.0);
    assert!(limiter.rate(false).is_some());
    limiter.admit(2_000.0, 1, false);
    assert_eq!(limiter.rate(false), None);
}
