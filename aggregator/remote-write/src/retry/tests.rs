//! The rules of the specification and of AMP, case by case.

use std::time::Duration;

use super::{Next, Retry};
use crate::write_response::{Class, WriteResponse};

fn status(code: u16) -> WriteResponse {
    WriteResponse::Status {
        code,
        retry_after: None,
        body: String::new(),
        written: None,
    }
}

fn after(next: Next) -> Duration {
    match next {
        Next::Resend { after, .. } | Next::Probe(after) => after,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_answered_for_good_is_done() {
    for (code, class) in [
        (204, Class::Stored),
        (202, Class::Deduplicated),
        (400, Class::Rejected),
        (422, Class::Rejected),
    ] {
        assert_eq!(
            Retry::default().next(&status(code), 9, false, 0.5),
            Next::Done(class)
        );
    }
}

/// The compliance suite: each wait is at least 0.8 of the one before, and none is over a minute.
#[test]
fn waits_grow_and_stay_bounded_whatever_the_jitter() {
    for code in [500, 503, 429, 403, 404] {
        for (low, high) in [(0.0, 1.0), (1.0, 0.0), (0.5, 0.5)] {
            let mut retry = Retry::default();
            let mut last = Duration::ZERO;
            for round in 0..40 {
                let jitter = if round % 2 == 0 { low } else { high };
                let wait = after(retry.next(&status(code), 1, false, jitter));
                assert!(wait >= last.mul_f64(0.8), "{code}: {wait:?} after {last:?}");
                assert!(wait <= Duration::from_secs(66), "{code}: {wait:?}");
                last = wait;
            }
        }
    }
}

#[test]
fn refused_credentials_are_asked_for_anew_and_the_batch_is_held() {
    let mut retry = Retry::default();
    for _ in 0..100 {
        match retry.next(&status(403), 5, false, 0.0) {
            Next::Resend {
                after,
                refresh: true,
            } => assert!(after >= Duration::from_secs(10)),
            other => panic!("{other:?}"),
        }
    }
    let none = WriteResponse::Unsigned("no credentials".to_owned());
    assert!(matches!(
        retry.next(&none, 5, false, 0.0),
        Next::Resend { refresh: true, .. }
    ));
    assert!(matches!(
        retry.next(&status(404), 5, false, 0.0),
        Next::Resend { refresh: false, .. }
    ));
}

#[test]
fn what_the_receiver_asks_for_is_waited() {
    let answer = |code| WriteResponse::Status {
        code,
        retry_after: Some(Duration::from_secs(7)),
        body: String::new(),
        written: None,
    };
    for code in [429, 503] {
        assert_eq!(
            after(Retry::default().next(&answer(code), 1, false, 0.5)),
            Duration::from_secs(7)
        );
    }
}

#[test]
fn too_large_is_halved_until_one_sample_is_left() {
    let mut retry = Retry::default();
    assert_eq!(
        retry.next(&status(413), 2, false, 0.5),
        Next::Split(Duration::ZERO)
    );
    assert_eq!(
        retry.next(&status(413), 1, false, 0.5),
        Next::Done(Class::TooLarge)
    );
}

#[test]
fn too_many_is_halved_after_three_refusals() {
    let mut retry = Retry::default();
    assert!(matches!(
        retry.next(&status(429), 8, false, 0.5),
        Next::Resend { .. }
    ));
    assert!(matches!(
        retry.next(&status(429), 8, false, 0.5),
        Next::Resend { .. }
    ));
    assert_eq!(
        retry.next(&status(429), 8, false, 0.5),
        Next::Split(Duration::from_secs(4))
    );
    assert!(matches!(
        retry.next(&status(429), 1, false, 0.5),
        Next::Resend { .. }
    ));
}

#[test]
fn an_unknown_version_is_downgraded_once() {
    let mut retry = Retry::default();
    assert_eq!(retry.next(&status(415), 8, true, 0.5), Next::Downgrade);
    assert_eq!(
        after(retry.next(&status(415), 8, false, 0.5)),
        Duration::from_secs(10),
        "in 1.0 it is held"
    );
}

/// Now and then it is asked whether a receiver that fails does so on this batch alone; never
/// without an answer.
#[test]
fn a_batch_that_fails_again_and_again_is_suspected() {
    let mut retry = Retry::default();
    let probes = |retry: &mut Retry, answer: &WriteResponse, times| {
        let next = (0..times).map(|_| retry.next(answer, 8, false, 0.5));
        next.map(|next| matches!(next, Next::Probe(_)))
            .collect::<Vec<_>>()
    };
    let fails = status(500);
    assert_eq!(probes(&mut retry, &fails, 4), [false, false, false, true]);
    assert_eq!(probes(&mut retry, &fails, 4), [false, false, false, true]);
    assert!(!probes(&mut retry, &WriteResponse::None("reset".to_owned()), 9).contains(&true));
    retry.suspect();
    assert_eq!(probes(&mut retry, &fails, 4), [false, true, false, true]);
}

#[test]
fn a_limit_of_series_is_not_waited_for() {
    let answer = WriteResponse::Status {
        code: 429,
        retry_after: None,
        body: "per-user series limit of 9 exceeded".to_owned(),
        written: None,
    };
    for samples in [1, 2000] {
        let next = Retry::default().next(&answer, samples, false, 0.5);
        assert_eq!(next, Next::Isolate);
    }
}

#[test]
fn success_ends_the_waiting() {
    let mut retry = Retry::default();
    for _ in 0..10 {
        retry.next(&status(500), 1, false, 0.5);
    }
    retry.next(&status(204), 1, false, 0.5);
    assert_eq!(
        after(retry.next(&status(500), 1, false, 0.5)),
        Duration::from_millis(250)
    );
}
