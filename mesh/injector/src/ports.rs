//! Ports that what is added listens on, and those that a pod says it listens on itself: whoever
//! comes second cannot.

use serde_json::Value;

use crate::names::{
    ADMIN_PORT, EGRESS_PORT, ENVOY_ADMIN_PORT, INGRESS_PORT, SIDECAR, STATUS_PORT, XDS_PORT,
};
use crate::skipped::Skipped;

const XDS_PROXY: [u16; 2] = [XDS_PORT, ADMIN_PORT];
/// Those of an Envoy of ours.
const ENVOY: [u16; 4] = [ENVOY_ADMIN_PORT, INGRESS_PORT, EGRESS_PORT, STATUS_PORT];

/// The actions of probes and hooks that name a port.
const ACTIONS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

/// Refuses a pod that listens where something of ours does. `stock`: the Envoy is ours too.
pub(crate) fn are_free(spec: &Value, stock: bool) -> Result<(), Skipped> {
    for container in items(&spec["containers"]) {
        is_free(container, true, stock)?;
    }
    for container in items(&spec["initContainers"]) {
        // What only runs before the Envoy of ours starts is in nobody's way there.
        is_free(container, container["restartPolicy"] == "Always", stock)?;
    }
    Ok(())
}

/// Refuses a virtual node whose application listens where an Envoy of ours does.
pub(crate) fn are_not_of_the_application(listeners: &[u16]) -> Result<(), Skipped> {
    let ours = |port: &&u16| ENVOY.contains(port) || XDS_PROXY.contains(port);
    listeners
        .iter()
        .find(ours)
        .map_or(Ok(()), |port| taken(*port))
}

fn is_free(container: &Value, beside_envoy: bool, stock: bool) -> Result<(), Skipped> {
    // Its own Envoy is in place of ours.
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

/// TCP ports that a container says it listens on: those it declares, and those it wants to be
/// probed at.
fn listening(container: &Value) -> impl Iterator<Item = u16> {
    let declared = items(&container["ports"])
        .filter(|port| is_tcp(port))
        .map(|port| &port["containerPort"]);
    let probed = PROBES
        .into_iter()
        .flat_map(|probe| ACTIONS.map(|action| &container[probe][action]["port"]));
    declared.chain(probed).filter_map(number)
}

/// TCP ports that the application declares, each once, in its order. What it does not declare stays
/// outside of the mesh.
pub(crate) fn of_application(spec: &Value) -> Vec<u16> {
    let native = items(&spec["initContainers"]).filter(|one| one["restartPolicy"] == "Always");
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
