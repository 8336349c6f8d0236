//! Conflicts between ports of injected containers and ports that the pod declares.

use serde_json::Value;

use crate::names::{
    ADMIN_PORT, EGRESS_PORT, ENVOY_ADMIN_PORT, INGRESS_PORT, SIDECAR, STATUS_PORT, XDS_PORT,
};
use crate::skipped::Skipped;

const XDS_PROXY: [u16; 2] = [XDS_PORT, ADMIN_PORT];
/// Ports of a stock Envoy.
const ENVOY: [u16; 4] = [ENVOY_ADMIN_PORT, INGRESS_PORT, EGRESS_PORT, STATUS_PORT];

/// Actions of probes that have a port.
const ACTIONS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

/// Fails if the pod listens on a port of an injected container. `stock`: a stock Envoy is added.
pub(crate) fn are_free(spec: &Value, stock: bool) -> Result<(), Skipped> {
    for container in items(&spec["containers"]) {
        is_free(container, true, stock)?;
    }
    for container in items(&spec["initContainers"]) {
        // An ordinary init container ends before Envoy starts, but runs beside the xDS proxy.
        is_free(container, container["restartPolicy"] == "Always", stock)?;
    }
    Ok(())
}

/// Fails if a listener of the virtual node uses a port of an injected container.
pub(crate) fn are_not_of_the_application(listeners: &[u16]) -> Result<(), Skipped> {
    let ours = |port: &&u16| ENVOY.contains(port) || XDS_PROXY.contains(port);
    listeners
        .iter()
        .find(ours)
        .map_or(Ok(()), |port| taken(*port))
}

fn is_free(container: &Value, beside_envoy: bool, stock: bool) -> Result<(), Skipped> {
    // The pod's own Envoy replaces the stock Envoy, and may use its ports.
    let is_sidecar = container["name"] == SIDECAR;
    for port in listening(container) {
        let is_ours = XDS_PROXY.contains(&port)
            || (stock && beside_envoy && !is_sidecar && ENVOY.contains(&port));
        if is_ours {
            return taken(port);
        }
    }
    Ok(())
}

fn taken(port: u16) -> Result<(), Skipped> {
    Err(Skipped::Taken {
        what: "port",
        name: port.to_string(),
    })
}

/// TCP ports that a container declares, and those of its probes.
fn listening(container: &Value) -> impl Iterator<Item = u16> {
    let declared = items(&container["ports"])
        .filter(|port| is_tcp(port))
        .map(|port| &port["containerPort"]);
    let probed = PROBES
        .into_iter()
        .flat_map(|probe| ACTIONS.map(|action| &container[probe][action]["port"]));
    declared.chain(probed).filter_map(number)
}

/// TCP ports that the application declares, each once, in its order. Undeclared ports are not
/// redirected.
pub(crate) fn of_application(spec: &Value) -> Vec<u16> {
    let inits = items(&spec["initContainers"]);
    let native = inits.filter(|container| container["restartPolicy"] == "Always");
    let containers = items(&spec["containers"]).chain(native);
    let declared = containers
        .filter(|container| container["name"] != SIDECAR)
        .flat_map(|container| items(&container["ports"]))
        .filter(|port| is_tcp(port))
        .filter_map(|port| number(&port["containerPort"]));
    let mut ports = Vec::new();
    for port in declared {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
}

fn is_tcp(port: &Value) -> bool {
    port["protocol"]
        .as_str()
        .is_none_or(|protocol| protocol == "TCP")
}

fn number(port: &Value) -> Option<u16> {
    u16::try_from(port.as_u64()?).ok()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
