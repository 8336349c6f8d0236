//! What an Envoy of App Mesh does with a request, by the routes that our control plane sends it.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier as Header;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier as Parameter;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HostRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::Duration;
use mesh_control_plane::envoy::{Ports, ROUTE, Snapshot};
use mesh_control_plane::mesh::{Meshes, node_name};
use prost::Message as _;

use crate::request::{Answer, Outcome, Request, is_match};

pub(crate) struct Envoy {
    hosts: Vec<VirtualHost>,
    /// Service and port by the name of the cluster.
    clusters: BTreeMap<String, (String, u64)>,
}

impl Envoy {
    /// That of the node with this id. Each node is behind the Service of its own name.
    pub(crate) fn of(meshes: &Meshes, node: &str) -> Self {
        let snapshot = Snapshot::new(&meshes.node_of(node).unwrap(), &Ports::default());
        let routes = snapshot.of(ROUTE).values();
        let routes = routes.map(|any| RouteConfiguration::decode(&any.value[..]).unwrap());
        Self {
            hosts: routes.flat_map(|routes| routes.virtual_hosts).collect(),
            clusters: clusters(meshes),
        }
    }

    /// That of a gateway, with the virtual hosts of both passes.
    pub(crate) fn of_gateway(meshes: &Meshes, gateway: &str) -> Self {
        let gateway = meshes.gateway_of(gateway).unwrap();
        let snapshot = Snapshot::of_gateway(&gateway, &Ports::default());
        let routes = snapshot.of(ROUTE).values();
        let routes = routes.map(|any| RouteConfiguration::decode(&any.value[..]).unwrap());
        Self {
            hosts: routes.flat_map(|routes| routes.virtual_hosts).collect(),
            clusters: clusters(meshes),
        }
    }

    /// Services with weights, and host and path that arrive there.
    pub(crate) fn forwarded(&self, host: &str, request: &Request) -> (String, String) {
        let (second, first): (Vec<_>, Vec<_>) =
            self.hosts.iter().partition(|one| one.name == "all");
        let rank = |one: &&&VirtualHost| {
            let domain = one.domains[0].as_str();
            match domain.strip_prefix('*') {
                Some(suffix) => host.ends_with(suffix).then_some(suffix.len()),
                None => (domain == host).then_some(usize::MAX),
            }
        };
        let hosts = first.iter().filter(|one| rank(one).is_some());
        let virtual_host = hosts.max_by_key(rank).unwrap();
        let is_match =
            |route: &&Route, request: &Request| matches(route.r#match.as_ref().unwrap(), request);
        let mut routes = virtual_host.routes.iter();
        let Some(route) = routes.find(|route| is_match(route, request)) else {
            return ("no route".to_owned(), String::new());
        };
        let Some(Action::Route(action)) = &route.action else {
            panic!("no route: {route:?}");
        };
        let host = match &action.host_rewrite_specifier {
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => host,
            _ => host,
        };
        let path = action.regex_rewrite.as_ref().map_or_else(
            || request.path.to_owned(),
            |rewrite| {
                let regex = &rewrite.pattern.as_ref().unwrap().regex;
                let regex = regex::Regex::new(regex).unwrap();
                let path = regex.replace(request.path, rewrite.substitution.as_str());
                path.into_owned()
            },
        );
        let added = route.request_headers_to_add[0].header.as_ref().unwrap();
        let mut again = request.clone();
        again.path = path.clone().leak();
        let (name, value) = (added.key.clone().leak(), added.value.clone().leak());
        again.headers.insert(name, value);
        let mut routes = second[0].routes.iter();
        let targets =
            match routes.find(|route| is_match(route, &again)) {
                None => return ("no route".to_owned(), String::new()),
                Some(route) => match route.action.as_ref().unwrap() {
                    Action::Route(action) => {
                        let targets = self.routed(action).targets.into_iter().map(
                            |((service, _), weight)| {
                                format!("{} {weight}", service.trim_start_matches("prod/"))
                            },
                        );
                        targets.collect::<Vec<_>>().join(", ")
                    }
                    _ => panic!("no route: {route:?}"),
                },
            };
        (targets, format!("{host}{path}"))
    }

    pub(crate) fn answer(&self, host: &str, request: &Request) -> Outcome {
        let mut hosts = self.hosts.iter();
        let found = hosts.find(|one| one.domains.iter().any(|domain| domain == host));
        let mut routes = found.unwrap_or_else(|| panic!("no {host}")).routes.iter();
        let route = routes.find(|route| matches(route.r#match.as_ref().unwrap(), request))?;
        Some(match route.action.as_ref().unwrap() {
            Action::Route(action) => self.routed(action),
            _ => panic!("no route: {route:?}"),
        })
    }

    fn routed(&self, action: &RouteAction) -> Answer {
        let Some(ClusterSpecifier::WeightedClusters(weighted)) = &action.cluster_specifier else {
            panic!("no weights");
        };
        let mut targets = BTreeMap::new();
        for cluster in &weighted.clusters {
            let target = self.clusters[&cluster.name].clone();
            *targets.entry(target).or_default() += u64::from(cluster.weight.unwrap().value);
        }
        let retries = action.retry_policy.as_ref().unwrap();
        let (timeout, per_try) = (
            millis(action.timeout.as_ref()),
            millis(retries.per_try_timeout.as_ref()),
        );
        let is_longer = timeout > 0 && per_try > timeout;
        let number = u64::from(retries.num_retries.unwrap().value);
        Answer {
            targets,
            timeout,
            per_try: if is_longer { 0 } else { per_try },
            retries: number,
            codes: if number == 0 {
                BTreeSet::new()
            } else {
                codes(retries)
            },
        }
    }
}

/// Service and port by the name of the cluster.
fn clusters(meshes: &Meshes) -> BTreeMap<String, (String, u64)> {
    let mut clusters = BTreeMap::new();
    for mesh in meshes.iter() {
        for (key, node) in mesh.nodes.iter() {
            for listener in &node.listeners {
                let (port, protocol) = (listener.port_mapping.port, listener.port_mapping.protocol);
                let (name, protocol) = (node_name(key, node), protocol.as_str());
                let cluster = format!("cds_egress_{}_{name}_{protocol}_{port}", mesh.name);
                clusters.insert(
                    cluster,
                    (format!("{}/{}", key.namespace, key.name), u64::from(port)),
                );
            }
        }
    }
    clusters
}

/// Of `5xx` those that App Mesh documents.
fn codes(retries: &RetryPolicy) -> BTreeSet<u64> {
    let mut codes = BTreeSet::new();
    for event in retries.retry_on.split(',') {
        let of_event: Vec<u64> = match event {
            "5xx" => (500..=511).filter(|code| *code != 509).collect(),
            "gateway-error" => vec![502, 503, 504],
            "retriable-4xx" => vec![409],
            "retriable-status-codes" => retries
                .retriable_status_codes
                .iter()
                .copied()
                .map(u64::from)
                .collect(),
            _ => vec![],
        };
        codes.extend(of_event);
    }
    codes
}

fn millis(duration: Option<&Duration>) -> u64 {
    let millis = |duration: &Duration| {
        u64::try_from(duration.seconds * 1000 + i64::from(duration.nanos) / 1_000_000).unwrap()
    };
    duration.map_or(0, millis)
}

fn matches(matched: &RouteMatch, request: &Request) -> bool {
    let path = request.path;
    let of_path = match matched.path_specifier.as_ref().unwrap() {
        PathSpecifier::Path(exact) => path == exact,
        PathSpecifier::Prefix(prefix) => path.starts_with(prefix),
        PathSpecifier::SafeRegex(regex) => is_whole(&regex.regex, path),
        other => panic!("{other:?}"),
    };
    of_path
        && matched
            .headers
            .iter()
            .all(|header| header_matches(header, request))
        && matched.query_parameters.iter().all(|parameter| {
            let value = request.parameters.get(&*parameter.name).copied();
            match parameter.query_parameter_match_specifier.as_ref().unwrap() {
                Parameter::PresentMatch(_) => value.is_some(),
                Parameter::StringMatch(text) => {
                    value.is_some_and(|value| text_matches(text, value))
                }
            }
        })
}

fn header_matches(header: &HeaderMatcher, request: &Request) -> bool {
    let value = match &*header.name {
        ":method" => Some(request.method),
        ":scheme" => Some("http"),
        name => request.headers.get(&*name.to_ascii_lowercase()).copied(),
    };
    let holds = match header.header_match_specifier.as_ref().unwrap() {
        Header::PresentMatch(_) => value.is_some(),
        Header::StringMatch(text) => value.is_some_and(|value| text_matches(text, value)),
        Header::RangeMatch(range) => {
            let number = value.and_then(|value| value.parse::<i64>().ok());
            number.is_some_and(|number| (range.start..range.end).contains(&number))
        }
        other => panic!("{other:?}"),
    };
    holds != header.invert_match
}

fn text_matches(text: &StringMatcher, value: &str) -> bool {
    match text.match_pattern.as_ref().unwrap() {
        MatchPattern::Exact(exact) => value == exact,
        MatchPattern::Prefix(prefix) => value.starts_with(prefix),
        MatchPattern::Suffix(suffix) => value.ends_with(suffix),
        MatchPattern::SafeRegex(regex) => is_whole(&regex.regex, value),
        other => panic!("{other:?}"),
    }
}

fn is_whole(regex: &str, text: &str) -> bool {
    is_match(&format!("^(?:{regex})$"), text)
}
