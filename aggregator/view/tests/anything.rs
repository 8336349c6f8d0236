//! Whatever a ledger holds, in whatever order, is told without a panic, in sentences without a hole
//! or a number that is none.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::collections::BTreeMap;

use aggregator_view::documents::{Change, PodRead, Read};
use aggregator_view::{Evidence, explain, timeline};
use autoscaler::{Behavior, Hpa, Metric, Source, Target};
use proptest::prelude::*;

fn hpa() -> Hpa {
    let object = Metric {
        source: Source::Object {
            kind: "Service".to_owned(),
            name: "jazz".to_owned(),
            selector: None,
        },
        name: "rate".to_owned(),
        target: Target::Value(20_000),
    };
    let cpu = Metric {
        source: Source::Resource,
        name: "cpu".to_owned(),
        target: Target::Utilization(50),
    };
    let mut hpa = Hpa::new(1, 10, vec![Metric::pods("rate", 10_000), object, cpu]);
    "jazz".clone_into(&mut hpa.name);
    hpa
}

/// `None`: left out.
fn pod() -> impl Strategy<Value = (Option<u64>, bool)> {
    let value = prop_oneof![
        1 => Just(None),
        4 => (0..50_000_u64).prop_map(Some),
        1 => Just(Some(9_200_000_000_000_000)),
    ];
    (value, any::<bool>())
}

prop_compose! {
    fn read()(
        at in 0..600_000_u64,
        is_of_pods in any::<bool>(),
        names_hpa in prop_oneof![4 => Just(true), 1 => Just(false)],
        is_refused in prop_oneof![4 => Just(false), 1 => Just(true)],
        is_short in any::<bool>(),
        pods in proptest::collection::vec(pod(), 0..6),
        age_ms in 0..700_000_u64,
    ) -> Read {
        let each = pods.iter().enumerate().map(|(index, (value, pending))| PodRead {
            name: index.to_string(),
            value_milli: *value,
            state: if value.is_some() { "held" } else { "gone" }.to_owned(),
            pending: *pending,
            age_ms,
            ..PodRead::default()
        });
        let values = pods.iter().filter_map(|(value, _)| *value);
        let left_out = u32::try_from(pods.len() - values.clone().count()).unwrap();
        Read {
            at_unix_ms: at,
            hpa: if names_hpa { "jazz".to_owned() } else { String::new() },
            metric: "rate".to_owned(),
            object: if is_of_pods { "pods" } else { "services/jazz" }.to_owned(),
            code: if is_refused { 503 } else { 200 },
            sum_milli: (!is_refused).then(|| values.clone().sum()),
            pods: u32::try_from(values.count()).unwrap(),
            left_out: BTreeMap::from([("gone".to_owned(), left_out)]),
            age_ms,
            window_ms: 5000,
            each: (!is_short && !is_refused).then(|| each.collect()),
            ..Read::default()
        }
    }
}

prop_compose! {
    fn change()(
        at in 0..600_000_u64,
        current in 0..14_u32,
        desired in 0..14_u32,
        ready in proptest::option::of(0..14_u32),
        is_active in any::<bool>(),
    ) -> Change {
        let active = if is_active { "True Found: yes" } else { "False Failed: no" };
        Change {
            at_unix_ms: at,
            hpa: "jazz".to_owned(),
            current_replicas: current,
            desired_replicas: desired,
            ready_pods: ready,
            conditions: BTreeMap::from([("ScalingActive".to_owned(), active.to_owned())]),
        }
    }
}

proptest! {
    #[test]
    fn is_told(
        mut reads in proptest::collection::vec(read(), 0..30),
        changes in proptest::collection::vec(change(), 0..20),
        has_behavior in any::<bool>(),
        at in 0..700_000_u64,
        from in 0..700_000_u64,
    ) {
        reads.sort_by_key(|read| read.at_unix_ms);
        let mut hpa = hpa();
        hpa.behavior = has_behavior.then(Behavior::default);
        let evidence = Evidence {
            hpa: &hpa,
            ours: &[true, true, false],
            reads: &reads,
            changes: &changes,
            replicas: &[],
        };
        if let Ok(explanation) = explain(&evidence, at) {
            for sentence in &explanation.sentences {
                let is_whole = sentence.ends_with('.') && !sentence.contains("  ");
                prop_assert!(is_whole && !sentence.contains("NaN"), "{sentence}");
            }
            let derived = explanation.derived_replicas;
            let here = explanation.current_replicas;
            // What cannot be computed stays, also beyond the bounds.
            prop_assert!(derived == here || derived.is_none_or(|count| count <= hpa.max));
        }
        let timeline = timeline(&evidence, from);
        prop_assert!(timeline.entries.is_sorted_by_key(|entry| entry.at_unix_ms));
        prop_assert!(timeline.entries.iter().all(|entry| entry.at_unix_ms >= from));
    }
}
