//! What an implementation of Gateway API does with a request, as its specification says. Naive: it
//! looks at all matches of all rules of all routes, each time.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::request::{Answer, Outcome, Request, is_match};
use crate::schemas::millis;

/// What the specification leaves open: when paths by regular expression are tried.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RegexPaths {
    First,
    Last,
}

pub(crate) struct Gateway<'a> {
    routes: Vec<&'a Value>,
    regex_paths: RegexPaths,
}

impl<'a> Gateway<'a> {
    /// Of the routes with this kind and parent, older ones first.
    pub(crate) fn of(
        documents: &'a [Value],
        kind: &str,
        (service, port): (&str, u16),
        regex_paths: RegexPaths,
    ) -> Self {
        let (namespace, name) = service.split_once('/').unwrap();
        let is_parent = |parent: &Value| {
            parent["name"] == name && parent["port"] == port && parent["kind"] == "Service"
        };
        let routes = documents.iter().filter(|document| {
            let parents = document["spec"]["parentRefs"].as_array();
            document["kind"] == kind
                && document["metadata"]["namespace"] == namespace
                && parents.is_some_and(|parents| parents.iter().any(is_parent))
        });
        let mut routes: Vec<_> = routes.collect();
        // Of one age: by name.
        routes.sort_by_key(|route| route["metadata"]["name"].as_str().unwrap());
        Self {
            routes,
            regex_paths,
        }
    }

    /// `HTTPRoute`s of a Gateway's listener, with the most specific host name that `host` matches.
    pub(crate) fn of_listener(
        documents: &'a [Value],
        (gateway, section): (&str, &str),
        host: &str,
        regex_paths: RegexPaths,
    ) -> Self {
        let (namespace, name) = gateway.split_once('/').unwrap();
        let is_parent = |parent: &Value| {
            parent["name"] == name
                && parent["sectionName"] == section
                && parent["kind"] == "Gateway"
        };
        // Characters of an exact name, then of any.
        let rank = |route: &Value| {
            let names: Vec<_> = items(&route["spec"]["hostnames"]).collect();
            let ranks = names.iter().filter_map(|name| {
                let name = name.as_str().unwrap();
                match name.strip_prefix('*') {
                    Some(suffix) => host.ends_with(suffix).then_some((0, name.len())),
                    None => (name == host).then_some((name.len(), name.len())),
                }
            });
            if names.is_empty() {
                Some((0, 0))
            } else {
                ranks.max()
            }
        };
        let routes = documents.iter().filter(|document| {
            document["kind"] == "HTTPRoute"
                && document["metadata"]["namespace"] == namespace
                && items(&document["spec"]["parentRefs"]).any(is_parent)
        });
        let ranked: Vec<_> = routes
            .filter_map(|route| Some((rank(route)?, route)))
            .collect();
        let best = ranked.iter().map(|(rank, _)| *rank).max();
        let routes = ranked.into_iter().filter(|(rank, _)| Some(*rank) == best);
        let mut routes: Vec<_> = routes.map(|(_, route)| route).collect();
        routes.sort_by_key(|route| route["metadata"]["name"].as_str().unwrap());
        Self {
            routes,
            regex_paths,
        }
    }

    /// Services with weights, and host and path that arrive there.
    pub(crate) fn forwarded(&self, host: &str, request: &Request) -> (String, String) {
        let Some((_, rule, matched)) = self.find(request) else {
            return ("no route".to_owned(), String::new());
        };
        let targets = items(&rule["backendRefs"]).map(|backend| {
            let (name, weight) = (backend["name"].as_str().unwrap(), &backend["weight"]);
            format!("{name} {weight}")
        });
        let rewrite = &rule["filters"][0]["urlRewrite"];
        let host = rewrite["hostname"].as_str().unwrap_or(host);
        let path = match rewrite["path"]["type"].as_str() {
            None => request.path.to_owned(),
            Some("ReplaceFullPath") => rewrite["path"]["replaceFullPath"]
                .as_str()
                .unwrap()
                .to_owned(),
            Some(_) => {
                let prefix = matched["path"]["value"].as_str().unwrap();
                let rest = request
                    .path
                    .strip_prefix(prefix.trim_end_matches('/'))
                    .unwrap();
                let value = rewrite["path"]["replacePrefixMatch"].as_str().unwrap();
                if rest.is_empty() {
                    value.to_owned()
                } else {
                    format!("{}{rest}", value.trim_end_matches('/'))
                }
            }
        };
        let targets: Vec<_> = targets.collect();
        if targets.is_empty() {
            return ("no route".to_owned(), String::new());
        }
        (targets.join(", "), format!("{host}{path}"))
    }

    pub(crate) fn answer(&self, request: &Request) -> Outcome {
        let (route, rule, _) = self.find(request)?;
        Some(answer(route, rule))
    }

    /// The route, rule and match that have precedence.
    fn find(&self, request: &Request) -> Option<(&Value, &Value, &Value)> {
        let mut best: Option<(&Value, &Value, &Value)> = None;
        for route in &self.routes {
            for rule in items(&route["spec"]["rules"]) {
                for matched in items(&rule["matches"]) {
                    if !matches(matched, request) {
                        continue;
                    }
                    let is_better =
                        best.is_none_or(|(_, _, best)| self.order(matched, best).is_gt());
                    if is_better {
                        best = Some((route, rule, matched));
                    }
                }
            }
        }
        best
    }

    /// Greater if `one` has precedence.
    fn order(&self, one: &Value, other: &Value) -> Ordering {
        let paths = |matched: &Value| {
            let path = &matched["path"];
            let length = path["value"].as_str().map_or(0, str::len);
            match (path["type"].as_str(), self.regex_paths) {
                (Some("RegularExpression"), RegexPaths::First) => (3, 0),
                (Some("Exact"), _) => (2, 0),
                (Some("PathPrefix"), _) => (1, length),
                _ => (0, 0),
            }
        };
        let length = |text: &Value| text.as_str().map_or(0, str::len);
        let calls = |matched: &Value| {
            let call = &matched["method"];
            (length(&call["service"]), length(&call["method"]))
        };
        let is_of_method = |matched: &Value| matched["method"].is_string();
        let count = |list: &Value| items(list).count();
        paths(one)
            .cmp(&paths(other))
            .then(calls(one).cmp(&calls(other)))
            .then(is_of_method(one).cmp(&is_of_method(other)))
            .then(count(&one["headers"]).cmp(&count(&other["headers"])))
            .then(count(&one["queryParams"]).cmp(&count(&other["queryParams"])))
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn matches(matched: &Value, request: &Request) -> bool {
    let path = &matched["path"];
    let of_path = path.is_null() || {
        let value = path["value"].as_str().unwrap();
        match path["type"].as_str().unwrap() {
            "Exact" => request.path == value,
            "PathPrefix" => {
                let elements = |path: &'static str| {
                    path.split('/')
                        .filter(|one| !one.is_empty())
                        .collect::<Vec<_>>()
                };
                let prefix: Vec<_> = value.split('/').filter(|one| !one.is_empty()).collect();
                elements(request.path).starts_with(&prefix)
            }
            _ => is_match(value, request.path),
        }
    };
    let method = &matched["method"];
    let of_method = if method.is_object() {
        let (service, name) = request
            .path
            .trim_start_matches('/')
            .split_once('/')
            .unwrap();
        let is = |field: &Value, name: &str| field.is_null() || field == name;
        is(&method["service"], service) && is(&method["method"], name)
    } else {
        method.is_null() || method == request.method
    };
    of_path
        && of_method
        && conditions(&matched["headers"], &request.headers)
        && conditions(&matched["queryParams"], &request.parameters)
}

fn conditions(list: &Value, values: &BTreeMap<&str, &str>) -> bool {
    let mut all = items(list);
    all.all(|condition| {
        let (name, wanted) = (
            condition["name"].as_str().unwrap(),
            condition["value"].as_str().unwrap(),
        );
        let Some(value) = values.get(name) else {
            return false;
        };
        match condition["type"].as_str().unwrap() {
            "Exact" => *value == wanted,
            _ => is_match(wanted, value),
        }
    })
}

fn answer(route: &Value, rule: &Value) -> Answer {
    let namespace = route["metadata"]["namespace"].as_str().unwrap();
    let mut targets = BTreeMap::new();
    for backend in items(&rule["backendRefs"]) {
        let namespace = backend["namespace"].as_str().unwrap_or(namespace);
        let name = format!("{namespace}/{}", backend["name"].as_str().unwrap());
        let port = backend["port"].as_u64().unwrap();
        *targets.entry((name, port)).or_default() += backend["weight"].as_u64().unwrap();
    }
    let timeout = |field: &str| rule["timeouts"][field].as_str().map_or(0, millis);
    Answer {
        targets,
        timeout: timeout("request"),
        per_try: timeout("backendRequest"),
        retries: rule["retry"]["attempts"].as_u64().unwrap_or_default(),
        codes: items(&rule["retry"]["codes"])
            .filter_map(Value::as_u64)
            .collect(),
    }
}
