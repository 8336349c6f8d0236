//! The control plane over an API server with recorded behaviour: what is served, what is said of
//! what is not.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use http::StatusCode;
use mesh_control_plane::cluster::{Cluster, Options};
use mesh_control_plane::envoy::{CLUSTER, ENDPOINT, Ports, Snapshot};
use mesh_control_plane::metrics::Metrics;
use prometheus_client::registry::Registry;
use prost::Message as _;
use serde_json::{Value, json};
use tests_support::clock::{system, wait_for};
use tests_support::kubernetes::custom::{
    self, ENDPOINT_SLICE, GATEWAY_ROUTE, MESH, VIRTUAL_GATEWAY, VIRTUAL_NODE, VIRTUAL_ROUTER,
    VIRTUAL_SERVICE,
};
use tests_support::kubernetes::objects::{EVENT, NAMESPACE, Objects, SERVICE};
use tests_support::kubernetes::{ApiServer, Resource};
use tokio_util::sync::{CancellationToken, DropGuard};

const PATIENCE: Duration = Duration::from_mins(1);
const DJAPP: &str = include_str!("../../../tests/mesh/djapp.yaml");
const TO_JAZZ: &str = "cds_egress_dj-app_jazz-v1_prod_http_9080";

fn manifests() -> Vec<Value> {
    serde_saphyr::from_multiple(DJAPP).unwrap()
}

/// A cluster with djapp's manifests, and two addresses of jazz.
async fn djapp() -> ApiServer {
    let server = ApiServer::start().await.unwrap();
    let objects = server.objects();
    for manifest in manifests() {
        objects.apply(custom::of_manifest(&manifest).unwrap(), manifest);
    }
    let labels = json!({"mesh": "dj-app"});
    objects.apply(
        NAMESPACE,
        json!({"metadata": {"name": "prod", "labels": labels}}),
    );
    let ports = json!([{"port": 9080, "targetPort": 8080}]);
    let spec = json!({"clusterIP": "10.9.0.1", "selector": {"app": "jazz"}, "ports": ports});
    let metadata = json!({"namespace": "prod", "name": "jazz-v1"});
    objects.apply(SERVICE, json!({"metadata": metadata, "spec": spec}));
    slice(&server, &["10.0.0.1", "10.0.0.2"]);
    server
}

fn slice(server: &ApiServer, addresses: &[&str]) {
    let endpoints = addresses.iter();
    let endpoints: Value = endpoints
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
        .collect();
    let labels = json!({"kubernetes.io/service-name": "jazz-v1"});
    let metadata = json!({"namespace": "prod", "name": "jazz-v1-abc", "labels": labels});
    server.objects().apply(
        ENDPOINT_SLICE,
        json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints,
               "ports": [{"name": "", "port": 8080, "protocol": "TCP"}]}),
    );
}

struct ControlPlane {
    cluster: Cluster,
    registry: Registry,
    _stop: DropGuard,
    _folder: tempfile::TempDir,
}

impl ControlPlane {
    async fn start(server: &ApiServer, namespaces: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        server.write_kubeconfig(&kubeconfig).unwrap();
        let options = Options {
            kubeconfig: Some(kubeconfig),
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
            ..Options::default()
        };
        let (mut registry, stop) = (Registry::default(), CancellationToken::new());
        let metrics = Metrics::register(&mut registry);
        let cluster = Cluster::start(&options, &metrics, &system(), &stop).await;
        Self {
            cluster: cluster.unwrap(),
            registry,
            _stop: stop.drop_guard(),
            _folder: folder,
        }
    }

    async fn ready(self) -> Self {
        let ready = tokio::time::timeout(PATIENCE, self.cluster.ready()).await;
        assert!(ready.unwrap(), "{:?}", self.cluster.missing()());
        self
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let meshes = Arc::clone(&self.cluster.meshes.borrow());
        let dj = meshes.node_of("mesh/dj-app/virtualNode/dj_prod")?;
        Some(Snapshot::new(&dj, &Ports::default()))
    }

    /// Endpoints of jazz-v1; `None` if it is resolved by DNS.
    fn endpoints(&self) -> Option<Vec<String>> {
        use envoy_types::pb::envoy::config::core::v3::address::Address;
        use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
        use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
        let snapshot = self.snapshot()?;
        let any = snapshot.of(ENDPOINT).get(TO_JAZZ)?;
        let assignment = ClusterLoadAssignment::decode(&any.value[..]).unwrap();
        let endpoints = assignment.endpoints[0].lb_endpoints.iter();
        let addresses = endpoints.map(|endpoint| {
            let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
                panic!("no endpoint");
            };
            let address = endpoint.address.as_ref().unwrap().address.as_ref();
            let Some(Address::SocketAddress(socket)) = address else {
                panic!("no address");
            };
            let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else {
                panic!("no port");
            };
            format!("{}:{port}", socket.address)
        });
        Some(addresses.collect())
    }

    async fn wait_until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let wait_until = wait_for(what, PATIENCE, async || Ok(is(self).then_some(())));
        wait_until.await.unwrap();
    }

    async fn calls(&self, addresses: &[&str]) {
        let expected: Vec<_> = addresses
            .iter()
            .map(|address| (*address).to_owned())
            .collect();
        let what = format!("endpoints {addresses:?}");
        self.wait_until(&what, |control_plane| {
            control_plane.endpoints().as_ref() == Some(&expected)
        })
        .await;
    }

    fn metric(&self, line: &str) -> bool {
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &self.registry).unwrap();
        page.lines().any(|printed| printed == line)
    }
}

/// Waits for the object's condition.
async fn condition(server: &ApiServer, resource: Resource, name: &str, status: &str) -> Value {
    let namespace = if resource == MESH { "" } else { "prod" };
    let what = format!("{} {name} to be {status}", resource.kind);
    let found = wait_for(&what, PATIENCE, async || {
        let object = server.objects().get(resource, namespace, name);
        let conditions = object.map(|object| object["status"]["conditions"].clone());
        let conditions = conditions.unwrap_or_default();
        let is_ours = |condition: &&Value| {
            condition["type"] == format!("{}Active", resource.kind) && condition["status"] == status
        };
        let conditions = conditions.as_array().cloned().unwrap_or_default();
        Ok(conditions.iter().find(is_ours).cloned())
    });
    found.await.unwrap()
}

/// Created, changed and deleted objects are followed; nothing is served before all are listed.
#[tokio::test]
async fn follows_the_cluster() {
    let server = djapp().await;
    let control_plane = ControlPlane::start(&server, &[]).await.ready().await;
    control_plane
        .calls(&["10.0.0.1:8080", "10.0.0.2:8080"])
        .await;
    let objects = server.objects();
    let mut router = objects.get(VIRTUAL_ROUTER, "prod", "jazz-router").unwrap();
    let before = control_plane.snapshot().unwrap();
    router["spec"]["routes"][0]["httpRoute"]["action"]["weightedTargets"][1]["weight"] = 50.into();
    objects.apply(VIRTUAL_ROUTER, router);
    control_plane
        .wait_until("other routes", |control_plane| {
            control_plane.snapshot() != Some(before.clone())
        })
        .await;
    assert_eq!(
        control_plane.snapshot().unwrap().of(CLUSTER),
        before.of(CLUSTER)
    );
    slice(&server, &["10.0.0.3"]);
    control_plane.calls(&["10.0.0.3:8080"]).await;
    // A service without pods has no addresses; without the service DNS is used.
    objects.delete(ENDPOINT_SLICE, "prod", "jazz-v1-abc");
    control_plane.calls(&[]).await;
    objects.delete(SERVICE, "prod", "jazz-v1");
    control_plane
        .wait_until("DNS", |control_plane| control_plane.endpoints().is_none())
        .await;
    assert!(
        control_plane
            .snapshot()
            .unwrap()
            .of(CLUSTER)
            .contains_key(TO_JAZZ)
    );
    objects.delete(VIRTUAL_NODE, "prod", "dj");
    control_plane
        .wait_until("nobody", |control_plane| control_plane.snapshot().is_none())
        .await;
}

/// kube-apiserver is down, compacts its history, and comes back: the cache is served all the time.
#[tokio::test]
async fn survives_the_api_server() {
    let server = djapp().await;
    let control_plane = ControlPlane::start(&server, &["prod"]).await.ready().await;
    server.break_watches();
    slice(&server, &["10.0.0.3"]);
    control_plane.calls(&["10.0.0.3:8080"]).await;
    server.set_outage(Some(StatusCode::SERVICE_UNAVAILABLE));
    slice(&server, &["10.0.0.4"]);
    server.objects().delete(VIRTUAL_SERVICE, "prod", "metal");
    server.objects().compact();
    let metal = |control_plane: &ControlPlane| {
        let snapshot = control_plane.snapshot().unwrap();
        snapshot
            .of(CLUSTER)
            .contains_key("cds_egress_dj-app_metal-v1_prod_http_9080")
    };
    assert!(metal(&control_plane) && control_plane.cluster.missing()().is_none());
    assert_eq!(control_plane.endpoints().unwrap(), ["10.0.0.3:8080"]);
    server.set_outage(None);
    control_plane.calls(&["10.0.0.4:8080"]).await;
    control_plane
        .wait_until("what was deleted to be gone", |control_plane| {
            !metal(control_plane)
        })
        .await;
}

/// Without the CRDs nothing is served, and readiness has the reason; they may be installed later.
/// The CRDs of gateways need not be installed.
#[tokio::test]
async fn waits_for_the_crds() {
    let server = djapp().await;
    server.set_absent(VIRTUAL_ROUTER, true);
    server.set_absent(VIRTUAL_GATEWAY, true);
    let control_plane = ControlPlane::start(&server, &[]).await;
    let missing = control_plane.cluster.missing();
    let why = "the API server does not know virtualrouters of /apis/appmesh.k8s.aws/v1beta2: is the CustomResourceDefinition installed?";
    control_plane
        .wait_until("the reason", |_| {
            missing().is_some_and(|reason| reason.contains(why))
        })
        .await;
    assert!(control_plane.snapshot().is_none());
    server.set_absent(VIRTUAL_ROUTER, false);
    let control_plane = control_plane.ready().await;
    assert!(control_plane.snapshot().is_some() && missing().is_none());
}

/// A workload of a route is deleted: the route leads on to the others, its router's condition says
/// so, and no longer once it is back.
#[tokio::test]
async fn says_what_is_gone() {
    let server = djapp().await;
    let objects = server.objects();
    let control_plane = ControlPlane::start(&server, &[]).await.ready().await;
    condition(&server, VIRTUAL_ROUTER, "jazz-router", "True").await;
    let before = control_plane.snapshot().unwrap();
    let second = objects.get(VIRTUAL_NODE, "prod", "jazz-v2").unwrap();
    objects.delete(VIRTUAL_NODE, "prod", "jazz-v2");
    let lost = condition(&server, VIRTUAL_ROUTER, "jazz-router", "False").await;
    assert_eq!(lost["reason"], "NotFound");
    assert_eq!(
        lost["message"],
        "route jazz-route: there is no VirtualNode jazz-v2 in the mesh; its weight of 5 is left out"
    );
    let after = control_plane.snapshot().unwrap();
    assert!(after.of(CLUSTER).contains_key(TO_JAZZ));
    assert_eq!(after.of(CLUSTER).len() + 1, before.of(CLUSTER).len());
    control_plane
        .calls(&["10.0.0.1:8080", "10.0.0.2:8080"])
        .await;
    condition(&server, VIRTUAL_SERVICE, "jazz", "True").await;
    objects.apply(VIRTUAL_NODE, second);
    condition(&server, VIRTUAL_ROUTER, "jazz-router", "True").await;
    assert_eq!(control_plane.snapshot().unwrap(), before);
}

/// Names of the objects that Events are about.
fn events_of(objects: &Objects) -> Vec<String> {
    let (_, events) = objects.list(EVENT, "prod");
    let names = events.iter().map(|event| &event["involvedObject"]["name"]);
    names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// A refusal is in the status, once, with an Event; what was served before is served on, and what
/// is served says so. Two control planes say the same, and neither writes over the other.
#[tokio::test]
async fn says_what_it_refuses() {
    let server = djapp().await;
    let objects = server.objects();
    // Somebody else's condition stays.
    let mut node = objects.get(VIRTUAL_NODE, "prod", "jazz-v1").unwrap();
    let other = json!({"type": "Other", "status": "True"});
    node["status"] = json!({"conditions": [other], "virtualNodeARN": "arn"});
    objects.apply(VIRTUAL_NODE, node);
    let control_planes = [
        ControlPlane::start(&server, &[]).await.ready().await,
        ControlPlane::start(&server, &[]).await.ready().await,
    ];
    for (resource, name) in [
        (MESH, "dj-app"),
        (VIRTUAL_NODE, "jazz-v1"),
        (VIRTUAL_SERVICE, "jazz"),
        (VIRTUAL_ROUTER, "jazz-router"),
    ] {
        let condition = condition(&server, resource, name, "True").await;
        assert_eq!(condition["reason"], "Served");
    }
    let mut node = objects.get(VIRTUAL_NODE, "prod", "jazz-v1").unwrap();
    assert_eq!(node["status"]["conditions"][0], other);
    assert_eq!(node["status"]["virtualNodeARN"], "arn");

    node["spec"]["listeners"][0]["tsl"] = json!({"mode": "STRICT"});
    objects.apply(VIRTUAL_NODE, node);
    let listener = json!({"portMapping": {"port": 8088, "protocol": "tcp"}});
    let gateway =
        json!({"metadata": {"namespace": "prod", "name": "in"}, "spec": {"listeners": [listener]}});
    objects.apply(VIRTUAL_GATEWAY, gateway);
    let refusal = condition(&server, VIRTUAL_NODE, "jazz-v1", "False").await;
    assert_eq!(refusal["reason"], "NotSupported");
    let message = refusal["message"].as_str().unwrap();
    assert!(
        message.starts_with("spec.listeners[0].tsl is not served"),
        "{message}"
    );
    let refusal = condition(&server, VIRTUAL_GATEWAY, "in", "False").await;
    assert_eq!(
        refusal["message"],
        "spec.listeners[0].portMapping.protocol: a gateway has http, http2 and grpc, not tcp"
    );
    let node_now = objects.get(VIRTUAL_NODE, "prod", "jazz-v1").unwrap();
    let generation = &node_now["metadata"]["generation"];
    assert_eq!(node_now["status"]["observedGeneration"], *generation);
    for control_plane in &control_planes {
        control_plane
            .calls(&["10.0.0.1:8080", "10.0.0.2:8080"])
            .await;
        assert!(control_plane.metric("control_plane_resources_refused{kind=\"VirtualNode\"} 1"));
    }
    wait_for("both Events", PATIENCE, async || {
        Ok((objects.list(EVENT, "prod").1.len() == 2).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(events_of(objects), ["in", "jazz-v1"]);

    // A change of the specification leaves the status as it is.
    let mut node = objects.get(VIRTUAL_NODE, "prod", "jazz-v1").unwrap();
    node["spec"]["listeners"][0]
        .as_object_mut()
        .unwrap()
        .remove("tsl");
    objects.apply(VIRTUAL_NODE, node);
    condition(&server, VIRTUAL_NODE, "jazz-v1", "True").await;
    // Each of the two has tried each condition once at most: five workloads, and two more
    // conditions of one of them.
    slice(&server, &["10.0.0.9"]);
    for control_plane in &control_planes {
        control_plane.calls(&["10.0.0.9:8080"]).await;
    }
    let writes = server.requests("patch virtualnodes/status");
    assert!((7..=14).contains(&writes), "{writes}");
    assert_eq!(objects.list(EVENT, "prod").1.len(), 2);
}

/// A gateway is served with its routes, which it selects by their labels, and both say so.
#[tokio::test]
async fn gateways_select_their_routes() {
    let server = djapp().await;
    let objects = server.objects();
    let listener = json!({"portMapping": {"port": 8088, "protocol": "http"}});
    let spec = json!({
        "namespaceSelector": {"matchLabels": {"mesh": "dj-app"}},
        "gatewayRouteSelector": {"matchLabels": {"edge": "in"}},
        "listeners": [listener],
    });
    let metadata = json!({"namespace": "prod", "name": "in"});
    objects.apply(VIRTUAL_GATEWAY, json!({"metadata": metadata, "spec": spec}));
    let route = |edge: &str| {
        let labels = json!({"edge": edge});
        let metadata = json!({"namespace": "prod", "name": "all", "labels": labels});
        let target = json!({"virtualService": {"virtualServiceRef": {"name": "jazz"}}});
        let http = json!({"match": {"prefix": "/"}, "action": {"target": target}});
        json!({"metadata": metadata, "spec": {"httpRoute": http}})
    };
    objects.apply(GATEWAY_ROUTE, route("in"));
    let control_plane = ControlPlane::start(&server, &[]).await.ready().await;
    condition(&server, VIRTUAL_GATEWAY, "in", "True").await;
    condition(&server, GATEWAY_ROUTE, "all", "True").await;
    let leads_to_jazz = || {
        let meshes = control_plane.cluster.meshes.borrow().clone();
        let gateway = meshes.gateway_of("mesh/dj-app/virtualGateway/in_prod");
        let snapshot = gateway.map(|one| Snapshot::of_gateway(&one, &Ports::default()));
        snapshot.is_some_and(|snapshot| snapshot.of(CLUSTER).contains_key(TO_JAZZ))
    };
    assert!(leads_to_jazz());
    let kind = "control_plane_resources_served{kind=\"GatewayRoute\"} 1";
    assert!(control_plane.metric(kind));

    objects.apply(GATEWAY_ROUTE, route("elsewhere"));
    let refusal = condition(&server, GATEWAY_ROUTE, "all", "False").await;
    assert_eq!(refusal["reason"], "NotFound");
}
