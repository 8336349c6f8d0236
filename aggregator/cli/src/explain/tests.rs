use super::*;
use crate::testing::{NOW, clock, hold, texts};

fn explanation() -> Explanation {
    Explanation {
        namespace: "prod".to_owned(),
        hpa: "jazz".to_owned(),
        target: "Deployment/jazz-v1".to_owned(),
        at_unix_ms: NOW - 60_000,
        sentences: vec![
            "It read pods metric appmesh_requests_per_second: 123 per second of 3 pods.".to_owned(),
            "At 20 per pod that is 7.".to_owned(),
            "A pod called \u{1b}]0;evil\u{7} was left out.".to_owned(),
        ],
        replicas: vec![
            ReplicaAnswer {
                name: "meshmeter-0".to_owned(),
                ..ReplicaAnswer::default()
            },
            ReplicaAnswer {
                name: "meshmeter-1".to_owned(),
                error: "no answer within 2 s.".to_owned(),
                since_unix_ms: None,
            },
        ],
        ..Explanation::default()
    }
}

#[test]
fn sentences_are_printed() {
    hold("explain/sentences", &texts(lines(&explanation(), &clock())));
}

/// Nothing known of a time before the ledger is not the same as nothing read since.
#[test]
fn knows_how_far_back_it_reaches() {
    let since = |replicas: [Option<u64>; 2]| {
        let mut explanation = explanation();
        for (replica, since) in explanation.replicas.iter_mut().zip(replicas) {
            replica.since_unix_ms = since;
        }
        explanation
    };
    let out = |explanation: &Explanation| out_of_reach(explanation, &clock());
    assert_eq!(out(&since([None, None])), None);
    assert_eq!(out(&since([Some(NOW - 90_000), Some(NOW)])), None);
    assert_eq!(
        out(&since([Some(NOW - 30_000), Some(NOW)])).unwrap(),
        "the ledger of reads does not reach back to 14:09:00: it begins at 14:09:30 (+01:00)"
    );
    let mut derived = since([Some(NOW), None]);
    derived.derived_replicas = Some(3);
    assert_eq!(out(&derived), None);
}

/// What lies before the ledger cannot be known; an HPA that does not exist is a mistake.
#[test]
fn before_the_ledger_has_a_code_of_its_own() {
    for (cause, code) in [("NotRecorded", 2), ("NeverRead", 1), ("", 1)] {
        let error = ConnectionError::NotFound {
            message: "no".to_owned(),
            cause: cause.to_owned(),
        };
        assert_eq!(refused(error).code, code, "{cause}");
    }
}
