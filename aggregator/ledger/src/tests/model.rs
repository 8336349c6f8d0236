//! Arbitrary reads of a few subjects, given to the ledger and to a plain list.

use proptest::prelude::*;

use super::*;
use crate::Journal;

/// Keeps what a ledger writes.
#[derive(Debug, Default)]
struct Journaled(parking_lot::Mutex<Vec<Vec<u8>>>);

impl Journal for Journaled {
    fn write(&self, entry: Vec<u8>) {
        self.0.lock().push(entry);
    }
}

/// A read in numbers: time since the last one, subject, answer, pods.
#[derive(Clone, Debug)]
struct Given {
    after: u64,
    subject: u8,
    answer: Result<(u64, bool), u16>,
    age: u32,
    window: u32,
    pods: Option<Vec<GivenPod>>,
    computed: Option<u32>,
}

/// Name; for a pod with a value, value, window, age, held; pending.
type GivenPod = (u8, Result<(u64, u32, u32, bool), NoValue>, bool);

fn given() -> impl Strategy<Value = Given> {
    let after = prop_oneof![20 => Just(15_000_u64), 5 => 0..40_000_u64, 1 => 0..2 * HOUR];
    let answer = prop_oneof![
        6 => (any::<u64>(), any::<bool>()).prop_map(Ok),
        6 => (0..100_000_u64, Just(false)).prop_map(Ok),
        1 => prop_oneof![Just(404_u16), Just(503)].prop_map(Err),
    ];
    let value = (0..u64::MAX, 0..70_000_u32, 0..20_000_u32, any::<bool>());
    let why = (0..NoValue::ALL.len()).prop_map(|reason| NoValue::ALL[reason]);
    let pod = (
        0..6_u8,
        prop_oneof![5 => value.prop_map(Ok), 1 => why.prop_map(Err)],
        any::<bool>(),
    );
    let pods = proptest::option::weighted(0.9, proptest::collection::vec(pod, 0..6));
    let computed =
        proptest::option::weighted(0.9, prop_oneof![8 => Just(3_u32), 1 => any::<u32>()]);
    (
        after,
        0..4_u8,
        answer,
        any::<u32>(),
        0..70_000_u32,
        pods,
        computed,
    )
        .prop_map(
            |(after, subject, answer, age, window, pods, computed)| Given {
                after,
                subject,
                answer,
                age,
                window,
                pods,
                computed,
            },
        )
}

fn names() -> [Arc<str>; 6] {
    ["jazz-a", "jazz-b", "jazz-bb", "folk", "ünder-a", "über-b"].map(Into::into)
}

/// Calls `with` with the read at `at`.
fn with_read<T>(given: &Given, at: u64, with: impl FnOnce(&Read<'_>) -> T) -> T {
    let millis = |ms: u32| Duration::from_millis(ms.into());
    let names = names();
    let pods: Vec<_> = given
        .pods
        .iter()
        .flatten()
        .map(|(name, value, pending)| {
            let name = &names[usize::from(*name)];
            let state = match value {
                Ok((.., true)) => PodState::Held,
                Ok(_) => PodState::Live,
                Err(why) => PodState::LeftOut(*why),
            };
            let (value, window, age, _) = value.unwrap_or_default();
            PodValue {
                name,
                state,
                value: Milli(value),
                window: millis(window),
                age: millis(age),
                pending: *pending,
            }
        })
        .collect();
    let message = format!("no value for subject {}", given.subject / 2);
    with(&Read {
        at: UnixMillis(at),
        reader: if given.subject == 3 { JANE } else { KCM },
        namespace: if given.subject == 2 { "test" } else { "prod" },
        hpa: (given.subject == 0).then_some("jazz"),
        answer: match given.answer {
            Ok((sum, callers)) => Answer::Value {
                sum: Milli(sum),
                source: if callers {
                    ReadSource::Callers
                } else {
                    ReadSource::Pods
                },
                pods: pods
                    .iter()
                    .filter(|pod| !matches!(pod.state, PodState::LeftOut(_)))
                    .count(),
                age: millis(given.age),
                window: millis(given.window),
            },
            Err(code) => Answer::Refusal {
                code,
                message: &message,
            },
        },
        each: match given.pods {
            Some(_) => Each::Pods(&pods),
            None => Each::Unknown,
        },
        computed_replicas: given.computed,
        ..read(at, 0, 0)
    })
}

/// What the ledger should say of the read as long as it has its pods.
fn expected(given: &Given, at: u64) -> aggregator_view::documents::Read {
    with_read(given, at, |read| {
        let pods = match read.each {
            Each::Pods(pods) => pods,
            Each::Unknown => &[],
        };
        let mut document = aggregator_view::documents::Read {
            at_unix_ms: at,
            user: read.reader.user.to_owned(),
            user_agent: read.reader.user_agent.to_owned(),
            hpa: read.hpa.unwrap_or_default().to_owned(),
            metric: read.metric.to_owned(),
            object: "pods".to_owned(),
            selector: read.selector.to_owned(),
            code: 200,
            computed_replicas: read.computed_replicas,
            each: given
                .pods
                .as_ref()
                .map(|_| pods.iter().map(expected_pod).collect()),
            ..aggregator_view::documents::Read::default()
        };
        for pod in pods {
            if let PodState::LeftOut(why) = pod.state {
                *document
                    .left_out
                    .entry(why.as_str().to_owned())
                    .or_default() += 1;
            }
        }
        match read.answer {
            Answer::Value {
                sum,
                source,
                pods,
                age,
                window,
            } => {
                document.sum_milli = Some(sum.0);
                document.source = source;
                document.pods = u32::try_from(pods).unwrap();
                document.age_ms = ms(age);
                document.window_ms = ms(window);
            }
            Answer::Refusal { code, message } => {
                document.code = code;
                message.clone_into(&mut document.message);
            }
        }
        document
    })
}

fn expected_pod(pod: &PodValue<'_>) -> aggregator_view::documents::PodRead {
    let value = !matches!(pod.state, PodState::LeftOut(_));
    aggregator_view::documents::PodRead {
        name: pod.name.to_string(),
        value_milli: value.then_some(pod.value.0),
        window_ms: if value { ms(pod.window) } else { 0 },
        age_ms: if value { ms(pod.age) } else { 0 },
        state: pod.state.as_str().to_owned(),
        pending: pod.pending,
    }
}

/// Numbers of reads in `given` that are the one before a change of their subject, or the one at it.
fn around_changes(given: &[Given]) -> Vec<usize> {
    let mut around = Vec::new();
    for subject in 0..4 {
        let of_subject = given
            .iter()
            .enumerate()
            .filter(|(_, read)| read.subject == subject);
        let numbers: Vec<_> = of_subject.map(|(number, _)| number).collect();
        for pair in numbers.windows(2) {
            let [before, at] = [pair[0], pair[1]].map(|number| &given[number]);
            let code = |read: &Given| read.answer.as_ref().err().copied();
            if before.computed != at.computed || code(before) != code(at) {
                around.extend(pair);
            }
        }
    }
    around
}

proptest! {
    /// Whatever is read: each read of the last day is there, in order, as it was; with its pods if
    /// it is of the last 15 minutes or around a change. What the ledger forgets, it has not half.
    #[test]
    fn says_what_a_plain_list_says(given in proptest::collection::vec(given(), 1..400)) {
        let journal = Arc::new(Journaled::default());
        let ledger = Ledger::new(BYTES_MIN).with_journal(journal.clone());
        let mut at = START;
        let mut list = Vec::new();
        for read in &given {
            at += read.after;
            with_read(read, at, |read| ledger.record(read));
            list.push(expected(read, at));
        }
        let around = around_changes(&given);
        let day = at.saturating_sub(ms(KEPT));
        let recent = at.saturating_sub(ms(DETAILED));
        for namespace in ["prod", "test"] {
            let of_namespace = |subject: u8| (subject == 2) == (namespace == "test");
            let listed = given.iter().zip(&list).enumerate();
            let mut expected: Vec<_> = listed
                .filter(|(_, (given, read))| of_namespace(given.subject) && read.at_unix_ms >= day)
                .map(|(number, (given, read))| (number, given.subject, read))
                .collect();
            // Reads of one moment come subject by subject.
            expected.sort_by_key(|(_, _, read)| read.at_unix_ms);
            let mut found: Vec<_> = ledger
                .reads(&Query { from: day, ..Query::of(namespace) })
                .collect();
            prop_assert_eq!(found.len(), expected.len());
            for (number, _, expected) in expected {
                let same_read = |read: &aggregator_view::documents::Read| {
                    read.at_unix_ms == expected.at_unix_ms
                        && (&read.user, &read.hpa) == (&expected.user, &expected.hpa)
                };
                let place = found.iter().position(same_read).unwrap();
                let found = found.remove(place);
                if expected.at_unix_ms >= recent || around.contains(&number) {
                    prop_assert_eq!(&found, expected, "read {}", number);
                } else {
                    let shortened = aggregator_view::documents::Read {
                        each: None,
                        message: String::new(),
                        ..expected.clone()
                    };
                    prop_assert!(found == shortened || found == *expected, "read {}: {:?}", number, found);
                }
            }
        }
        let sizes = ledger.sizes();
        prop_assert!(sizes.bytes <= sizes.bytes_max);
        let restored = Ledger::new(BYTES_MIN);
        for entry in journal.0.lock().iter() {
            restored.restore(entry).unwrap();
        }
        for namespace in ["prod", "test"] {
            let query = Query::of(namespace);
            prop_assert!(restored.reads(&query).eq(ledger.reads(&query)));
        }
    }
}
