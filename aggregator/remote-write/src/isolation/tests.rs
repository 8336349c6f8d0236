use super::{ASIDE_MAX, Isolation, Refusal};

#[test]
fn what_is_set_aside_is_tried_again_later() {
    let mut isolation = Isolation::new(0.0);
    isolation.set_aside(7, Refusal::Limit, 10.0);
    isolation.expire(309.0);
    assert_eq!(isolation.refusal(7), Some(Refusal::Limit));
    isolation.expire(310.0);
    assert_eq!(isolation.refusal(7), None);
}

#[test]
fn what_is_remembered_is_bounded_and_counted() {
    let mut isolation = Isolation::new(0.0);
    for series in 0..ASIDE_MAX as u64 + 5 {
        isolation.set_aside(series, Refusal::Failing, 0.0);
    }
    assert_eq!(isolation.aside(), ASIDE_MAX);
    assert_eq!(isolation.overflowed(), 5);
}

#[test]
fn requests_spent_on_halving_are_bounded() {
    let mut isolation = Isolation::new(0.0);
    let spent =
        |isolation: &mut Isolation, now| (0..1000).filter(|_| isolation.may_split(now)).count();
    assert_eq!(spent(&mut isolation, 0.0), 64);
    assert_eq!(spent(&mut isolation, 10.0), 10);
    assert_eq!(
        spent(&mut isolation, 5.0),
        0,
        "a time before that gives none"
    );
    assert_eq!(spent(&mut isolation, 1e6), 64);
}

#[test]
fn what_was_stored_is_known_until_it_is_refused() {
    let mut isolation = Isolation::new(0.0);
    assert!(isolation.should_learn(0, 0.0));
    isolation.learn(0, [1, 2].into_iter(), 0.0);
    assert!(!isolation.should_learn(0, 100.0) && isolation.should_learn(1, 100.0));
    assert!(isolation.is_stored(1));
    isolation.set_aside(1, Refusal::Limit, 0.0);
    assert!(!isolation.is_stored(1) && isolation.is_stored(2));
    assert!(isolation.should_learn(0, 1.0));
}
