//! TLS of calls: a `BackendTLSPolicy` for each Service that a client policy is about.
//!
//! A policy of App Mesh is the caller's, and one of Gateway API the Service's: the first caller's
//! is printed, and callers that do otherwise are named.

use std::collections::{BTreeMap, BTreeSet};

use mesh_control_plane::mesh::{Gateway, Key, Mesh};
use mesh_control_plane::resources::{
    ClientTls, ServiceDiscovery, Trust, VirtualNodeSpec, VirtualServiceSpec,
};
use serde_json::Value;

use crate::backend_tls_policy::BackendTlsPolicy;
use crate::finding::{self, Finding, Lack};
use crate::parents::Provider;
use crate::services::Services;

/// Calls to Services, in the order of the callers.
#[derive(Debug, Default)]
pub(crate) struct ClientTlsPolicies(BTreeMap<Key, Vec<Call>>);

/// What one caller does with one Service.
#[derive(Debug)]
struct Call {
    caller: Caller,
    /// `None` if its calls follow the listener.
    policy: Option<Enforced>,
}

/// A caller, and where its policy is.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Caller {
    what: String,
    /// "" if it has none.
    path: String,
    is_gateway: bool,
}

/// An enforced policy, for one node.
#[derive(Debug, Eq, PartialEq)]
struct Enforced {
    trust: Trust,
    /// Names of which the certificate has to have one: sorted, empty for that of the node.
    names: Vec<String>,
    /// The name of the node in its service discovery.
    discovered: String,
    /// Ports of the node, if it is not for all of them.
    ports: Option<BTreeSet<u16>>,
}

// === impl ClientTlsPolicies ===

impl ClientTlsPolicies {
    /// Notes the calls of a mesh, whose routes are printed.
    pub(crate) fn add(&mut self, mesh: &Mesh, services: &Services, findings: &mut Vec<Finding>) {
        for (key, node) in mesh.nodes.iter() {
            let what = finding::name("VirtualNode", &key.namespace, &key.name);
            for service in mesh.backends_of(key, node) {
                let (path, tls) = policy_of(key, node, &service);
                let caller = Caller {
                    what: what.clone(),
                    path,
                    is_gateway: false,
                };
                self.call(mesh, (&caller, tls), &service, services, findings);
            }
        }
        for (key, spec) in mesh.gateways.iter() {
            let caller = Caller {
                what: finding::name("VirtualGateway", &key.namespace, &key.name),
                path: default_path(spec.default_tls()),
                is_gateway: true,
            };
            let gateway = Gateway { mesh, key, spec };
            let listeners = spec.listeners.iter().map(|listener| listener.port_mapping);
            let routes = listeners.flat_map(|listener| gateway.routes(listener));
            let targets: BTreeSet<_> = routes
                .filter_map(|(key, routing)| gateway.target(key, routing))
                .map(|(service, _)| service)
                .collect();
            for service in targets {
                let of_caller = (&caller, spec.default_tls());
                self.call(mesh, of_caller, &service, services, findings);
            }
        }
    }

    /// Notes calls to a virtual service.
    fn call(
        &mut self,
        mesh: &Mesh,
        (caller, tls): (&Caller, Option<&ClientTls>),
        service: &Key,
        services: &Services,
        findings: &mut Vec<Finding>,
    ) {
        if tls.is_some_and(|tls| !tls.enforce) {
            let why = "nothing is printed for it: a policy that is not enforced follows the listener, and Gateway API has none that does";
            let path = format!("{}.enforce", caller.path);
            let finding = Finding::new(Lack::NotConverted, &caller.what, &path, why);
            findings.push(finding);
        }
        let Some(spec) = mesh.services.get(service) else {
            return;
        };
        for key in nodes(mesh, service, spec) {
            let Some(node) = mesh.nodes.get(&key) else {
                continue;
            };
            let Some(target) = services.in_use(&key, node) else {
                continue;
            };
            let call = Call {
                caller: caller.clone(),
                policy: tls.and_then(|tls| Enforced::of(tls, node)),
            };
            self.0.entry(target).or_default().push(call);
        }
    }

    /// A policy for each Service, and what is not as it was.
    pub(crate) fn into_documents(
        self,
        services: &Services,
        findings: &mut Vec<Finding>,
    ) -> Vec<Value> {
        let mut documents = Vec::new();
        for (service, calls) in self.0 {
            // The first that can be said.
            let printed = calls.iter().find_map(|call| {
                let (caller, policy) = (&call.caller, call.policy.as_ref()?);
                let find = |lack: Lack, field: &str, why: &str| {
                    let path = format!("{}{field}", caller.path);
                    findings.push(Finding::new(lack, &caller.what, &path, why));
                };
                let printed = policy.print(&service, services, find)?;
                Some((caller, policy, printed))
            });
            let Some((caller, policy, printed)) = printed else {
                continue;
            };
            documents.extend(printed);
            for call in &calls {
                findings.extend(call.differs(&service, caller, policy));
            }
        }
        documents
    }
}

/// The policy of a node for a backend, and where it is.
fn policy_of<'a>(
    key: &Key,
    node: &'a VirtualNodeSpec,
    service: &Key,
) -> (String, Option<&'a ClientTls>) {
    let default = node.default_tls();
    // The last one counts.
    for (index, backend) in node.backends.iter().enumerate().rev() {
        let backend = &backend.virtual_service;
        let own = backend.own_tls();
        let is_own = own.is_some() && own != default;
        if is_own && Key::of(&backend.service, &key.namespace) == *service {
            let path = format!("spec.backends[{index}].virtualService.clientPolicy.tls");
            return (path, own);
        }
    }
    (default_path(default), default)
}

/// Where the policy of all backends is; "" if there is none.
fn default_path(tls: Option<&ClientTls>) -> String {
    tls.map_or_else(String::new, |_| {
        "spec.backendDefaults.clientPolicy.tls".to_owned()
    })
}

/// The nodes behind a virtual service.
fn nodes(mesh: &Mesh, key: &Key, service: &VirtualServiceSpec) -> BTreeSet<Key> {
    match Provider::of(key, service) {
        None => BTreeSet::new(),
        Some(Provider::Node(node)) => BTreeSet::from([node]),
        Some(Provider::Router(of)) => {
            let routes = mesh.routers.get(&of).into_iter();
            let routes = routes.flat_map(|spec| spec.in_order());
            let routings = routes.filter_map(|(_, route)| route.routing());
            let targets = routings.flat_map(|routing| &routing.action().weighted_targets);
            targets
                .map(|target| Key::of(&target.node, &of.namespace))
                .collect()
        }
    }
}

// === impl Call ===

impl Call {
    /// How it differs from the policy that is printed, and from what it was.
    fn differs(&self, service: &Key, of: &Caller, printed: &Enforced) -> Option<Finding> {
        let Key { namespace, name } = service;
        let Caller { what, path, .. } = &self.caller;
        if self.policy.as_ref() == Some(printed) {
            let why = "whether a mesh follows a BackendTLSPolicy in calls between workloads is up to the implementation";
            let is_between_workloads = !self.caller.is_gateway;
            return is_between_workloads.then(|| Finding::new(Lack::Unspecified, what, path, why));
        }
        let own = match self.policy {
            None => "it has no enforced policy for it",
            Some(_) => "its own policy is another one",
        };
        let why = format!(
            "its calls to the Service {namespace}/{name} follow the policy of {} {}, for a BackendTLSPolicy is of the Service: {own}",
            of.what, of.path
        );
        Some(Finding::new(Lack::Different, what, path, &why))
    }
}

// === impl Enforced ===

impl Enforced {
    /// `None` if nothing is enforced for calls to the node.
    fn of(tls: &ClientTls, node: &VirtualNodeSpec) -> Option<Self> {
        let listeners = node.listeners.iter();
        let all: BTreeSet<u16> = listeners.map(|of| of.port_mapping.port).collect();
        let is_named = |port: &&u16| tls.ports.is_empty() || tls.ports.contains(port);
        let ports: BTreeSet<u16> = all.iter().filter(is_named).copied().collect();
        if !tls.enforce || ports.is_empty() {
            return None;
        }
        let mut names = tls.validation.names().to_vec();
        names.sort();
        names.dedup();
        Some(Self {
            trust: tls.validation.trust.clone(),
            names,
            discovered: node
                .service_discovery
                .as_ref()
                .map(ServiceDiscovery::name)?,
            ports: (ports != all).then_some(ports),
        })
    }

    /// One policy for all of the Service, or one for each port; `None` if it cannot be said.
    fn print(
        &self,
        service: &Key,
        services: &Services,
        mut find: impl FnMut(Lack, &str, &str),
    ) -> Option<Vec<Value>> {
        let policy = BackendTlsPolicy::of(
            service,
            &self.trust,
            (&self.names, &self.discovered),
            &mut find,
        )?;
        let Key { namespace, name } = service;
        if services.has_http2(service, self.ports.as_ref()) {
            let why = format!(
                "the appProtocol kubernetes.io/h2c of the Service {namespace}/{name} is plain text: what it is beside a BackendTLSPolicy is up to the implementation"
            );
            find(Lack::Unspecified, "", &why);
        }
        let Some(ports) = &self.ports else {
            return Some(vec![policy.document(None)]);
        };
        let sections = ports.iter().map(|port| services.port_name(service, *port));
        if let Some(sections) = sections.collect::<Option<Vec<_>>>() {
            let sections = sections.iter();
            let documents = sections.map(|section| policy.document(Some(section)));
            return Some(documents.collect());
        }
        let why = format!(
            "calls to all ports of the Service {namespace}/{name} are by TLS, since the names of its ports are not known: give its BackendTLSPolicy the sectionName of {}",
            numbers(ports)
        );
        find(Lack::Different, ".ports", &why);
        Some(vec![policy.document(None)])
    }
}

fn numbers(ports: &BTreeSet<u16>) -> String {
    let numbers: Vec<_> = ports.iter().map(|port| format!("port {port}")).collect();
    numbers.join(", ")
}
