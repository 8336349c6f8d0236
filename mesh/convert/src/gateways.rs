//! Virtual gateways: a Gateway each, and routes of it with what the routers behind it do.

use mesh_control_plane::mesh::{Gateway, Key, Mesh, acm_secret_of, service_name};
use mesh_control_plane::resources::{
    Certificate, GatewayListener, GatewayRouting, HostnameMatch, ListenerTls, PortMapping,
    Protocol, TlsMode,
};
use serde_json::{Value, json};

use crate::Options;
use crate::fields::reason;
use crate::finding::{self, Finding, Lack};
use crate::hostnames;
use crate::matches::{Match, Overlap, Remark};
use crate::parents::{Parent, Provider};
use crate::rewrite::{PathRewrite, Rewrite};
use crate::routes::{GROUP, Placement, Routes};
use crate::rules::{self, Rule, RuleOutcome};
use crate::services::Services;

/// Listeners of a Gateway at most.
const LISTENERS_MAX: usize = 64;

/// Host names of a route at most.
const HOSTNAMES_MAX: usize = 16;

/// Longest name of a route with a host name in it, in bytes: a part of a route has a suffix.
const NAME_BYTES_MAX: usize = 200;

/// Stands for a `GatewayClass` that nobody named.
const CLASS: &str = "gateway-class";

/// The path of the rule for what no route of the router matches.
const UNMATCHED: &str = "spec: its target";

pub(crate) fn add(
    mesh: &Mesh,
    options: &Options,
    services: &mut Services,
    routes: &mut Routes,
    findings: &mut Vec<Finding>,
) {
    for (key, spec) in mesh.gateways.iter() {
        let mut context = Context {
            gateway: Gateway { mesh, key, spec },
            what: finding::name("VirtualGateway", &key.namespace, &key.name),
            options,
            services,
            findings,
        };
        context.add(routes);
    }
}

struct Context<'a> {
    gateway: Gateway<'a>,
    what: String,
    options: &'a Options,
    services: &'a mut Services,
    findings: &'a mut Vec<Finding>,
}

/// A route of the gateway that can be said.
struct Said<'a> {
    what: String,
    key: &'a Key,
    routing: GatewayRouting<'a>,
    rewrite: Rewrite,
    matches: Vec<Match>,
}

// === impl Context ===

impl<'a> Context<'a> {
    fn add(&mut self, routes: &mut Routes) {
        let mut printed = Vec::new();
        for (index, listener) in self.gateway.spec.listeners.iter().enumerate() {
            let path = format!("spec.listeners[{index}]");
            if printed.len() == LISTENERS_MAX {
                let why = format!("Gateway API takes {LISTENERS_MAX} listeners at most");
                self.find(Lack::NotConverted, &path, &why);
                continue;
            }
            let Some(value) = self.listener(listener, &path) else {
                continue;
            };
            printed.push(value);
            self.routes(listener.port_mapping, routes);
        }
        if printed.is_empty() {
            let why = "a Gateway without listeners is none, and it is left out";
            self.find(Lack::NotConverted, "spec.listeners", why);
            return;
        }
        if self.options.gateway_class.is_none() {
            let why = format!(
                "gatewayClassName is a placeholder, {CLASS}: name the GatewayClass by --gateway-class"
            );
            self.find(Lack::NotConverted, "", &why);
        }
        let class = self.options.gateway_class.as_deref().unwrap_or(CLASS);
        let key = self.gateway.key;
        routes.add_gateway(json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "Gateway",
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": {"gatewayClassName": class, "listeners": printed},
        }));
    }

    fn find(&mut self, lack: Lack, path: &str, why: &str) {
        self.findings
            .push(Finding::new(lack, &self.what, path, why));
    }

    // === Listeners ===

    /// `None` if it would let in whom it kept out.
    fn listener(&mut self, listener: &GatewayListener, path: &str) -> Option<Value> {
        let PortMapping { port, protocol } = listener.port_mapping;
        let name = section(listener.port_mapping);
        let tls = listener.tls.as_ref();
        let Some(tls) = tls.filter(|tls| tls.mode != TlsMode::Disabled) else {
            if protocol.is_http2() {
                let why =
                    "HTTP/2 without TLS is up to the implementation: check that yours takes it";
                let path = format!("{path}.portMapping.protocol");
                self.find(Lack::Unspecified, &path, why);
            }
            return Some(json!({"name": name, "port": port, "protocol": "HTTP"}));
        };
        if tls.validation.is_some() {
            let path = format!("{path}.tls.validation");
            let why = format!(
                "the listener is left out: {}",
                reason("VirtualGateway", &path)
            );
            self.find(Lack::NotConverted, &path, &why);
            return None;
        }
        if tls.mode == TlsMode::Permissive {
            let why = "a listener takes TLS or plain text, and this one TLS alone from now on";
            self.find(Lack::Different, &format!("{path}.tls.mode"), why);
        }
        let secret = self.secret(tls, port, path);
        Some(json!({
            "name": name, "port": port, "protocol": "HTTPS",
            "tls": {"mode": "Terminate", "certificateRefs": [{"name": secret}]},
        }))
    }

    /// The Secret with the certificate, in the namespace of the gateway.
    fn secret(&mut self, tls: &ListenerTls, port: u16, path: &str) -> String {
        if let Some(secret) = acm_secret_of(&tls.certificate) {
            return secret;
        }
        let Key { namespace, name } = self.gateway.key;
        let secret = format!("{name}-{port}-tls");
        let (field, from) = match &tls.certificate {
            Certificate::File(file) => ("file", file.certificate_chain.as_str()),
            Certificate::Sds(sds) => ("sds", sds.secret_name.as_str()),
            Certificate::Acm(certificate) => ("acm", certificate.arn.as_str()),
        };
        let why = format!(
            "Gateway API takes certificates from Secrets alone: make the Secret {namespace}/{secret} of the type kubernetes.io/tls from {from}"
        );
        let path = format!("{path}.tls.certificate.{field}");
        self.find(Lack::NotConverted, &path, &why);
        secret
    }

    // === Routes ===

    fn routes(&mut self, listener: PortMapping, routes: &mut Routes) {
        let all = self.gateway.routes(listener);
        let said: Vec<_> = all
            .into_iter()
            .filter_map(|(key, routing)| self.said(key, routing))
            .collect();
        let rules: Vec<_> = said.iter().map(|route| self.rules_of(route)).collect();
        let hosts: Vec<_> = said.iter().map(|route| route.routing.hostname()).collect();
        let key = self.gateway.key;
        let parent = json!({
            "group": GROUP, "kind": "Gateway", "name": key.name, "sectionName": section(listener),
        });
        for (indices, names) in hostnames::groups(&hosts) {
            let own = indices.iter().filter_map(|index| rules.get(*index));
            let own = own.flatten().cloned().collect();
            let settled = self.settled(own);
            let name = self.route_name(listener, names.first());
            let chunks: Vec<_> = match &names[..] {
                [] => vec![&names[..]],
                names => names.chunks(HOSTNAMES_MAX).collect(),
            };
            for hostnames in chunks {
                let placement = Placement {
                    protocol: listener.protocol,
                    namespace: &key.namespace,
                    name: &name,
                    parents: vec![parent.clone()],
                    hostnames,
                };
                routes.place(&placement, &settled);
            }
        }
    }

    fn route_name(&self, listener: PortMapping, host: Option<&String>) -> String {
        let base = format!("{}-{}", self.gateway.key.name, listener.port);
        let Some(host) = host else {
            return base;
        };
        let mut name = format!("{base}-{}", host.replace('*', "any"));
        // It is ASCII.
        name.truncate(NAME_BYTES_MAX);
        name.trim_end_matches(['-', '.']).to_owned()
    }

    /// `None` if its conditions cannot be said.
    fn said(&mut self, key: &'a Key, routing: GatewayRouting<'a>) -> Option<Said<'a>> {
        let what = finding::name("GatewayRoute", &key.namespace, &key.name);
        let below = format!("spec.{}Route", routing.protocol().as_str());
        let mut find = |lack: Lack, path: &str, why: &str| {
            let path = format!("{below}.{path}");
            self.findings.push(Finding::new(lack, &what, &path, why));
        };
        let mut remarks = Vec::new();
        let matched = match routing {
            GatewayRouting::Http(_, route) => {
                Match::http(&route.r#match.without_host(), &mut remarks)
            }
            GatewayRouting::Grpc(route) => Match::grpc(&route.r#match.without_host(), &mut remarks),
        };
        let names = routing.hostname().map(hostnames::names);
        let fault = match (&matched, names) {
            (Err(unsayable), _) => {
                let path = format!("match.{}", unsayable.field);
                let why = match &*unsayable.why {
                    "" => reason("GatewayRoute", &format!("{below}.{path}")).to_owned(),
                    why => why.to_owned(),
                };
                Some((path, why))
            }
            (_, Some(Err(why))) => Some(("match.hostname".to_owned(), why)),
            _ => None,
        };
        if let Some((path, why)) = fault {
            let why =
                format!("the route is left out, and its requests go to those after it: {why}");
            find(Lack::NotConverted, &path, &why);
            return None;
        }
        for Remark { lack, field, why } in remarks {
            find(lack, &format!("match.{field}"), &why);
        }
        if let Some(HostnameMatch::Suffix(suffix)) = routing.hostname()
            && !suffix.starts_with('.')
        {
            let why = format!(
                "App Mesh compares characters and Gateway API labels of the name: only {suffix} and names below it are matched"
            );
            find(Lack::Different, "match.hostname.suffix", &why);
        }
        let path = PathRewrite::of_change(routing.path_change());
        let own = path.matches(matched.ok()?);
        let rewrite = Rewrite {
            host: self.host(&what, key, routing),
            path,
        };
        Some(Said {
            what,
            key,
            routing,
            rewrite,
            matches: own,
        })
    }

    /// The host that takes the place of the client's.
    fn host(&mut self, what: &str, key: &Key, routing: GatewayRouting<'_>) -> Option<String> {
        if routing.keeps_host() {
            return None;
        }
        let (service, _) = self.gateway.target(key, routing)?;
        let spec = self.gateway.mesh.services.get(&service)?;
        let host = service_name(&service, spec).to_ascii_lowercase();
        let protocol = routing.protocol();
        let why = match protocol {
            Protocol::Grpc => "GRPCRoute has no rewrites".to_owned(),
            _ if hostnames::is_precise(&host) => return Some(host),
            _ => format!("Gateway API does not take the host name {host}"),
        };
        let why = format!("the host stays that of the client: {why}");
        let path = format!(
            "spec.{}Route.action.rewrite.hostname.defaultTargetHostname",
            protocol.as_str()
        );
        self.findings
            .push(Finding::new(Lack::Different, what, &path, &why));
        None
    }

    /// The routes of the router behind a route, for the requests of that route, in order.
    fn rules_of(&mut self, said: &Said<'_>) -> Vec<Rule> {
        let mut rules = Vec::new();
        let behind = self.behind(said.key, said.routing);
        // Without a target it answers 503 in App Mesh, which has been said.
        let rest = if behind.is_empty() { "spec" } else { UNMATCHED };
        for theirs in behind {
            let matches = self.composed(said, &theirs);
            if matches.is_empty() {
                continue;
            }
            let mut outcome = theirs.outcome;
            if said.routing.protocol() == Protocol::Grpc {
                outcome = outcome.for_grpc();
            }
            outcome.rewrite = said.rewrite.clone();
            rules.push(Rule {
                what: said.what.clone(),
                path: "spec".to_owned(),
                matches,
                outcome,
            });
        }
        rules.push(Rule {
            what: said.what.clone(),
            path: rest.to_owned(),
            matches: said.matches.clone(),
            outcome: RuleOutcome::none(),
        });
        rules
    }

    /// What the virtual service of a route does, which has been said of it already.
    fn behind(&mut self, key: &Key, routing: GatewayRouting<'_>) -> Vec<Rule> {
        let mesh = self.gateway.mesh;
        let Some((service, port)) = self.gateway.target(key, routing) else {
            return Vec::new();
        };
        let spec = mesh.services.get(&service);
        let Some((spec, provider)) =
            spec.and_then(|spec| Some((spec, Provider::of(&service, spec)?)))
        else {
            return Vec::new();
        };
        let mut mappings = mesh.ports_of(&service, spec).into_iter();
        let Some(mapping) = mappings.find(|mapping| mapping.port == port) else {
            return Vec::new();
        };
        let service_what = finding::name("VirtualService", &service.namespace, &service.name);
        let (name, what) = provider.naming(&service, &service_what);
        let parent = Parent {
            provider,
            mapping,
            namespace: self.gateway.key.namespace.clone(),
            services: Vec::new(),
            name,
            what,
        };
        let channel = self.options.channel;
        rules::in_order(mesh, &parent, channel, self.services, self.findings)
    }

    /// The requests of a route that a route of its router gets.
    fn composed(&mut self, said: &Said<'_>, theirs: &Rule) -> Vec<Match> {
        let mut matches = Vec::new();
        let mut is_known = true;
        for own in &said.matches {
            for their in &theirs.matches {
                match said.rewrite.path.composed(own, their) {
                    Overlap::Both(both) => matches.extend(both),
                    Overlap::None => {}
                    Overlap::Unknown => is_known = false,
                }
            }
        }
        if !is_known {
            let why = format!(
                "requests of it that {} {} matches after the rewrite go to the routes after that one: the conditions of both cannot be said as one",
                theirs.what, theirs.path
            );
            self.findings
                .push(Finding::new(Lack::NotConverted, &said.what, "spec", &why));
        }
        let mut once: Vec<Match> = Vec::new();
        for matched in matches {
            if !once.contains(&matched) {
                once.push(matched);
            }
        }
        once
    }

    /// In Gateway API's order, with one match for each rule that rewrites.
    fn settled(&mut self, rules: Vec<Rule>) -> Vec<Rule> {
        // What no request for these hosts reaches may be reached for others.
        let (rules, _) = rules::settle(rules, self.findings);
        let mut split = Vec::new();
        for rule in rules {
            if rule.path == UNMATCHED {
                let why = "no route of its router matches some of its requests: they get 500, and got 404";
                self.findings
                    .push(Finding::new(Lack::Different, &rule.what, "spec", why));
            }
            if rule.outcome.rewrite.path == PathRewrite::None {
                split.push(rule);
                continue;
            }
            for matched in &rule.matches {
                if !rule.outcome.rewrite.path.is_sayable(&matched.path) {
                    let why = "requests that a regular expression after it matches, too, go there: no rewrite of a prefix can be said for them";
                    self.findings
                        .push(Finding::new(Lack::Different, &rule.what, &rule.path, why));
                    continue;
                }
                split.push(Rule {
                    matches: vec![matched.clone()],
                    ..rule.clone()
                });
            }
        }
        split
    }
}

/// The name of a listener.
fn section(listener: PortMapping) -> String {
    format!("{}-{}", listener.protocol.as_str(), listener.port)
}
