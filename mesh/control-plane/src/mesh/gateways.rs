//! Virtual gateways: which routes are of which gateway, and in which order they are tried.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Ambiguous, Fault, Key, Mesh, Meshes, Reason, RefusedObject, ports};
use crate::resources::{
    GatewayRouteSpec, GatewayRouting, GrpcGatewayMatch, HostnameMatch, HttpGatewayMatch, Kind,
    PRIORITY_MAX, PathMatch, PortMapping, Protocol, Reference, VirtualGatewaySpec,
    VirtualServiceSpec,
};
use crate::selector::{Labels, Selector};

/// A gateway and its mesh.
#[derive(Clone, Copy, Debug)]
pub struct Gateway<'a> {
    pub mesh: &'a Mesh,
    pub key: &'a Key,
    pub spec: &'a VirtualGatewaySpec,
}

/// Finds the gateway of each route. Routes without one are reported, and stay without.
pub(super) fn designate(
    mesh: &mut Mesh,
    namespaces: &BTreeMap<String, Labels>,
    refused: &mut Vec<RefusedObject>,
) {
    let gateways = &mesh.gateways;
    for (key, route) in Arc::make_mut(&mut mesh.gateway_routes) {
        let found = gateway_of(key, route, gateways, namespaces.get(&key.namespace));
        if let Err((reason, why)) = &found {
            let why = why.clone();
            refused.push(RefusedObject::new(Kind::GatewayRoute, key, *reason, why));
        }
        route.gateway = found.ok().map(|gateway| Reference {
            name: gateway.name,
            namespace: Some(gateway.namespace),
        });
    }
}

/// The gateway that the route names, else the one that selects it.
fn gateway_of(
    key: &Key,
    route: &GatewayRouteSpec,
    gateways: &BTreeMap<Key, VirtualGatewaySpec>,
    namespace: Option<&Labels>,
) -> Result<Key, Fault> {
    if let Some(reference) = &route.virtual_gateway_ref {
        let own = reference.namespace.as_deref();
        let own = own.filter(|namespace| !namespace.is_empty());
        return Ok(Key::new(own.unwrap_or(&key.namespace), &reference.name));
    }
    // Without the namespace's labels (a manifest may lack the Namespace) any selector may match.
    let selects = |gateway: &VirtualGatewaySpec| {
        let of_namespace = gateway
            .namespace_selector
            .as_ref()
            .is_some_and(|selector| namespace.is_none_or(|labels| selector.selects(labels)));
        let of_route = gateway.gateway_route_selector.as_ref();
        of_namespace && of_route.is_none_or(|selector| selector.selects(&route.labels))
    };
    let mut selecting = gateways.iter().filter(|(_, gateway)| selects(gateway));
    match (selecting.next(), selecting.next()) {
        (Some((gateway, _)), None) => Ok(gateway.clone()),
        (None, _) => Err((
            Reason::NotFound,
            "no VirtualGateway selects the route (spec.namespaceSelector, spec.gatewayRouteSelector), and there is no spec.virtualGatewayRef".to_owned(),
        )),
        (Some((one, _)), Some((other, _))) => Err((
            Reason::Conflict,
            format!(
                "both VirtualGateway {}/{} and VirtualGateway {}/{} select the route: spec.virtualGatewayRef is needed",
                one.namespace, one.name, other.namespace, other.name
            ),
        )),
    }
}

/// The gateway that was found for a route.
pub(super) fn designated(route: &GatewayRouteSpec) -> Option<Key> {
    let gateway = route.gateway.as_ref();
    gateway.map(|gateway| Key::of_reference(gateway, ""))
}

/// The port of `service` to which a gateway route leads: `requested`, or else its only one.
pub(crate) fn target_port(
    mesh: &Mesh,
    key: &Key,
    service: &VirtualServiceSpec,
    requested: Option<u16>,
) -> Result<u16, String> {
    let name = &key.name;
    let all = ports::ports_of(mesh, key, service);
    let ports: Vec<u16> = all
        .iter()
        .filter(|mapping| mapping.protocol != Protocol::Tcp)
        .map(|mapping| mapping.port)
        .collect();
    match (requested, &ports[..]) {
        (Some(port), _) if ports.contains(&port) => Ok(port),
        (Some(port), _) => Err(format!(
            "the VirtualService {name} has no port {port} for HTTP"
        )),
        (None, [port]) => Ok(*port),
        (None, []) => Err(format!("the VirtualService {name} has no port for HTTP")),
        (None, _) => {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            let ports = ports.join(", ");
            Err(format!(
                "action.target.port is needed: the VirtualService {name} has the ports {ports}"
            ))
        }
    }
}

/// The name of a gateway in node IDs and Envoy cluster names.
pub(crate) fn gateway_name(key: &Key, gateway: &VirtualGatewaySpec) -> String {
    let default = || format!("{}_{}", key.name, key.namespace);
    gateway.aws_name.clone().unwrap_or_else(default)
}

// === impl Meshes ===

impl Meshes {
    /// The gateway of a node ID `mesh/MESH/virtualGateway/NAME_NAMESPACE`.
    pub fn gateway_of(&self, id: &str) -> Option<Gateway<'_>> {
        let (mesh, name) = id.strip_prefix("mesh/")?.split_once("/virtualGateway/")?;
        let mesh = self.of_node_id(mesh)?;
        let mut gateways = mesh.gateways.iter();
        let (key, spec) = gateways.find(|(key, spec)| gateway_name(key, spec) == name)?;
        Some(Gateway { mesh, key, spec })
    }

    /// The gateway in `namespace` whose `podSelector` matches a pod's labels.
    pub fn gateway_of_pod(
        &self,
        namespace: &str,
        labels: &Labels,
    ) -> Result<Option<Gateway<'_>>, Ambiguous> {
        let all = self.iter().flat_map(|mesh| {
            let gateways = mesh.gateways.iter();
            gateways.map(move |(key, spec)| Gateway { mesh, key, spec })
        });
        let selects = |selector: &Selector| selector.selects(labels);
        let mut found: Vec<_> = all
            .filter(|gateway| {
                let selector = gateway.spec.pod_selector.as_ref();
                gateway.key.namespace == namespace && selector.is_some_and(selects)
            })
            .collect();
        if found.len() > 1 {
            let names = found.iter();
            let names = names.map(|gateway| format!("VirtualGateway {}", gateway.key.name));
            return Err(Ambiguous(names.collect()));
        }
        Ok(found.pop())
    }
}

// === impl Gateway ===

impl<'a> Gateway<'a> {
    /// The node ID of its Envoys.
    pub fn node_id(&self) -> String {
        let name = gateway_name(self.key, self.spec);
        format!("mesh/{}/virtualGateway/{name}", self.mesh.name)
    }

    /// Ports on which its Envoys listen.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        let listeners = self.spec.listeners.iter();
        listeners.map(|listener| listener.port_mapping.port)
    }

    /// The routes of a listener, in the order in which they are tried.
    pub fn routes(&self, listener: PortMapping) -> Vec<(&'a Key, GatewayRouting<'a>)> {
        let all = self.mesh.gateway_routes.iter();
        let own = all.filter(|(_, route)| designated(route).as_ref() == Some(self.key));
        let mut routes: Vec<_> = own
            .filter_map(|(key, route)| Some((rank(route)?, key, route.routing()?)))
            .filter(|(_, _, routing)| routing.is_of(listener))
            .collect();
        // The sort is stable: the rest is by namespace and name.
        routes.sort_by_key(|(rank, _, _)| *rank);
        routes
            .into_iter()
            .map(|(_, key, routing)| (key, routing))
            .collect()
    }

    /// The virtual service of a route in the namespace of `key`, and its port; `None` if it is not
    /// there.
    pub fn target(&self, key: &Key, routing: GatewayRouting<'_>) -> Option<(Key, u16)> {
        let target = routing.target();
        let service = Key::of(&target.virtual_service.service, &key.namespace);
        let spec = self.mesh.services.get(&service)?;
        let port = target_port(self.mesh, &service, spec, target.port).ok()?;
        Some((service, port))
    }
}

/// By priority, then the more specific first, for routes have no order among each other: the host,
/// then the path, then the number of further conditions.
type Rank = (
    u32,
    (u8, Reverse<usize>),
    (u8, Reverse<usize>),
    Reverse<usize>,
);

fn rank(route: &GatewayRouteSpec) -> Option<Rank> {
    let routing = route.routing()?;
    let host = match routing.hostname() {
        Some(HostnameMatch::Exact(host)) => (0, Reverse(host.len())),
        Some(HostnameMatch::Suffix(suffix)) => (1, Reverse(suffix.len())),
        None => (2, Reverse(0)),
    };
    let (path, conditions) = match routing {
        GatewayRouting::Http(_, route) => of_http(&route.r#match),
        GatewayRouting::Grpc(route) => of_grpc(&route.r#match),
    };
    let priority = route.priority.unwrap_or(PRIORITY_MAX);
    Some((priority, host, path, Reverse(conditions)))
}

fn of_http(matched: &HttpGatewayMatch) -> ((u8, Reverse<usize>), usize) {
    let path = match (&matched.path, &matched.prefix) {
        (Some(PathMatch::Exact(path)), _) => (0, Reverse(path.len())),
        (Some(PathMatch::Regex(regex)), _) => (1, Reverse(regex.len())),
        (None, prefix) => (2, Reverse(prefix.as_ref().map_or(0, String::len))),
    };
    let others = usize::from(matched.method.is_some());
    let conditions = matched.headers.len() + matched.query_parameters.len() + others;
    (path, conditions)
}

fn of_grpc(matched: &GrpcGatewayMatch) -> ((u8, Reverse<usize>), usize) {
    let service = matched.service_name.as_ref().map_or(0, String::len);
    ((2, Reverse(service)), matched.metadata.len())
}
