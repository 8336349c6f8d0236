use std::time::Duration;

use super::*;

fn deadlines() -> Deadlines {
    let seconds = Duration::from_secs;
    Deadlines {
        handshake: seconds(5),
        head: seconds(10),
        first_request: seconds(20),
        idle: seconds(100),
        body: Some(seconds(30)),
        write: seconds(30),
        answer: Some(seconds(60)),
        age: None,
        close: seconds(120),
    }
}

/// A connection and the clock of its test.
struct Case {
    activity: Activity,
    begin: Instant,
}

impl Case {
    fn new() -> Self {
        let begin = clock::now();
        Self {
            activity: Activity::new(deadlines(), begin),
            begin,
        }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.begin + Duration::from_secs(seconds)
    }

    /// Seconds from the beginning on, and why.
    fn due(&self) -> Option<(u64, Overdue)> {
        let (at, why) = self.activity.deadline()?;
        Some((at.duration_since(self.begin).as_secs(), why))
    }
}

/// HTTP/1.1: what a peer may take its time for, from step to step.
#[test]
fn http1_has_a_deadline_at_every_step() {
    let case = Case::new();
    let activity = &case.activity;
    assert_eq!(case.due(), Some((5, Overdue::Handshake)));
    activity.opened(false, case.at(1));
    assert_eq!(case.due(), Some((21, Overdue::Idle)));
    activity.read(1, case.at(2));
    assert_eq!(case.due(), Some((12, Overdue::Head)));
    // A byte now and then is no head.
    activity.read(1, case.at(9));
    assert_eq!(case.due(), Some((12, Overdue::Head)));
    let id = activity.begin();
    assert_eq!(case.due(), None, "it is our turn");
    activity.answered(id, case.at(20));
    activity.waits(id, case.at(21));
    assert_eq!(case.due(), Some((51, Overdue::Answer)));
    activity.works(id);
    assert_eq!(case.due(), Some((80, Overdue::Answer)));
    activity.end(id, case.at(22));
    assert_eq!(case.due(), Some((122, Overdue::Idle)));
}

/// HTTP/2: the preface at once, then a request; what comes without one keeps nothing open.
#[test]
fn http2_has_to_begin() {
    let case = Case::new();
    let activity = &case.activity;
    activity.opened(true, case.at(0));
    activity.read(24, case.at(1));
    assert_eq!(case.due(), Some((10, Overdue::Head)));
    activity.read(9, case.at(1));
    assert_eq!(case.due(), Some((20, Overdue::Idle)));
    let (first, second) = (activity.begin(), activity.begin());
    activity.end(first, case.at(30));
    assert_eq!(case.due(), None);
    activity.end(second, case.at(40));
    activity.read(17, case.at(99));
    assert_eq!(case.due(), Some((140, Overdue::Idle)));
}

/// A peer that takes a byte now and then is behind all the same.
#[test]
fn a_trickle_is_not_enough() {
    let case = Case::new();
    let activity = &case.activity;
    activity.opened(false, case.at(0));
    let id = activity.begin();
    activity.answered(id, case.at(1));
    activity.end(id, case.at(1));
    activity.blocked(case.at(1));
    assert_eq!(case.due(), Some((31, Overdue::Blocked)));
    for second in [20, 40, 60] {
        activity.wrote();
        activity.blocked(case.at(second));
    }
    assert_eq!(case.due(), Some((61, Overdue::Blocked)));
    activity.flushed();
    assert_eq!(case.due(), Some((101, Overdue::Idle)));
}

/// What can be spared: without a request at once, with one only if the peer keeps us waiting with
/// all of them.
#[test]
fn a_request_under_way_is_spared_only_if_it_waits_for_the_peer() {
    let case = Case::new();
    let activity = &case.activity;
    activity.opened(true, case.at(0));
    assert_eq!(activity.spare(case.at(0)), Some(Spare::Idle(case.at(0))));
    let (first, second) = (activity.begin(), activity.begin());
    assert_eq!(activity.spare(case.at(1000)), None);
    activity.waits(first, case.at(1000));
    assert_eq!(activity.spare(case.at(2000)), None);
    activity.waits(second, case.at(2000));
    assert_eq!(activity.spare(case.at(2000)), None, "not yet");
    assert_eq!(
        activity.spare(case.at(2001)),
        Some(Spare::Stalled(case.at(2000)))
    );
    activity.works(second);
    assert_eq!(activity.spare(case.at(3000)), None);
    activity.blocked(case.at(3000));
    assert_eq!(
        activity.spare(case.at(3001)),
        Some(Spare::Stalled(case.at(3000)))
    );
}
