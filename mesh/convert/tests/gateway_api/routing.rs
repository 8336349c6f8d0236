//! Requests have the same targets, timeouts and retries in App Mesh and in Gateway API, or a
//! finding names the route.

use std::collections::BTreeSet;

use mesh_convert::{Channel, Conversion, Finding, Lack};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::converted;
use crate::envoy::Envoy;
use crate::generated::{self, Vocabulary};
use crate::model::{Gateway, RegexPaths};
use crate::read;
use crate::request::{Answer, Outcome, Request, get};
use crate::schemas::read_strictly;

const COLORS: &str = include_str!("../fixtures/colors.yaml");

const CALLER: &str = "mesh/m/virtualNode/caller_prod";

/// (request, Services with weights); App Mesh and Gateway API agree.
#[test]
fn requests_go_where_they_went() {
    let (_, meshes) = read(COLORS);
    let conversion = converted(COLORS, Channel::Experimental);
    let envoy = Envoy::of(&meshes, CALLER);
    let parent = ("prod/colors", 8080);
    let gateway = Gateway::of(&conversion.documents, "HTTPRoute", parent, RegexPaths::Last);
    let delete = Request {
        method: "DELETE",
        ..get("/", &[], &[])
    };
    for (request, expected) in [
        (get("/", &[], &[]), "one 95, two 5"),
        (get("/blue", &[], &[]), "two 1"),
        (get("/blue/sky", &[], &[]), "one 95, two 5"),
        // Before the longer path, for its priority.
        (get("/blue", &[("x-tester", "yes")], &[]), "three 1"),
        (get("/new/a", &[("x-tester", "yes")], &[]), "three 1"),
        (get("/new/a", &[("x-tester", "no")], &[]), "two 2"),
        (get("/new", &[], &[("q", "1")]), "two 2"),
        (get("/", &[], &[("q", "1")]), "one 1"),
        (get("/", &[], &[("q", "2")]), "one 95, two 5"),
        (get("/", &[("color", "red")], &[("q", "1")]), "two 3"),
        (delete, "three 2"),
        (get("/never/reached", &[], &[]), "one 95, two 5"),
    ] {
        let of_envoy = envoy.answer("colors.prod:8080", &request);
        assert_eq!(shown(&of_envoy), expected, "Envoy: {request:?}");
        assert_eq!(gateway.answer(&request), of_envoy, "{request:?}");
    }
}

fn shown(outcome: &Outcome) -> String {
    let Some(answer) = outcome else {
        return "none".to_owned();
    };
    let targets = answer.targets.iter();
    let name = |service: &str| service.trim_start_matches("prod/").to_owned();
    let shown = targets.map(|((service, _), weight)| format!("{} {weight}", name(service)));
    shown.collect::<Vec<_>>().join(", ")
}

/// The route of an answer, by its first target's number: each route has one of its own.
fn routes_of(outcome: &Outcome) -> Vec<String> {
    let targets = outcome.iter().flat_map(|answer| answer.targets.keys());
    let numbers = targets.filter_map(|(service, _)| service.strip_prefix("prod/t"));
    numbers
        .map(|number| format!("spec.routes[{number}]"))
        .collect()
}

/// Whether a finding about where requests go is of one of the routes.
fn is_named(conversion: &Conversion, outcomes: [&Outcome; 2]) -> bool {
    let routes: Vec<_> = outcomes.into_iter().flat_map(routes_of).collect();
    let is_of = |finding: &Finding, route: &String| {
        let rest = finding.path.strip_prefix(route.as_str());
        let begins = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        finding.lack != Lack::NoCounterpart && finding.what == "VirtualRouter prod/r" && begins
    };
    let mut findings = conversion.findings.iter();
    findings.any(|finding| routes.iter().any(|route| is_of(finding, route)))
}

/// What gRPC has.
fn targets_only(outcome: Outcome) -> Outcome {
    outcome.map(|answer| Answer {
        timeout: 0,
        per_try: 0,
        retries: 0,
        codes: BTreeSet::default(),
        ..answer
    })
}

/// Compares random requests with random routers. Returns how many there were, and how many of them
/// had another answer.
fn compare(vocabulary: Vocabulary, routes: usize, seeds: std::ops::Range<u64>) -> (usize, usize) {
    let (mut all, mut others) = (0, 0);
    let is_grpc = vocabulary == Vocabulary::Grpc;
    let kind = if is_grpc { "GRPCRoute" } else { "HTTPRoute" };
    for seed in seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let text = generated::mesh(&mut random, vocabulary, routes);
        let (report, meshes) = read(&text);
        assert!(!report.refuses(), "{report:?}\n{text}");
        let conversion = converted(&text, Channel::Experimental);
        // Slow: it compiles the schemas.
        if seed % 10 == 0 {
            read_strictly(&conversion.documents, Channel::Experimental);
        }
        let envoy = Envoy::of(&meshes, CALLER);
        for regex_paths in [RegexPaths::First, RegexPaths::Last] {
            let gateway = Gateway::of(
                &conversion.documents,
                kind,
                ("prod/called", 80),
                regex_paths,
            );
            for _ in 0..40 {
                let request = generated::request(&mut random, vocabulary);
                let mut expected = envoy.answer("called.prod:80", &request);
                if is_grpc {
                    expected = targets_only(expected);
                }
                let found = gateway.answer(&request);
                all += 1;
                if found != expected {
                    others += 1;
                    assert!(
                        vocabulary == Vocabulary::Whole
                            && is_named(&conversion, [&found, &expected]),
                        "seed {seed}, {regex_paths:?}: {request:?}\n{expected:?}\n{found:?}\n{:#?}\n{text}",
                        conversion.findings
                    );
                }
            }
        }
    }
    (all, others)
}

#[test]
fn random_routers_route_alike() {
    assert_eq!(compare(Vocabulary::Sayable, 7, 0..150).1, 0);
    assert_eq!(compare(Vocabulary::Grpc, 7, 0..100).1, 0);
}

/// More rules than a route takes.
#[test]
fn routes_in_parts_route_alike() {
    assert_eq!(compare(Vocabulary::Sayable, 24, 1000..1040).1, 0);
}

#[test]
fn what_differs_is_named() {
    let (all, others) = compare(Vocabulary::Whole, 6, 0..200);
    assert!(others > 0 && others * 2 < all, "{others} of {all}");
}
