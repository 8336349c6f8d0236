//! Pods of a virtual gateway. They bring a container `envoy` of their own, and nothing of them is
//! redirected.

use serde_json::{Value, json};

use crate::annotations::{CONTROLLER, VIRTUAL_NODE};
use crate::envoy_sidecar::{probe, status_port};
use crate::names::{
    BOOTSTRAP_FILE, SIDECAR, SIDECAR_MOUNTS, STATUS_PORT, add_mounts, labels, list, named, object,
};
use crate::ports;
use crate::settings::Stock;
use crate::sidecar_env;
use crate::skipped::{NoVirtualNode, Skipped};
use crate::virtual_node::{VirtualGateway, VirtualNode, VirtualNodes};

/// Annotation of a pod, as of App Mesh's controller: with `enabled` its `envoy` keeps its image.
const SKIP_IMAGE: &str = "appmesh.k8s.aws/virtualGatewaySkipImageOverride";

/// Variables by which App Mesh's agent learns its node ID.
const NODE_ID: [&str; 2] = ["APPMESH_RESOURCE_ARN", "APPMESH_VIRTUAL_NODE_NAME"];

/// What a pod is of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Member {
    Node(VirtualNode),
    Gateway(VirtualGateway),
}

// === impl Member ===

impl Member {
    /// The node that `pod` names, else the node or gateway that selects it.
    pub(crate) fn of(
        pod: &Value,
        namespace: &str,
        mesh: Option<&str>,
        nodes: &dyn VirtualNodes,
    ) -> Result<Self, NoVirtualNode> {
        let node = VirtualNode::of(pod, namespace, mesh, nodes);
        let is_named = pod["metadata"]["annotations"][VIRTUAL_NODE].is_string();
        if is_named || !matches!(node, Ok(_) | Err(NoVirtualNode::None)) {
            return node.map(Self::Node);
        }
        match (node, nodes.gateway(namespace, &labels(pod))?) {
            (node, None) => node.map(Self::Node),
            (Err(_), Some(gateway)) => Ok(Self::Gateway(gateway)),
            (Ok(node), Some(gateway)) => Err(NoVirtualNode::Several(vec![
                format!("VirtualNode {}", node.name),
                format!("VirtualGateway {}", gateway.name),
            ])),
        }
    }
}

// === impl VirtualGateway ===

impl VirtualGateway {
    /// Configures the pod's own `envoy`: as a stock Envoy, or with its own image as App Mesh's
    /// agent. Returns the node ID for the bootstrap of a stock one.
    pub(crate) fn configure(
        &self,
        pod: &mut Value,
        stock: &Stock,
    ) -> Result<Option<String>, Skipped> {
        ports::are_not_of_the_application(&self.ports)?;
        let annotations = object(&mut pod["metadata"]["annotations"])?;
        let skips = annotations.get(SKIP_IMAGE).and_then(Value::as_str);
        let keeps_image = skips.is_some_and(|word| word.eq_ignore_ascii_case("enabled"));
        // App Mesh's controller, if it still runs, would configure it for Amazon's control plane.
        annotations.insert(CONTROLLER.to_owned(), "disabled".into());
        let volumes = pod["spec"]["volumes"].clone();
        let containers = list(&mut pod["spec"]["containers"])?;
        let envoy = containers
            .iter_mut()
            .find(|container| container["name"] == SIDECAR)
            .ok_or_else(|| Skipped::NoEnvoy(self.name.clone()))?;
        let env = list(&mut envoy["env"])?;
        for name in NODE_ID {
            let variable = json!({"name": name, "value": self.node_id});
            match env.iter_mut().find(|variable| variable["name"] == name) {
                Some(there) => *there = variable,
                None => env.push(variable),
            }
        }
        if keeps_image {
            return Ok(None);
        }
        stock_envoy(envoy, stock)?;
        let there = SIDECAR_MOUNTS.into_iter();
        let there: Vec<_> = there
            .filter(|(name, _)| named(&volumes, name).is_some())
            .collect();
        add_mounts(envoy, &there)?;
        Ok(Some(self.node_id.clone()))
    }
}

/// Image and arguments of a stock Envoy; the rest is the user's.
fn stock_envoy(envoy: &mut Value, stock: &Stock) -> Result<(), Skipped> {
    let value = |name: &str| {
        let variable = named(&envoy["env"], name)?;
        variable["value"].as_str().map(str::to_owned)
    };
    for variable in envoy["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default();
        // One from elsewhere is on, as far as can be known.
        let text = variable["value"].as_str().unwrap_or("?");
        if let Some(why) = sidecar_env::refusal(name, text) {
            let name = name.to_owned();
            return Err(Skipped::AgentOnly { name, why });
        }
    }
    let level = value("ENVOY_LOG_LEVEL").unwrap_or_else(|| "info".to_owned());
    let mut args = vec![
        "--config-path".to_owned(),
        BOOTSTRAP_FILE.to_owned(),
        "--disable-hot-restart".to_owned(),
        "--drain-time-s".to_owned(),
        "20".to_owned(),
        "--log-level".to_owned(),
        level,
    ];
    // As in App Mesh one worker for each CPU, if none is said: it has no application beside it.
    if let Some(concurrency) = value("ENVOY_CONCURRENCY") {
        args.extend(["--concurrency".to_owned(), concurrency]);
    }
    let ports = list(&mut envoy["ports"])?;
    if !ports
        .iter()
        .any(|port| port["name"] == "stats" || port["containerPort"] == STATUS_PORT)
    {
        ports.push(status_port());
    }
    envoy["image"] = stock.image.clone().into();
    envoy["args"] = args.into();
    if let Some(envoy) = envoy.as_object_mut() {
        envoy.remove("command");
        envoy
            .entry("readinessProbe")
            .or_insert_with(|| probe(10, 3));
    }
    Ok(())
}
