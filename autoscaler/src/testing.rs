//! The scenarios that were recorded from Kubernetes 1.36 (`tests/traces/hpa-scenarios.txt`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::behavior::{Behavior, Policy, PolicyKind, Rules};
use crate::hpa::{Hpa, TargetRef};
use crate::metric::{Metric, Source, Target};
use crate::observed::{Answer, Values};
use crate::selector::{Operator, Requirement, Selector};

const RECORD: &str = include_str!("../../tests/traces/hpa-scenarios.txt");
const QUEUE: &str = "queue_depth";
const NOT_FOUND: &str = "the server could not find the metric queue_depth for pods";
const UNAVAILABLE: &str =
    "the server is currently unable to handle the request (get pods.custom.metrics.k8s.io *)";
const BAD_LABEL: &str = "values[0][cluster]: Invalid value: \"a b/c\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const NO_KIND: &str = "unable to map kind HTTPRoute.gateway.networking.k8s.io to resource: no matches for kind \"HTTPRoute\" in group \"gateway.networking.k8s.io\"";

/// What the metrics APIs answer for so many pods.
pub type Answers = Box<dyn Fn(u32) -> Vec<Answer>>;

/// A scenario, or a part of one.
pub struct Scenario {
    /// Its number in the record.
    pub number: &'static str,
    /// The number of the part, for those in parts.
    pub part: usize,
    pub title: &'static str,
    pub hpa: Hpa,
    pub answers: Answers,
    pub recorded: Recorded,
}

/// What was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// `spec.replicas` of the target, each once.
    pub wanted: Vec<u32>,
    /// Tenths of a second, pods that were ready then, `spec.replicas`.
    pub replicas: Vec<(u32, u32, u32)>,
    /// Pods at the end, which may be fewer than wanted then.
    pub here: u32,
    pub desired: u32,
    /// `currentMetrics`, as the record prints them.
    pub current: String,
    /// Condition `ScalingActive`: status, reason, message.
    pub active: (bool, String, String),
    /// Condition `ScalingLimited`, if it is true.
    pub limited: Option<(String, String)>,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "scenario {} part {}: {}",
            self.number, self.part, self.title
        )
    }
}

/// All of them, in the order of the record's kinds.
pub fn scenarios() -> Vec<Scenario> {
    let all = of_pods_metrics().into_iter().chain(of_other_metrics());
    let scenario = |(number, part, hpa, answers)| {
        let (title, mut parts) = recorded(number);
        Scenario {
            number,
            part,
            title,
            hpa,
            answers,
            recorded: parts.remove(part),
        }
    };
    all.map(scenario).collect()
}

/// How many numbered scenarios the record has.
pub fn numbered() -> usize {
    let sections = RECORD.split("\n## ").skip(1);
    sections
        .filter(|section| section.starts_with(|c: char| c.is_ascii_digit()))
        .count()
}

/// Names of so many pods.
pub fn names(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("llm-{number}"))
}

/// The same value for each of so many pods.
pub fn each(count: u32, milli: i128) -> BTreeMap<String, i128> {
    names(count).map(|pod| (pod, milli)).collect()
}

type Row = (&'static str, usize, Hpa, Answers);

fn of_pods_metrics() -> Vec<Row> {
    let odd = "job:queue.depth-P95:sum";
    let pods = |target| scaling(10, vec![Metric::pods(QUEUE, target)]);
    let named = || scaling(10, vec![Metric::pods(odd, 10_000)]);
    let queue = || pods(10_000);
    let mut tolerant = queue();
    tolerant.behavior = Some(Behavior {
        up: Rules {
            tolerance: Some(0.02),
            ..Rules::up()
        },
        down: Rules::down(),
    });
    // Of five pods one had not come up yet when it was asked.
    let late: Answers = Box::new(|here| {
        vec![Ok(Values::PerPod(each(
            if here == 5 { 4 } else { here },
            15_000,
        )))]
    });
    vec![
        ("1", 0, queue(), of_each(10_000)),
        ("2", 0, queue(), of_each(25_000)),
        ("3", 0, queue(), of_each(2_000)),
        ("4", 0, queue(), of_each(10_900)),
        ("5", 0, selecting(), of_each(10_000)),
        ("12", 0, queue(), failing(NOT_FOUND)),
        ("13", 0, queue(), failing("injected")),
        ("14", 0, queue(), failing("injected")),
        ("15", 0, queue(), failing("injected")),
        (
            "18",
            0,
            queue(),
            Box::new(|_| vec![Ok(Values::PerPod(each(1, 40_000)))]),
        ),
        (
            "19",
            0,
            queue(),
            Box::new(|_| vec![Ok(Values::PerPod(each(0, 0)))]),
        ),
        ("20", 0, queue(), of_each(0)),
        ("21", 0, queue(), of_each(15_000)),
        ("22", 0, queue(), late),
        ("28", 0, named(), of_each(10_000)),
        ("29", 0, named(), of_each(10_000)),
        ("32", 0, tolerant, of_each(10_500)),
        ("33", 0, queue(), of_each(10_000)),
        ("33", 1, queue(), of_each(10_000)),
        ("34", 0, queue(), failing(UNAVAILABLE)),
        ("34", 1, queue(), of_each(10_000)),
        ("35", 0, queue(), of_each(20_000)),
    ]
}

fn of_other_metrics() -> Vec<Row> {
    let twenty = || Target::Value(20_000);
    let cpu = |source| Metric {
        source,
        name: "cpu".to_owned(),
        target: Target::Utilization(50),
    };
    let two = || {
        let metrics = vec![Metric::pods(QUEUE, 10_000), cpu(Source::Resource)];
        scaling(6, metrics)
    };
    let container = Source::ContainerResource {
        container: "server".to_owned(),
    };
    let service = |target| object("Service", "llm", None, target);
    let get = Selector {
        match_labels: BTreeMap::from([("verb".to_owned(), "GET".to_owned())]),
        ..Selector::default()
    };
    let usage = || -> Answers { Box::new(|here| vec![Ok(used(here, 1000))]) };
    vec![
        ("6", 0, service(Target::Value(10_000)), total()),
        ("7", 0, service(Target::Average(5_000)), total()),
        (
            "8",
            0,
            external(Some(odd_labels()), Target::Average(5_000)),
            failing(BAD_LABEL),
        ),
        (
            "8b",
            0,
            external(Some(good_labels()), Target::Average(5_000)),
            total(),
        ),
        ("8c", 0, external(None, twenty()), total()),
        ("9", 0, scaling(10, vec![cpu(Source::Resource)]), usage()),
        ("10", 0, scaling(10, vec![cpu(container)]), usage()),
        ("11", 0, two(), both(Some(25_000), 500)),
        ("16", 0, two(), both(None, 1000)),
        ("17", 0, two(), both(None, 100)),
        ("23", 0, object("Ingress", "front", None, twenty()), total()),
        (
            "24",
            0,
            object("Deployment", "llm", None, twenty()),
            total(),
        ),
        (
            "25",
            0,
            object("Namespace", "demo", None, twenty()),
            total(),
        ),
        (
            "26",
            0,
            object("Service", "llm", Some(get), twenty()),
            total(),
        ),
        (
            "27",
            0,
            object("HTTPRoute", "llm", None, twenty()),
            failing(NO_KIND),
        ),
    ]
}

/// As in the recordings: no stabilisation, and 100 % a second both ways.
fn scaling(max: u32, metrics: Vec<Metric>) -> Hpa {
    let second = |rules| Rules {
        stabilization: Some(Duration::ZERO),
        policies: vec![Policy {
            kind: PolicyKind::Percent,
            value: 100,
            period: Duration::from_secs(1),
        }],
        ..rules
    };
    Hpa {
        namespace: "demo".to_owned(),
        name: "llm".to_owned(),
        target: TargetRef {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            name: "llm".to_owned(),
        },
        behavior: Some(Behavior {
            up: second(Rules::up()),
            down: second(Rules::down()),
        }),
        ..Hpa::new(1, max, metrics)
    }
}

fn selecting() -> Hpa {
    let selector = Selector {
        match_labels: BTreeMap::from([("model".to_owned(), "m-1".to_owned())]),
        match_expressions: vec![Requirement {
            key: "route".to_owned(),
            operator: Operator::In,
            values: vec!["a".to_owned(), "b".to_owned()],
        }],
    };
    let metric = Metric {
        source: Source::Pods {
            selector: Some(selector),
        },
        ..Metric::pods(QUEUE, 10_000)
    };
    scaling(10, vec![metric])
}

fn object(kind: &str, name: &str, selector: Option<Selector>, target: Target) -> Hpa {
    let metric = Metric {
        source: Source::Object {
            kind: kind.to_owned(),
            name: name.to_owned(),
            selector,
        },
        name: "service_queue".to_owned(),
        target,
    };
    scaling(10, vec![metric])
}

fn external(selector: Option<Selector>, target: Target) -> Hpa {
    let metric = Metric {
        source: Source::External { selector },
        name: "mesh_requests_waiting".to_owned(),
        target,
    };
    scaling(10, vec![metric])
}

fn odd_labels() -> Selector {
    let labels = [("service", "llm"), ("cluster", "a b/c")];
    Selector {
        match_labels: labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Selector::default()
    }
}

fn good_labels() -> Selector {
    let labels = [("service", "llm"), ("cluster", "a-b.c")];
    Selector {
        match_labels: labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        match_expressions: vec![Requirement {
            key: "x".to_owned(),
            operator: Operator::Exists,
            values: Vec::new(),
        }],
    }
}

fn of_each(milli: i128) -> Answers {
    Box::new(move |here| vec![Ok(Values::PerPod(each(here, milli)))])
}

fn failing(message: &'static str) -> Answers {
    Box::new(move |_| vec![Err(message.to_owned())])
}

fn total() -> Answers {
    Box::new(|_| vec![Ok(Values::Total(20_000))])
}

/// CPU time of pods that request a core each.
fn used(here: u32, milli: i128) -> Values {
    Values::Usage {
        values: each(here, milli),
        requests: each(here, 1000),
    }
}

/// One answer for the pods, one for their CPU time.
fn both(pods: Option<i128>, cpu: i128) -> Answers {
    Box::new(move |here| {
        let pods = pods.map(|milli| Values::PerPod(each(here, milli)));
        vec![
            pods.ok_or_else(|| NOT_FOUND.to_owned()),
            Ok(used(here, cpu)),
        ]
    })
}

/// Title and parts of the scenario `number` in the record.
fn recorded(number: &str) -> (&'static str, Vec<Recorded>) {
    let start = format!("\n## {number}. ");
    let section = RECORD.split(&start).nth(1);
    let section = section.expect("the record has this number");
    let section = section.split("\n## ").next().unwrap_or_default();
    let title = section.lines().next().unwrap_or_default();
    let parts = section.split("   replicas ").skip(1);
    (title, parts.map(part).collect())
}

fn part(text: &str) -> Recorded {
    let mut lines = text.lines();
    let replicas = lines.next().unwrap_or_default();
    let number = |text: &str| text.parse::<u32>().expect("a number of replicas");
    let words: Vec<_> = replicas.split_whitespace().collect();
    let replicas = words.chunks_exact(2).map(|pair| {
        let seconds = pair[0].trim_matches(['+', 's']).replace('.', "");
        let (ready, wanted) = pair[1].split_once('/').expect("ready of wanted pods");
        (number(&seconds), number(ready), number(wanted))
    });
    let replicas: Vec<_> = replicas.collect();
    let here = replicas.last().map_or(0, |last| last.1);
    let mut wanted: Vec<_> = replicas.iter().map(|part| part.2).collect();
    wanted.dedup();
    let status = lines.next().unwrap_or_default().trim();
    let status = status.strip_prefix("status    desiredReplicas ");
    let (desired, current) = status
        .and_then(|status| status.split_once("; currentMetrics "))
        .expect("a status after the replicas");
    let condition = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(name))?;
        let (value, rest) = line.split_once(' ')?;
        let (reason, message) = rest.split_once(": ")?;
        Some((value == "True", reason.to_owned(), message.to_owned()))
    };
    Recorded {
        wanted,
        replicas,
        here,
        desired: number(desired),
        current: current.to_owned(),
        active: condition("ScalingActive=").expect("a condition ScalingActive"),
        limited: condition("ScalingLimited=").map(|(_, reason, message)| (reason, message)),
    }
}
