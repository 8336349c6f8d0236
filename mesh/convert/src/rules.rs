//! Rules of a route: what they are for, where requests go, and how long they may take.

use mesh_control_plane::mesh::{Key, Mesh};
use mesh_control_plane::resources::{
    Action, HttpTimeout, Protocol, RetryPolicy, Routing, Span, WeightedTarget,
};
use serde_json::{Value, json};

use crate::Channel;
use crate::duration;
use crate::fields::reason;
use crate::finding::{Finding, Lack};
use crate::matches::{Match, Remark, Unsayable};
use crate::parents::{Parent, Provider};
use crate::precedence;
use crate::retries::{self, Retry};
use crate::rewrite::Rewrite;
use crate::services::Services;

/// App Mesh's default request timeout, in milliseconds.
const PER_REQUEST_MS: u64 = 15_000;

/// Targets of a rule at most.
const BACKENDS_MAX: usize = 16;

/// Largest weight.
const WEIGHT_MAX: u32 = 1_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Whose it is, in findings.
    pub(crate) what: String,
    /// From `spec`: `spec.routes[0]`; "" if there is no router.
    pub(crate) path: String,
    pub(crate) matches: Vec<Match>,
    pub(crate) outcome: RuleOutcome,
}

/// What becomes of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RuleOutcome {
    /// Service, port and weight; empty if nothing answers.
    pub(crate) backends: Vec<(Key, u16, u32)>,
    /// Of HTTP.
    timeouts: Option<Timeouts>,
    /// Of HTTP in the experimental channel.
    retry: Option<Retry>,
    /// Of gateways.
    pub(crate) rewrite: Rewrite,
}

/// In milliseconds; 0 is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Timeouts {
    request: u64,
    per_try: u64,
}

/// The rules of a parent, in App Mesh's order.
pub(crate) fn of(
    mesh: &Mesh,
    parent: &Parent,
    channel: Channel,
    services: &mut Services,
    findings: &mut Vec<Finding>,
) -> Vec<Rule> {
    let mut rules = in_order(mesh, parent, channel, services, findings);
    if parent.mapping.protocol == Protocol::Tcp {
        // Connections have nothing to match, so the first route has them all.
        rules.truncate(1);
        return rules;
    }
    let (rules, unreachable) = settle(rules, findings);
    for rule in unreachable {
        let why = "no request reaches it in App Mesh, and it is left out";
        findings.push(Finding::new(
            Lack::NoCounterpart,
            &rule.what,
            &rule.path,
            why,
        ));
    }
    rules
}

/// The same, with one match each, which are tried one after the other.
pub(crate) fn in_order(
    mesh: &Mesh,
    parent: &Parent,
    channel: Channel,
    services: &mut Services,
    findings: &mut Vec<Finding>,
) -> Vec<Rule> {
    let mut context = Context {
        mesh,
        parent,
        channel,
        services,
        findings,
    };
    match &parent.provider {
        Provider::Node(node) => context.of_node(node).into_iter().collect(),
        Provider::Router(router) => context.of_router(router),
    }
}

/// Adds matches where Gateway API's order would be another one. Returns the rules that are left,
/// and those that no request reaches.
pub(crate) fn settle(rules: Vec<Rule>, findings: &mut Vec<Finding>) -> (Vec<Rule>, Vec<Rule>) {
    let mut matches: Vec<_> = rules.iter().map(|rule| rule.matches.clone()).collect();
    let settled = precedence::settle(&mut matches, |one, other| {
        rules[one].outcome == rules[other].outcome
    });
    for (earlier, later) in &settled.unsettled {
        let (first, second) = (&rules[*earlier], &rules[*later]);
        let second = if first.what == second.what {
            second.path.clone()
        } else {
            format!("{} {}", second.what, second.path)
        };
        let why = format!(
            "App Mesh tries it before {second}; which of them a Gateway API implementation tries first is not specified, or cannot be said by matches"
        );
        findings.push(Finding::new(
            Lack::Unspecified,
            &first.what,
            &first.path,
            &why,
        ));
    }
    let (mut left, mut unreachable) = (Vec::new(), Vec::new());
    for (index, (rule, matches)) in rules.into_iter().zip(matches).enumerate() {
        if settled.unreachable.contains(&index) {
            unreachable.push(rule);
        } else {
            left.push(Rule { matches, ..rule });
        }
    }
    (left, unreachable)
}

struct Context<'a> {
    mesh: &'a Mesh,
    parent: &'a Parent,
    channel: Channel,
    services: &'a mut Services,
    findings: &'a mut Vec<Finding>,
}

// === impl Context ===

impl Context<'_> {
    fn find(&mut self, lack: Lack, path: &str, why: &str) {
        let finding = Finding::new(lack, &self.parent.what, path, why);
        self.findings.push(finding);
    }

    /// Everything to a node, without a router.
    fn of_node(&mut self, node: &Key) -> Option<Rule> {
        let mapping = self.parent.mapping;
        let backend = self.backend(node, Some(mapping.port), 1, "spec.provider")?;
        if mapping.protocol == Protocol::Grpc {
            self.defaults_lost("spec.provider", true, true);
        }
        Some(Rule {
            what: self.parent.what.clone(),
            path: String::new(),
            matches: vec![Match::everything(mapping.protocol)],
            outcome: self.outcome(vec![backend], None, None),
        })
    }

    fn of_router(&mut self, router: &Key) -> Vec<Rule> {
        let Some(spec) = self.mesh.routers.get(router) else {
            return Vec::new();
        };
        let mut rules = Vec::new();
        for (index, route) in spec.in_order() {
            let Some(routing) = route.routing() else {
                continue;
            };
            if routing.is_of(self.parent.mapping) {
                let path = format!("spec.routes[{index}]");
                rules.extend(self.rule(path, routing, &router.namespace));
            }
        }
        rules
    }

    fn rule(&mut self, path: String, routing: Routing<'_>, namespace: &str) -> Option<Rule> {
        let field = match routing {
            Routing::Http(Protocol::Http2, _) => "http2Route",
            Routing::Http(..) => "httpRoute",
            Routing::Grpc(_) => "grpcRoute",
            Routing::Tcp(_) => "tcpRoute",
        };
        let below = format!("{path}.{field}");
        let mut remarks = Vec::new();
        let (matched, policy, timeout) = match routing {
            Routing::Http(_, route) => (
                Match::http(&route.r#match, &mut remarks),
                route.retry_policy.as_ref(),
                route.timeout,
            ),
            Routing::Grpc(route) => {
                self.defaults_lost(
                    &below,
                    route.timeout.is_none(),
                    route.retry_policy.is_none(),
                );
                (Match::grpc(&route.r#match, &mut remarks), None, None)
            }
            Routing::Tcp(_) => (Ok(Match::everything(Protocol::Tcp)), None, None),
        };
        let matched = match matched {
            Ok(matched) => matched,
            Err(unsayable) => {
                self.left_out(&below, &unsayable);
                return None;
            }
        };
        for Remark { lack, field, why } in remarks {
            self.find(lack, &format!("{below}.match.{field}"), &why);
        }
        if let Some(policy) = policy {
            self.check_retries(&below, policy);
        }
        let backends = self.backends(&below, routing.action(), namespace);
        Some(Rule {
            what: self.parent.what.clone(),
            path,
            matches: vec![matched],
            outcome: self.outcome(backends, policy, timeout),
        })
    }

    fn left_out(&mut self, below: &str, unsayable: &Unsayable) {
        let path = format!("{below}.match.{}", unsayable.field);
        let why = match &*unsayable.why {
            "" => reason("VirtualRouter", &path),
            why => why,
        };
        let why = format!("the route is left out, and its requests go to those after it: {why}");
        self.find(Lack::NotConverted, &path, &why);
    }

    fn defaults_lost(&mut self, path: &str, timeout: bool, retries: bool) {
        if timeout || retries {
            let why = "App Mesh's defaults end, 15 s for a request and two retries: GRPCRoute has neither timeouts nor retries";
            self.find(Lack::NoCounterpart, path, why);
        }
    }

    fn check_retries(&mut self, below: &str, policy: &RetryPolicy) {
        if self.channel == Channel::Experimental && !retries::has_every_failure(policy) {
            let why = "Gateway API retries after every failure of a connection, too: a request may be sent twice that was not before";
            self.find(Lack::Different, &format!("{below}.retryPolicy"), why);
        }
    }

    fn backends(&mut self, below: &str, action: &Action, namespace: &str) -> Vec<(Key, u16, u32)> {
        let path = format!("{below}.action.weightedTargets");
        let targets = action.weighted_targets.iter();
        let weights = targets.clone().map(|target| target.weight);
        let divisor = weights.max().unwrap_or(0).div_ceil(WEIGHT_MAX).max(1);
        if divisor > 1 {
            let why = format!(
                "Gateway API takes weights up to {WEIGHT_MAX}: all are divided by {divisor}"
            );
            self.find(Lack::Different, &path, &why);
        }
        let mut backends = Vec::new();
        for WeightedTarget { node, weight, port } in targets {
            let node = Key::of(node, namespace);
            backends.extend(self.backend(&node, *port, weight / divisor, &path));
        }
        if backends.len() > BACKENDS_MAX {
            let why =
                format!("Gateway API takes {BACKENDS_MAX} targets at most: the route answers 500");
            self.find(Lack::NotConverted, &path, &why);
            backends.clear();
        }
        if backends.iter().all(|(_, _, weight)| *weight == 0) {
            let why = "no target is left: the route answers 500, and answered 503 in App Mesh";
            self.find(Lack::Different, &path, why);
            backends.clear();
        }
        backends
    }

    /// `None` if the target is not there, which the control plane says, or no Service.
    fn backend(
        &mut self,
        node: &Key,
        port: Option<u16>,
        weight: u32,
        path: &str,
    ) -> Option<(Key, u16, u32)> {
        let port = self.mesh.target_port(node, port)?;
        let spec = self.mesh.nodes.get(node)?;
        match self.services.of_node(self.mesh, node, spec, self.findings) {
            Ok(service) => {
                let mut mappings = spec.listeners.iter().map(|listener| listener.port_mapping);
                if let Some(mapping) = mappings.find(|mapping| mapping.port == port) {
                    self.services.use_port(&service, mapping);
                }
                Some((service, port, weight))
            }
            Err((field, why)) => {
                let why = format!(
                    "the target {}/{} is left out, for its {field}: {why}",
                    node.namespace, node.name
                );
                self.find(Lack::NotConverted, path, &why);
                None
            }
        }
    }

    fn outcome(
        &self,
        backends: Vec<(Key, u16, u32)>,
        policy: Option<&RetryPolicy>,
        timeout: Option<HttpTimeout>,
    ) -> RuleOutcome {
        let is_http = matches!(
            self.parent.mapping.protocol,
            Protocol::Http | Protocol::Http2
        );
        let per_request = timeout.and_then(|timeout| timeout.per_request);
        let timeouts = Timeouts {
            request: per_request.map_or(PER_REQUEST_MS, Span::millis),
            per_try: policy.map_or(0, |policy| policy.per_retry_timeout.millis()),
        };
        RuleOutcome {
            backends,
            timeouts: is_http.then_some(timeouts),
            retry: (is_http && self.channel == Channel::Experimental).then(|| Retry::of(policy)),
            rewrite: Rewrite::default(),
        }
    }
}

// === impl Rule ===

impl Rule {
    /// That of the first match: a rule with a rewrite has one.
    fn rewrite_filter(&self) -> Option<Value> {
        let matched = self.matches.first()?;
        self.outcome.rewrite.filter(&matched.path)
    }

    /// An item of `rules`, for a route in `namespace`.
    pub(crate) fn to_value(&self, protocol: Protocol, namespace: &str) -> Value {
        let mut value = json!({});
        if protocol != Protocol::Tcp {
            let matches = self.matches.iter().map(Match::to_value);
            value["matches"] = matches.collect();
        }
        if let Some(filter) = self.rewrite_filter() {
            value["filters"] = json!([filter]);
        }
        let backends = self.outcome.backends.iter();
        let backends = backends.map(|(service, port, weight)| {
            let mut backend = json!({"name": service.name, "port": port, "weight": weight});
            if service.namespace != namespace {
                backend["namespace"] = json!(service.namespace);
            }
            backend
        });
        value["backendRefs"] = backends.collect();
        if let Some(timeouts) = self.outcome.timeouts {
            value["timeouts"] = timeouts.to_value();
        }
        if let Some(retry) = &self.outcome.retry {
            value["retry"] = retry.to_value();
        }
        value
    }
}

// === impl RuleOutcome ===

impl RuleOutcome {
    /// Nothing answers.
    pub(crate) fn none() -> Self {
        Self {
            backends: Vec::new(),
            timeouts: None,
            retry: None,
            rewrite: Rewrite::default(),
        }
    }

    /// As far as a `GRPCRoute` has it.
    pub(crate) fn for_grpc(self) -> Self {
        Self {
            timeouts: None,
            retry: None,
            ..self
        }
    }
}

// === impl Timeouts ===

impl Timeouts {
    fn to_value(self) -> Value {
        let mut value = json!({"request": duration::text(self.request)});
        // A longer one never passes, and Gateway API refuses it.
        if self.per_try > 0 && (self.request == 0 || self.per_try <= self.request) {
            value["backendRequest"] = json!(duration::text(self.per_try));
        }
        value
    }
}
