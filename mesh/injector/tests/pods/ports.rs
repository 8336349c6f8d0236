//! Ports of the application: whose they are, and which are redirected.

use std::collections::BTreeMap;

use mesh_injector::pod::inject;
use mesh_injector::skipped::{NoVirtualNode, Skipped};
use mesh_injector::virtual_node::{VirtualNode, VirtualNodes};
use serde_json::{Value, json};

use crate::{NAMESPACE, UNRESTRICTED, admitted, case, settings};

/// The review of `stock/selected`, with these fields of its container.
fn with(fields: &Value) -> Value {
    let mut review = case("stock/selected");
    let container = &mut review["request"]["object"]["spec"]["containers"][0];
    json_patch::merge(container, fields);
    review
}

/// The review of `stock/selected`, with a container of these fields that starts before its own.
fn after(fields: &Value) -> Value {
    let mut review = case("stock/selected");
    let mut container = json!({"name": "a", "image": "a"});
    json_patch::merge(&mut container, fields);
    review["request"]["object"]["spec"]["initContainers"] = json!([container]);
    review
}

fn listens(port: u16) -> Value {
    json!({"ports": [{"containerPort": port}]})
}

/// What of ours would listen where the application does, and what would not: (review, port that is
/// taken from the stock Envoy, port that is taken from what is beside another).
#[test]
fn ports_have_one_owner() {
    let named = json!({"ports": [{"containerPort": 15_000, "name": "http"}]});
    let second =
        json!({"ports": [{"containerPort": 80}, {"containerPort": 15_001, "protocol": "TCP"}]});
    let udp = json!({"ports": [{"containerPort": 15_001, "protocol": "UDP"}]});
    let of_host = json!({"ports": [{"containerPort": 8_080, "hostPort": 15_001}]});
    let probed = json!({"livenessProbe": {"httpGet": {"port": 9_901, "path": "/"}}});
    let stays = json!({"restartPolicy": "Always", "ports": [{"containerPort": 15_001}]});
    let cases = [
        (with(&listens(9_901)), Some(9_901), None),
        (with(&named), Some(15_000), None),
        (with(&second), Some(15_001), None),
        (with(&listens(15_092)), Some(15_092), None),
        (with(&listens(15_090)), Some(15_090), Some(15_090)),
        (with(&listens(15_091)), Some(15_091), Some(15_091)),
        // Another protocol, another address of the host, another network.
        (with(&udp), None, None),
        (with(&of_host), None, None),
        (with(&probed), Some(9_901), None),
        // What ends before the Envoy begins, and what stays.
        (after(&listens(15_001)), None, None),
        (after(&listens(15_090)), Some(15_090), Some(15_090)),
        (after(&stays), Some(15_001), None),
    ];
    for (review, stock, beside) in cases {
        for (folder, expected) in [("stock", stock), ("app-mesh", beside)] {
            let (_, answer) = admitted(&review, &settings(folder));
            let expected = expected.map(|port: u16| Skipped::Taken {
                what: "port",
                name: port.to_string(),
            });
            let spec = &review["request"]["object"]["spec"];
            assert_eq!(answer.skipped, expected, "{folder}: {spec}");
        }
    }
}

/// A virtual node with listeners on these ports.
struct Listening(Vec<u16>);

impl VirtualNodes for Listening {
    fn selecting(
        &self,
        _: &str,
        _: &BTreeMap<String, String>,
    ) -> Result<VirtualNode, NoVirtualNode> {
        Ok(VirtualNode {
            name: "jazz".to_owned(),
            aws_name: None,
            mesh: "dj-app".to_owned(),
            ports: self.0.clone(),
            secrets: Vec::new(),
        })
    }

    fn named(&self, _: &str, _: &str) -> Option<VirtualNode> {
        None
    }
}

/// Ports of a virtual node are the application's; more than can be redirected are said to be that.
#[test]
fn listeners_are_ports_of_the_application() {
    let pod = case("stock/selected")["request"]["object"].clone();
    let skipped = |ports: Vec<u16>| {
        let became = inject(&pod, NAMESPACE, &settings("stock"), &Listening(ports));
        became
            .err()
            .map(|skipped| (skipped.reason(), skipped.to_string()))
    };
    assert_eq!(skipped((8_000..8_015).collect()), None);
    let (reason, text) = skipped((8_000..8_016).collect()).unwrap();
    assert_eq!(reason, "too_many_ports");
    assert!(
        text.starts_with("the pod has 16 ports to redirect, at most 15 are supported"),
        "{text}"
    );
    assert_eq!(skipped(vec![8_080, 9_901]).unwrap().0, "taken");
}

/// Ports that the application declares are redirected once each; too many are not called an
/// annotation.
#[test]
fn declared_ports_are_those_of_the_application() {
    let node = |pod: &mut Value| {
        pod["metadata"]["annotations"] =
            json!({"meshmeter.io/virtual-node": "other", "meshmeter.io/mesh": "m"});
    };
    let redirected = |ports: Value| {
        let mut review = case("stock/selected");
        let pod = &mut review["request"]["object"];
        node(pod);
        pod["spec"]["containers"][0]["ports"] = ports;
        let (pod, answer) = admitted(&review, &settings("stock"));
        let starting = pod["spec"]["initContainers"]
            .as_array()
            .into_iter()
            .flatten();
        let mut env = starting
            .filter(|one| one["name"] == UNRESTRICTED)
            .flat_map(|one| one["env"].as_array().unwrap());
        let ports = env.find(|one| one["name"] == "APPMESH_APP_PORTS");
        let ports = ports.map(|one| one["value"].as_str().unwrap().to_owned());
        (ports, answer.skipped.map(|skipped| skipped.reason()))
    };
    let tcp = |port: u16| json!({"containerPort": port});
    let several = json!([tcp(80), {"containerPort": 53, "protocol": "UDP"}, tcp(80), tcp(8_080)]);
    assert_eq!(redirected(several), (Some("80,8080".to_owned()), None));
    assert_eq!(redirected(json!([])), (Some("0".to_owned()), None));
    let twenty: Vec<Value> = (8_000..8_020).map(tcp).collect();
    assert_eq!(redirected(twenty.into()), (None, Some("too_many_ports")));
}
