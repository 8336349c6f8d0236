//! Routers at random, each route with a target of its own, and requests for them.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::{Rng as _, seq::IndexedRandom as _};

use crate::request::Request;

/// What routers have in them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Vocabulary {
    /// What Gateway API can say whole.
    Sayable,
    /// Regular expressions, inverted matches and the like, too.
    Whole,
    Grpc,
}

const PATHS: [&str; 9] = [
    "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/b/1", "/c",
];
/// Of them those that prefixes of characters and of elements tell apart alike.
const PLAIN_PATHS: [&str; 7] = ["/", "/a", "/a/b", "/a/b/c", "/b", "/b/1", "/c"];
const CALLS: [&str; 5] = ["/a.S/Get", "/a.S/Put", "/a.Sx/Get", "/b.T/Get", "/b.T/Del"];
const VALUES: [&str; 3] = ["blue", "green", "7"];

/// All but the router and its targets.
const HEAD: &str = "\
apiVersion: appmesh.k8s.aws/v1beta2
kind: Mesh
metadata: {name: m}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualService
metadata: {name: called, namespace: prod}
spec: {provider: {virtualRouter: {virtualRouterRef: {name: r}}}}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {name: caller, namespace: prod}
spec: {backends: [{virtualService: {virtualServiceRef: {name: called}}}]}
";

/// A mesh with a router of up to `routes` routes; its Service is `prod/called`, on port 80.
pub(crate) fn mesh(random: &mut StdRng, vocabulary: Vocabulary, routes: usize) -> String {
    let count = random.random_range(1..=routes);
    let protocol = if vocabulary == Vocabulary::Grpc {
        "grpc"
    } else {
        "http"
    };
    let mut text = HEAD.to_owned();
    let mut rows = String::new();
    for nth in 0..count {
        let _ = write!(
            text,
            "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNode\nmetadata: {{name: t{nth}, namespace: prod}}\n\
             spec: {{listeners: [{{portMapping: {{port: 8080, protocol: {protocol}}}}}], serviceDiscovery: {{dns: {{hostname: t{nth}.prod.svc.cluster.local}}}}}}\n"
        );
        let priority = if random.random_bool(0.7) {
            format!("priority: {}, ", random.random_range(0..4))
        } else {
            String::new()
        };
        let other = random.random_range(0..count);
        let weights = (random.random_range(1..=100), random.random_range(0..=100));
        let _ = writeln!(
            rows,
            "    - {{name: r{nth}, {priority}{protocol}Route: {{match: {{{}}}, action: {{weightedTargets: [{{virtualNodeRef: {{name: t{nth}}}, weight: {}}}, {{virtualNodeRef: {{name: t{other}}}, weight: {}}}]}}{}}}}}",
            matched(random, vocabulary),
            weights.0,
            weights.1,
            policies(random, vocabulary),
        );
    }
    let _ = write!(
        text,
        "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualRouter\nmetadata: {{name: r, namespace: prod}}\nspec:\n  listeners: [{{portMapping: {{port: 80, protocol: {protocol}}}}}]\n  routes:\n{rows}"
    );
    text
}

fn matched(random: &mut StdRng, vocabulary: Vocabulary) -> String {
    let is_grpc = vocabulary == Vocabulary::Grpc;
    let mut parts = if is_grpc {
        call(random)
    } else {
        target(random, vocabulary == Vocabulary::Whole)
    };
    let field = if is_grpc { "metadata" } else { "headers" };
    let headers = conditions(random, &["color", "Size"], vocabulary == Vocabulary::Whole);
    parts.push(format!("{field}: [{headers}]"));
    parts.join(", ")
}

fn call(random: &mut StdRng) -> Vec<String> {
    let service = one(random, &["a.S", "b.T"]);
    match random.random_range(0..4) {
        0 => vec![],
        1 => vec!["serviceName: a.Sx".to_owned()],
        2 => vec![format!("serviceName: {service}")],
        _ => vec![format!(
            "serviceName: {service}, methodName: {}",
            one(random, &["Get", "Put"])
        )],
    }
}

fn target(random: &mut StdRng, is_whole: bool) -> Vec<String> {
    let paths: &[_] = if is_whole { &PATHS } else { &PLAIN_PATHS };
    let mut parts = vec![match random.random_range(0..6) {
        0 => format!("path: {{exact: {}}}", one(random, paths)),
        1 if is_whole => format!(
            "path: {{regex: \"{}\"}}",
            one(random, &["/a.*", "/[ab]/?.*", "/b/[0-9]", ".*"])
        ),
        2..4 => "prefix: /".to_owned(),
        _ => format!("prefix: {}", one(random, paths)),
    }];
    if random.random_bool(0.3) {
        parts.push(format!("method: {}", one(random, &["GET", "POST"])));
    }
    if is_whole && random.random_bool(0.1) {
        parts.push("scheme: http".to_owned());
    }
    let parameters = conditions(random, &["q", "p"], false);
    parts.push(format!("queryParameters: [{parameters}]"));
    parts
}

fn conditions(random: &mut StdRng, names: &[&str], is_whole: bool) -> String {
    let mut all = Vec::new();
    for name in names {
        if random.random_bool(0.3) {
            let value = one(random, &VALUES);
            let matched = match random.random_range(0..if is_whole { 7 } else { 2 }) {
                0 => String::new(),
                2 => ", match: {prefix: b}".to_owned(),
                3 => ", match: {suffix: \"n\"}".to_owned(),
                4 => ", match: {regex: \"b|g.*\"}".to_owned(),
                5 => ", match: {range: {start: 1, end: 9}}".to_owned(),
                6 => format!(", match: {{exact: \"{value}\"}}, invert: true"),
                _ => format!(", match: {{exact: \"{value}\"}}"),
            };
            all.push(format!("{{name: {name}{matched}}}"));
        }
    }
    all.join(", ")
}

fn policies(random: &mut StdRng, vocabulary: Vocabulary) -> String {
    let mut text = String::new();
    if random.random_bool(0.4) {
        let millis = one(random, &["0", "900", "2500", "60000"]);
        let _ = write!(
            text,
            ", timeout: {{perRequest: {{unit: ms, value: {millis}}}}}"
        );
    }
    if random.random_bool(0.4) && vocabulary != Vocabulary::Grpc {
        let events = one(
            random,
            &[
                "server-error",
                "gateway-error",
                "gateway-error, client-error",
            ],
        );
        let (retries, millis) = (
            random.random_range(0..4),
            one(random, &["0", "500", "3000"]),
        );
        let _ = write!(
            text,
            ", retryPolicy: {{maxRetries: {retries}, perRetryTimeout: {{unit: ms, value: {millis}}}, httpRetryEvents: [{events}]}}"
        );
    }
    text
}

pub(crate) fn request(random: &mut StdRng, vocabulary: Vocabulary) -> Request {
    let mut request = Request {
        path: match vocabulary {
            Vocabulary::Sayable => one(random, &PLAIN_PATHS),
            Vocabulary::Whole => one(random, &PATHS),
            Vocabulary::Grpc => one(random, &CALLS),
        },
        method: if vocabulary == Vocabulary::Grpc {
            "POST"
        } else {
            one(random, &["GET", "POST"])
        },
        ..Request::default()
    };
    for name in ["color", "size"] {
        if random.random_bool(0.5) {
            request.headers.insert(name, one(random, &VALUES));
        }
    }
    for name in ["q", "p"] {
        if random.random_bool(0.5) {
            request.parameters.insert(name, one(random, &VALUES));
        }
    }
    request
}

fn one(random: &mut StdRng, of: &[&'static str]) -> &'static str {
    of.choose(random).unwrap()
}
