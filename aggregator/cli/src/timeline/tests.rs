use aggregator_view::documents::ReplicaAnswer;

use super::{Entry, EntryKind, Reaction, Timeline, shown};
use crate::testing::{NOW, clock, hold, texts};

const SECOND: u64 = 1000;

fn silent() -> ReplicaAnswer {
    ReplicaAnswer {
        name: "meshmeter-1".to_owned(),
        error: "no answer".to_owned(),
        since_unix_ms: None,
    }
}

/// A step from 40 to 120 requests per second, five minutes ago.
fn timeline() -> Timeline {
    let begin = NOW - 600 * SECOND;
    let entry = |at: u64, kind, text: &str, sum_milli, count| Entry {
        at_unix_ms: begin + at * SECOND,
        kind,
        text: text.to_owned(),
        sum_milli,
        count,
    };
    let mut entries = vec![
        entry(
            0,
            EntryKind::Decision,
            "wants 2 replicas, has 2",
            None,
            Some(2),
        ),
        entry(0, EntryKind::Ready, "2 pods ready", None, Some(2)),
    ];
    for sync in 0..40 {
        let at = sync * 15;
        let rate = if at < 300 { 40_000 } else { 120_000 };
        let pods = if at < 330 { 2 } else { 6 };
        let text = format!("{} per second of {pods} pods, 1.0 s old", rate / 1000);
        entries.push(entry(at, EntryKind::Read, &text, Some(rate), Some(pods)));
    }
    entries.push(entry(
        301,
        EntryKind::Decision,
        "wants 6 replicas, has 2",
        None,
        Some(6),
    ));
    entries.push(entry(325, EntryKind::Ready, "6 pods ready", None, Some(6)));
    entries.push(entry(
        400,
        EntryKind::Refusal,
        "no sidecar of pods matching app=jazz\u{1b}[2J has reported",
        None,
        None,
    ));
    entries.push(entry(
        401,
        EntryKind::Condition,
        "ScalingActive is False: FailedGetPodsMetric",
        None,
        None,
    ));
    entries.sort_by_key(|entry| entry.at_unix_ms);
    Timeline {
        namespace: "prod".to_owned(),
        hpa: "jazz".to_owned(),
        target: "Deployment/jazz-v1".to_owned(),
        min_replicas: 2,
        max_replicas: 10,
        target_milli: Some(20_000),
        entries,
        reactions: vec![Reaction {
            step_unix_ms: begin + 298 * SECOND,
            from_replicas: 2,
            to_replicas: 6,
            read_ms: Some(2000),
            decision_ms: Some(3000),
            ready_ms: None,
        }],
        replicas: vec![silent()],
        ..Timeline::default()
    }
}

#[test]
fn lines_and_charts_hold() {
    let timeline = timeline();
    let clock = clock();
    for (name, room) in [("wide", 120), ("narrow", 60)] {
        let shown = shown(&timeline, 0, &clock, Some(room), true);
        hold(&format!("timeline/{name}"), &texts(shown));
    }
    let empty = Timeline {
        entries: Vec::new(),
        ..timeline
    };
    let lines = texts(shown(&empty, 0, &clock, None, true));
    assert_eq!(lines.lines().count(), 3, "{lines}");
}
