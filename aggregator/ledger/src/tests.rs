//! The ledger against a plain list of everything, and its limits one by one.

mod model;

use std::sync::Arc;
use std::time::Duration;

use aggregator_core::query::{Milli, NoValue};
use aggregator_view::documents::{Change, ReadSource};
use common_time::UnixMillis;

use crate::limits::{BYTES_MIN, DETAILED, KEPT};
use crate::{Answer, DropReason, Each, Ledger, Object, PodState, PodValue, Query, Read, Reader};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const START: u64 = 1_764_500_000_000;

const KCM: Reader<'static> = Reader {
    user: "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    user_agent: "kube-controller-manager/v1.36.2",
};

const JANE: Reader<'static> = Reader {
    user: "jane",
    user_agent: "kubectl/v1.36.2",
};

/// A read of `sum` over no pods by the autoscaler of HPA `jazz`.
fn read(at: u64, sum: u64, computed: u32) -> Read<'static> {
    Read {
        at: UnixMillis(at),
        reader: KCM,
        namespace: "prod",
        hpa: Some("jazz"),
        metric: "appmesh_requests_per_second",
        object: Object {
            resource: "pods",
            name: "",
        },
        selector: "app=jazz",
        metric_selector: "",
        answer: Answer::Value {
            sum: Milli(sum),
            source: ReadSource::Pods,
            pods: 0,
            age: Duration::from_millis(700),
            window: Duration::from_secs(5),
        },
        each: Each::Pods(&[]),
        computed_replicas: Some(computed),
    }
}

fn ms(duration: Duration) -> u64 {
    crate::read::millis(duration).into()
}

fn pod(name: &Arc<str>, value: u64) -> PodValue<'_> {
    PodValue {
        name,
        state: PodState::Live,
        value: Milli(value),
        window: Duration::from_secs(5),
        age: Duration::from_millis(value % 2000),
        pending: false,
    }
}

fn all(ledger: &Ledger) -> Vec<aggregator_view::documents::Read> {
    ledger.reads(&Query::of("prod")).collect()
}

fn dropped(ledger: &Ledger, reason: DropReason) -> u64 {
    let mut dropped = ledger.dropped().into_iter();
    dropped.find(|(of, _)| *of == reason).unwrap().1
}

/// A read comes back as the document that the API serves, with all it had.
#[test]
fn a_read_comes_back() {
    let ledger = Ledger::new(BYTES_MIN);
    let names: [Arc<str>; 3] = ["jazz-a".into(), "jazz-b".into(), "jazz-c".into()];
    let pods = [
        PodValue {
            pending: true,
            ..pod(&names[0], 12_345)
        },
        PodValue {
            state: PodState::Held,
            window: Duration::from_secs(2),
            ..pod(&names[1], 7)
        },
        PodValue {
            state: PodState::LeftOut(NoValue::NeverReported),
            ..pod(&names[2], 0)
        },
    ];
    ledger.record(&Read {
        each: Each::Pods(&pods),
        ..read(START, 12_352, 3)
    });
    let found = serde_json::to_value(all(&ledger)).unwrap();
    let expected = serde_json::json!([{
        "atUnixMs": START,
        "user": KCM.user,
        "userAgent": KCM.user_agent,
        "hpa": "jazz",
        "metric": "appmesh_requests_per_second",
        "object": "pods",
        "selector": "app=jazz",
        "code": 200,
        "sumMilli": 12_352,
        "source": "pods",
        "pods": 0,
        "ageMs": 700,
        "windowMs": 5000,
        "leftOut": {"never_reported": 1},
        "computedReplicas": 3,
        "each": [
            {"name": "jazz-a", "valueMilli": 12_345, "windowMs": 5000, "ageMs": 345, "state": "live", "pending": true},
            {"name": "jazz-b", "valueMilli": 7, "windowMs": 2000, "ageMs": 7, "state": "held"},
            {"name": "jazz-c", "valueMilli": null, "windowMs": 0, "ageMs": 0, "state": "never_reported"},
        ],
    }]);
    assert_eq!(found, expected);
    for (namespace, hpa) in [("prod", Some("folk")), ("test", None)] {
        let other = Query {
            hpa,
            ..Query::of(namespace)
        };
        assert_eq!(ledger.reads(&other).count(), 0);
    }
    assert_eq!(ledger.oldest(), Some(UnixMillis(START)));
}

/// So does a refusal, with its sentence, and the name of the object.
#[test]
fn a_refusal_comes_back() {
    let ledger = Ledger::new(BYTES_MIN);
    ledger.record(&Read {
        object: Object {
            resource: "services",
            name: "jazz",
        },
        hpa: None,
        reader: JANE,
        each: Each::Unknown,
        computed_replicas: None,
        answer: Answer::Refusal {
            code: 404,
            message: "no pods",
        },
        ..read(START, 0, 3)
    });
    let found = &all(&ledger)[0];
    assert_eq!((found.code, found.sum_milli), (404, None));
    assert_eq!(
        (&*found.object, &*found.message),
        ("services/jazz", "no pods")
    );
    assert_eq!((&*found.user, &*found.hpa), ("jane", ""));
    assert_eq!((&found.each, found.computed_replicas), (&None, None));
}

/// Of two hours, records are all there, and the pods of the last 15 minutes and of the reads before
/// and at each change.
#[test]
fn keeps_the_pods_around_changes() {
    let ledger = Ledger::new(BYTES_MIN);
    let names: Vec<Arc<str>> = (0..10).map(|pod| format!("jazz-{pod}").into()).collect();
    let reads = 2 * HOUR / 15_000;
    let computed = |number: u64| if (100..200).contains(&number) { 4 } else { 3 };
    for number in 0..reads {
        let pods: Vec<_> = names
            .iter()
            .map(|name| pod(name, number * 7919 % 50_000))
            .collect();
        ledger.record(&Read {
            each: Each::Pods(&pods),
            ..read(START + number * 15_000, number, computed(number))
        });
    }
    let found = all(&ledger);
    assert_eq!(found.len() as u64, reads);
    let detailed = |(number, read): (usize, &aggregator_view::documents::Read)| {
        read.each.as_ref().map(|each| {
            let value = each[3].value_milli.unwrap();
            assert_eq!(value, number as u64 * 7919 % 50_000, "read {number}");
            number
        })
    };
    let detailed: Vec<_> = found.iter().enumerate().filter_map(detailed).collect();
    assert_eq!(detailed[..4], [99, 100, 199, 200]);
    let recent = detailed[4..].iter().rev();
    let mut expected = (0..found.len()).rev();
    assert!(
        recent
            .into_iter()
            .all(|number| expected.next() == Some(*number))
    );
    let recent = (detailed.len() - 4) as u64 * 15_000;
    let limit = ms(DETAILED);
    assert!(
        (limit..limit + 10 * MINUTE).contains(&recent),
        "{recent} ms"
    );
}

/// A day later a read is gone, also that of a subject that nobody reads any more.
#[test]
fn a_day_is_kept() {
    let ledger = Ledger::new(BYTES_MIN);
    ledger.record(&Read {
        hpa: Some("old"),
        ..read(START, 1, 1)
    });
    let end = ms(KEPT) + HOUR;
    for at in (0..end).step_by(15_000) {
        ledger.record(&read(START + at, at, 1));
    }
    let found = all(&ledger);
    assert!(found.iter().all(|read| read.hpa == "jazz"));
    let first = found[0].at_unix_ms - START;
    assert!((HOUR - 30 * MINUTE..=HOUR).contains(&first), "{first}");
    assert_eq!(dropped(&ledger, DropReason::Autoscalers), 0);
}

/// A loop with ever new selectors takes only the room of people and tools, and loses its own reads.
#[test]
fn a_noisy_reader_pushes_nobody_out() {
    let ledger = Ledger::new(BYTES_MIN);
    for number in 0..100 {
        ledger.record(&read(START + number * 15_000, number, 1));
    }
    let selectors: Vec<_> = (0..20_000)
        .map(|number| format!("app=noise-{number}"))
        .collect();
    for (number, selector) in (0..).zip(&selectors) {
        ledger.record(&Read {
            reader: JANE,
            hpa: None,
            selector,
            ..read(START + HOUR + number, 1, 1)
        });
    }
    assert!(dropped(&ledger, DropReason::Others) > 10_000);
    assert_eq!(dropped(&ledger, DropReason::Autoscalers), 0);
    let found = all(&ledger);
    let autoscaler = found.iter().filter(|read| read.user == KCM.user);
    assert_eq!(autoscaler.count(), 100);
    assert_eq!(found.last().unwrap().selector, "app=noise-19999");
    let sizes = ledger.sizes();
    assert!(sizes.bytes <= sizes.bytes_max, "{sizes:?}");
}

/// One that reads without pause keeps its newest reads, and takes an eighth of its room.
#[test]
fn a_fast_reader_takes_its_share() {
    let ledger = Ledger::new(BYTES_MIN);
    for number in 0..200_000 {
        ledger.record(&read(START + number, number * 1_000_003, 1));
    }
    let sizes = ledger.sizes();
    assert!(sizes.bytes <= sizes.bytes_max / 8, "{sizes:?}");
    let found = all(&ledger);
    assert_eq!(found.last().unwrap().at_unix_ms, START + 199_999);
    let kept = found.len() as u64;
    assert_eq!(kept + dropped(&ledger, DropReason::Autoscalers), 200_000);
}

/// Texts are cut, so that nobody fills the ledger with one read.
#[test]
fn texts_are_cut() {
    let ledger = Ledger::new(BYTES_MIN);
    let long = "ü".repeat(10_000);
    ledger.record(&Read {
        reader: Reader {
            user: &long,
            user_agent: &long,
        },
        answer: Answer::Refusal {
            code: 400,
            message: &long,
        },
        ..read(START, 0, 1)
    });
    let found = &all(&ledger)[0];
    for text in [&found.user, &found.user_agent, &found.message] {
        assert_eq!(text.len(), 512);
    }
}

/// Changes come back in order, each once, for a day, within their limit.
#[test]
fn changes_are_kept() {
    let ledger = Ledger::new(BYTES_MIN);
    let change = |at: u64, hpa: &str, desired: u32, condition: &str| Change {
        at_unix_ms: START + at,
        hpa: hpa.to_owned(),
        current_replicas: 3,
        desired_replicas: desired,
        ready_pods: Some(3),
        conditions: [("AbleToScale".to_owned(), condition.to_owned())].into(),
    };
    let given = [
        change(0, "jazz", 3, "True ReadyForNewScale"),
        change(1, "folk", 3, "True ReadyForNewScale"),
        change(2, "jazz", 4, "True SucceededRescale"),
        change(3, "jazz", 4, "True ReadyForNewScale"),
    ];
    for change in &given {
        ledger.changed("prod", change.clone());
    }
    ledger.changed("prod", change(4, "jazz", 4, "True ReadyForNewScale"));
    assert_eq!(ledger.changes(&Query::of("prod")), given);
    let jazz = Query {
        hpa: Some("jazz"),
        from: START + 2,
        to: START + 2,
        ..Query::of("prod")
    };
    assert_eq!(ledger.changes(&jazz), given[2..3]);
    let empty = ledger.sizes().bytes;
    for number in 0..100_000_u32 {
        let text = number.to_string();
        ledger.changed(
            "prod",
            change(10 + u64::from(number), "jazz", number, &text),
        );
    }
    let sizes = ledger.sizes();
    assert!(
        sizes.bytes <= sizes.bytes_max / 16 && sizes.bytes > empty,
        "{sizes:?}"
    );
    let kept = ledger.changes(&Query::of("prod"));
    assert_eq!(kept.last().unwrap().desired_replicas, 99_999);
    let dropped = dropped(&ledger, DropReason::Changes);
    assert_eq!(kept.len() as u64 + dropped, 100_000 + given.len() as u64);
    ledger.changed("prod", change(25 * HOUR, "jazz", 1, "later"));
    assert_eq!(ledger.changes(&Query::of("prod")).len(), 1);
}

/// Damage that a checksum did not find is an error, whatever it is, and never a panic.
#[test]
fn damaged_entries_are_refused() {
    let names: [Arc<str>; 2] = ["jazz-a".into(), "jazz-b".into()];
    let pods = names.each_ref().map(|name| pod(name, 12_345));
    let given = Read {
        each: Each::Pods(&pods),
        ..read(START, 1, 1)
    };
    let entry = crate::entry::of_read(&given);
    let ledger = Ledger::new(BYTES_MIN);
    assert_eq!(ledger.restore(&entry), Ok(()));
    for len in 0..entry.len() {
        assert!(ledger.restore(&entry[..len]).is_err(), "{len} bytes");
    }
    for at in 0..entry.len() {
        let mut damaged = entry.clone();
        damaged[at] ^= 0x80;
        let _either = ledger.restore(&damaged);
    }
    let change = crate::entry::of_change("prod", &Change::default());
    assert_eq!(ledger.restore(&change), Ok(()));
    assert_eq!(ledger.changes(&Query::of("prod")), [Change::default()]);
}
