//! Every scenario that was recorded from Kubernetes 1.36 (`tests/traces/hpa-scenarios.txt`): the
//! same answers lead to the same replicas, step by step, the same conditions and the same
//! `currentMetrics`.

use super::*;

const RECORD: &str = include_str!("../../../../traces/hpa-scenarios.txt");
const QUEUE: &str = "queue_depth";
const SERVICE: &str = "service_queue";
const NOT_FOUND: &str = "the server could not find the metric queue_depth for pods";
const UNAVAILABLE: &str =
    "the server is currently unable to handle the request (get pods.custom.metrics.k8s.io *)";
const SELECTOR: &str = "&LabelSelector{MatchLabels:map[string]string{cluster: a-b.c,service: llm,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:x,Operator:Exists,Values:[],},},}";
const BAD_LABEL: &str = "values[0][cluster]: Invalid value: \"a b/c\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// What a metrics API answers for so many pods.
type Answers = Box<dyn Fn(u32) -> Vec<Answer>>;

/// A scenario by its number in the record, and for those in parts the number of the part.
type Scenario = (&'static str, usize, Autoscaler, Answers);

/// What was recorded of a scenario, or of a part of it.
struct Recorded {
    wanted: Vec<u32>,
    /// Pods at the end, which may be fewer than wanted then.
    here: u32,
    desired: u32,
    current: String,
    active: (bool, String, String),
    limited: Option<(String, String)>,
}

fn names(count: u32) -> Vec<String> {
    (0..count).map(|number| format!("llm-{number}")).collect()
}

fn each(count: u32, milli: i128) -> Values {
    let values = names(count).into_iter().map(|pod| (pod, milli));
    Values::PerPod(values.collect())
}

fn of_pods(milli: i128) -> Answers {
    Box::new(move |here| vec![Ok(each(here, milli))])
}

fn failing(message: &'static str) -> Answers {
    Box::new(move |_| vec![Err(message.to_owned())])
}

fn total(milli: i128) -> Answers {
    Box::new(move |_| vec![Ok(Values::Total(milli))])
}

/// One answer for the pods, one for their CPU time.
fn both(pods: Option<i128>, cpu: i128) -> Answers {
    Box::new(move |here| {
        let pods = pods.map_or_else(|| Err(NOT_FOUND.to_owned()), |milli| Ok(each(here, milli)));
        vec![pods, Ok(each(here, cpu))]
    })
}

fn pods() -> Autoscaler {
    Autoscaler::new(1, 10, vec![Metric::pods(QUEUE, 10_000)])
}

fn object(kind: &'static str, at: &'static str, target: Target) -> Autoscaler {
    let metric = Metric {
        source: Source::Object { kind, at },
        name: SERVICE.to_owned(),
        target,
    };
    Autoscaler::new(1, 10, vec![metric])
}

fn external(selector: &'static str, target: Target) -> Autoscaler {
    let metric = Metric {
        source: Source::External { selector },
        name: "mesh_requests_waiting".to_owned(),
        target,
    };
    Autoscaler::new(1, 10, vec![metric])
}

fn cpu(container: bool) -> Metric {
    Metric {
        source: Source::Cpu {
            request_milli: 1000,
            container,
        },
        name: "cpu".to_owned(),
        target: Target::Utilization(50),
    }
}

fn two() -> Autoscaler {
    Autoscaler::new(1, 6, vec![Metric::pods(QUEUE, 10_000), cpu(false)])
}

fn named(name: &str) -> Autoscaler {
    Autoscaler::new(1, 10, vec![Metric::pods(name, 10_000)])
}

fn of_custom_metrics() -> Vec<Scenario> {
    let odd = "job:queue.depth-P95:sum";
    let one = || {
        let values = BTreeMap::from([("llm-0".to_owned(), 40_000)]);
        vec![Ok(Values::PerPod(values))]
    };
    let tolerant = Autoscaler {
        tolerance_milli: 20,
        factor_up: None,
        ..pods()
    };
    vec![
        ("1", 0, pods(), of_pods(10_000)),
        ("2", 0, pods(), of_pods(25_000)),
        ("3", 0, pods(), of_pods(2_000)),
        ("4", 0, pods(), of_pods(10_900)),
        ("5", 0, pods(), of_pods(10_000)),
        ("12", 0, pods(), failing(NOT_FOUND)),
        ("13", 0, pods(), failing("injected")),
        ("14", 0, pods(), failing("injected")),
        ("15", 0, pods(), failing("injected")),
        ("18", 0, pods(), Box::new(move |_| one())),
        ("19", 0, pods(), Box::new(|_| vec![Ok(each(0, 0))])),
        ("20", 0, pods(), of_pods(0)),
        ("21", 0, pods(), of_pods(15_000)),
        // Of five pods one had not come up yet when it was asked.
        (
            "22",
            0,
            pods(),
            Box::new(|here| vec![Ok(each(if here == 5 { 4 } else { here }, 15_000))]),
        ),
        ("28", 0, named(odd), of_pods(10_000)),
        ("29", 0, named(odd), of_pods(10_000)),
        ("32", 0, tolerant, of_pods(10_500)),
        ("33", 0, pods(), of_pods(10_000)),
        ("33", 1, pods(), of_pods(10_000)),
        ("34", 0, pods(), failing(UNAVAILABLE)),
        ("34", 1, pods(), of_pods(10_000)),
        ("35", 0, pods(), of_pods(20_000)),
    ]
}

fn of_others() -> Vec<Scenario> {
    let value = Target::Value(20_000);
    let container = Autoscaler::new(1, 10, vec![cpu(true)]);
    let no_kind = "unable to map kind HTTPRoute.gateway.networking.k8s.io to resource: no matches for kind \"HTTPRoute\" in group \"gateway.networking.k8s.io\"";
    vec![
        (
            "6",
            0,
            object("Service", "demo llm", Target::Value(10_000)),
            total(20_000),
        ),
        (
            "7",
            0,
            object("Service", "demo llm", Target::Average(5_000)),
            total(20_000),
        ),
        (
            "8",
            0,
            external("nil", Target::Average(5_000)),
            failing(BAD_LABEL),
        ),
        (
            "8b",
            0,
            external(SELECTOR, Target::Average(5_000)),
            total(20_000),
        ),
        ("8c", 0, external("nil", value), total(20_000)),
        (
            "9",
            0,
            Autoscaler::new(1, 10, vec![cpu(false)]),
            of_pods(1000),
        ),
        ("10", 0, container, of_pods(1000)),
        ("11", 0, two(), both(Some(25_000), 500)),
        ("16", 0, two(), both(None, 1000)),
        ("17", 0, two(), both(None, 100)),
        (
            "23",
            0,
            object("Ingress", "demo front", value),
            total(20_000),
        ),
        (
            "24",
            0,
            object("Deployment", "demo llm", value),
            total(20_000),
        ),
        (
            "25",
            0,
            object("Namespace", "demo demo", value),
            total(20_000),
        ),
        ("26", 0, object("Service", "demo llm", value), total(20_000)),
        (
            "27",
            0,
            object("HTTPRoute", "demo llm", value),
            failing(no_kind),
        ),
    ]
}

/// The parts of the scenario `number` in the record.
fn recorded(number: &str) -> Vec<Recorded> {
    let start = format!("\n## {number}. ");
    let section = RECORD.split(&start).nth(1).expect("a recorded scenario");
    let section = section.split("\n## ").next().unwrap();
    let parts = section.split("   replicas ").skip(1);
    parts.map(part).collect()
}

fn part(text: &str) -> Recorded {
    let mut lines = text.lines();
    let replicas = lines.next().unwrap();
    let (mut here, mut wanted) = (0, Vec::<u32>::new());
    for (running, desired) in replicas
        .split_whitespace()
        .filter_map(|word| word.split_once('/'))
    {
        here = running.parse().unwrap();
        wanted.push(desired.parse().unwrap());
    }
    wanted.dedup();
    let status = lines.next().unwrap().trim();
    let status = status.strip_prefix("status    desiredReplicas ").unwrap();
    let (desired, current) = status.split_once("; currentMetrics ").unwrap();
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
        here,
        desired: desired.parse().unwrap(),
        current: current.to_owned(),
        active: condition("ScalingActive=").unwrap(),
        limited: condition("ScalingLimited=").map(|(_, reason, message)| (reason, message)),
    }
}

#[test]
fn agrees_with_every_recorded_scenario() {
    let scenarios: Vec<Scenario> = of_custom_metrics().into_iter().chain(of_others()).collect();
    for (number, part, autoscaler, answers) in &scenarios {
        let recorded = recorded(number).remove(*part);
        let decide = |here: u32| autoscaler.decide(&names(here), &answers(here));
        for pair in recorded.wanted.windows(2) {
            let decision = decide(pair[0]);
            assert_eq!(
                decision.replicas,
                Some(pair[1]),
                "scenario {number} at {}",
                pair[0]
            );
        }
        let decision = decide(recorded.here);
        let (active, reason, message) = &recorded.active;
        assert_eq!(decision.replicas.is_some(), *active, "scenario {number}");
        if *active {
            assert_eq!(
                decision.replicas,
                Some(recorded.desired),
                "scenario {number}"
            );
        }
        assert_eq!(
            decision.active,
            (reason.as_str(), message.clone()),
            "scenario {number}"
        );
        let limited = recorded.limited.as_ref();
        let limited = limited.map(|(reason, message)| (reason.as_str(), message.as_str()));
        assert_eq!(decision.limited, limited, "scenario {number}");
        assert_eq!(decision.current, recorded.current, "scenario {number}");
    }
    // None is left out: the record has as many numbered scenarios.
    let numbered = RECORD
        .split("\n## ")
        .filter(|section| section.starts_with(|c: char| c.is_ascii_digit()))
        .count();
    let first_parts = scenarios.iter().filter(|(_, part, ..)| *part == 0).count();
    assert_eq!(first_parts, numbered);
}
