//! Which responses are sent, and when.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::google::rpc::Status;
use prost::Message as _;

use super::*;

const DJAPP: &str = include_str!("../../../../../tests/mesh/djapp.yaml");
const DJ: &str = "mesh/dj-app/virtualNode/dj_prod";
const TO_V1: &str = "cds_egress_dj-app_jazz-v1_prod_http_9080";
const TO_V2: &str = "cds_egress_dj-app_jazz-v2_prod_http_9080";

/// A fake Envoy with the responses that it received.
struct Envoy {
    subscriber: Subscriber,
    received: Vec<DiscoveryResponse>,
}

impl Envoy {
    fn new(meshes: &Meshes) -> Self {
        let node = Node {
            id: DJ.to_owned(),
            ..Node::default()
        };
        let mut subscriber = Subscriber::new(&node);
        assert!(subscriber.update(meshes));
        Self {
            subscriber,
            received: Vec::new(),
        }
    }

    /// Sends a request, an ACK of the last response of the type or, with `error`, a NACK; returns
    /// the types of the responses.
    fn send(&mut self, type_url: &str, names: &[&str], error: Option<&str>) -> Vec<String> {
        let last = self
            .received
            .iter()
            .rfind(|response| response.type_url == type_url);
        let request = DiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: last
                .map(|response| response.nonce.clone())
                .unwrap_or_default(),
            error_detail: error.map(|message| Status {
                message: message.to_owned(),
                ..Status::default()
            }),
            ..DiscoveryRequest::default()
        };
        self.subscriber.receive(request);
        self.receive()
    }

    /// Returns the types of the responses that are due.
    fn receive(&mut self) -> Vec<String> {
        let responses = self.subscriber.next();
        let types = responses.iter().map(|response| response.type_url.clone());
        let types = types.collect();
        self.received.extend(responses);
        types
    }

    /// The clusters of the last response.
    fn decoded(&self) -> impl Iterator<Item = Cluster> {
        let last = self
            .received
            .iter()
            .rfind(|response| response.type_url == CLUSTER);
        let clusters = last.unwrap().resources.iter();
        clusters.map(|any| Cluster::decode(&any.value[..]).unwrap())
    }

    fn clusters(&self) -> Vec<String> {
        self.decoded().map(|cluster| cluster.name).collect()
    }

    fn kind_of(&self, name: &str) -> DiscoveryType {
        let found = self.decoded().find(|cluster| cluster.name == name);
        let kind = found.unwrap().cluster_discovery_type.unwrap();
        match kind {
            ClusterDiscoveryType::Type(kind) => DiscoveryType::try_from(kind).unwrap(),
            ClusterDiscoveryType::ClusterType(other) => panic!("{other:?}"),
        }
    }

    /// Requests and acknowledges everything, as an Envoy that starts.
    fn start(&mut self) {
        assert_eq!(self.send(CLUSTER, &[], None), [CLUSTER]);
        assert!(self.send(CLUSTER, &[], None).is_empty());
        assert_eq!(self.send(LISTENER, &[], None), [LISTENER]);
        assert!(self.send(LISTENER, &[], None).is_empty());
        assert_eq!(self.send(ROUTE, ROUTES, None), [ROUTE]);
        assert!(self.send(ROUTE, ROUTES, None).is_empty());
    }
}

const ROUTES: &[&str] = &["rds_egress_http_9080", "rds_ingress_http_9080"];

fn meshes(text: &str) -> Meshes {
    Meshes::parse([("djapp.yaml", text)], &Meshes::default()).0
}

/// Meshes in which jazz-v1 has endpoints instead of DNS.
fn located(mut meshes: Meshes, address: &str) -> Meshes {
    for mesh in meshes.iter_mut() {
        let endpoints = [(9080, vec![address.parse().unwrap()])].into();
        let key = crate::mesh::Key::new("prod", "jazz-v1");
        mesh.endpoints.insert(key, endpoints);
    }
    meshes
}

/// djapp without jazz's second version.
fn stable() -> String {
    let target =
        "            - virtualNodeRef:\n                name: jazz-v2\n              weight: 5\n";
    let stable = DJAPP.replace(target, "");
    assert_ne!(stable, DJAPP);
    stable
}

/// A route is sent once its new cluster is warm, and a cluster is removed once no route refers to
/// it.
#[test]
fn makes_before_it_breaks() {
    let (stable, canary) = (meshes(&stable()), meshes(DJAPP));
    let mut dj = Envoy::new(&stable);
    dj.start();
    assert!(!dj.clusters().contains(&TO_V2.to_owned()));

    dj.subscriber.update(&canary);
    assert_eq!(dj.receive(), [CLUSTER], "no route yet");
    assert!(dj.clusters().contains(&TO_V2.to_owned()));
    assert_eq!(dj.send(CLUSTER, &[], None), [ROUTE], "it is warm");
    assert!(dj.send(ROUTE, ROUTES, None).is_empty());

    dj.subscriber.update(&stable);
    assert_eq!(dj.receive(), [ROUTE], "the cluster stays");
    assert_eq!(dj.send(ROUTE, ROUTES, None), [CLUSTER]);
    assert!(!dj.clusters().contains(&TO_V2.to_owned()));
    assert!(dj.send(CLUSTER, &[], None).is_empty());
    assert!(dj.receive().is_empty());
}

/// After a NACK Envoy keeps its old routes, so their clusters stay.
#[test]
fn a_rejected_route_keeps_its_clusters() {
    let (stable, canary) = (meshes(&stable()), meshes(DJAPP));
    let mut dj = Envoy::new(&canary);
    dj.start();
    dj.subscriber.update(&stable);
    assert_eq!(dj.receive(), [ROUTE]);
    assert!(dj.send(ROUTE, ROUTES, Some("no")).is_empty());
    assert!(dj.receive().is_empty());
    // The mesh changes back.
    dj.subscriber.update(&canary);
    assert_eq!(dj.receive(), [ROUTE]);
    assert!(dj.send(ROUTE, ROUTES, None).is_empty());
    assert!(dj.clusters().contains(&TO_V2.to_owned()));
}

/// No changed routes are sent after a NACK of their clusters; but an Envoy that starts gets what it
/// requests.
#[test]
fn routes_wait_for_accepted_clusters() {
    let mut dj = Envoy::new(&meshes(&stable()));
    dj.start();
    dj.subscriber.update(&meshes(DJAPP));
    assert_eq!(dj.receive(), [CLUSTER]);
    assert!(dj.send(CLUSTER, &[], Some("no")).is_empty());
    let mut dj = Envoy::new(&meshes(DJAPP));
    assert_eq!(dj.send(CLUSTER, &[], None), [CLUSTER]);
    assert!(
        dj.send(LISTENER, &[], None).is_empty(),
        "the clusters first"
    );
    assert_eq!(dj.send(CLUSTER, &[], Some("no")), [LISTENER]);
}

/// Endpoints change without clusters and routes; after a changed cluster they are sent again.
#[test]
fn endpoints_are_sent_on_their_own() {
    let with = |address: &str, text: &str| located(meshes(text), address);
    let to = [TO_V1];
    let mut dj = Envoy::new(&with("10.0.0.1:80", DJAPP));
    assert_eq!(dj.send(CLUSTER, &[], None), [CLUSTER]);
    assert_eq!(dj.send(ENDPOINT, &to, None), [ENDPOINT]);
    assert!(dj.send(CLUSTER, &[], None).is_empty());
    assert!(dj.send(ENDPOINT, &to, None).is_empty());
    dj.subscriber.update(&with("10.0.0.2:80", DJAPP));
    assert_eq!(dj.receive(), [ENDPOINT]);
    assert!(dj.send(ENDPOINT, &to, None).is_empty());
    let slower = DJAPP.replace("intervalMillis: 5000", "intervalMillis: 6000");
    dj.subscriber.update(&with("10.0.0.2:80", &slower));
    assert_eq!(dj.receive(), [CLUSTER, ENDPOINT]);
    // Some sidecars subscribe to the cluster of their own zone, which does not exist.
    assert_eq!(dj.send(ENDPOINT, &["local_cluster"], None), [ENDPOINT]);
    assert!(dj.received.last().unwrap().resources.is_empty());
    // An unsubscribed type is not sent.
    assert!(dj.send(ENDPOINT, &[], None).is_empty());
}

/// An Envoy that starts waits for ever if a cluster's discovery type changes before it is warm: the
/// change is sent when Envoy requests listeners, which it does once its first clusters are warm.
#[test]
fn no_discovery_type_changes_while_envoy_starts() {
    type MeshesOf = fn(&str) -> Meshes;
    let with_eds: MeshesOf = |text| located(meshes(text), "10.0.0.1:80");
    let slower = DJAPP.replace("intervalMillis: 5000", "intervalMillis: 6000");
    for (before, after) in [(meshes as MeshesOf, with_eds), (with_eds, meshes)] {
        let mut dj = Envoy::new(&before(DJAPP));
        assert_eq!(dj.send(CLUSTER, &[], None), [CLUSTER]);
        let kind = dj.kind_of(TO_V1);
        dj.subscriber.update(&after(DJAPP));
        assert!(dj.receive().is_empty());
        dj.subscriber.update(&after(&slower));
        assert_eq!(dj.receive(), [CLUSTER], "of what else changed");
        assert_eq!(dj.kind_of(TO_V1), kind);
        assert!(dj.send(CLUSTER, &[], None).is_empty());

        assert_eq!(dj.send(LISTENER, &[], None), [CLUSTER], "it is ready");
        assert_ne!(dj.kind_of(TO_V1), kind);
        assert_eq!(dj.send(CLUSTER, &[], None), [LISTENER]);
        dj.subscriber.update(&before(&slower));
        assert_eq!(dj.receive(), [CLUSTER], "and from then on at once");
        assert_eq!(dj.kind_of(TO_V1), kind);
    }
}

#[test]
fn stale_acks_are_ignored() {
    let mut dj = Envoy::new(&meshes(&stable()));
    dj.start();
    let mut received = dj.received.iter();
    let old = received.find(|response| response.type_url == CLUSTER);
    let old = old.unwrap().nonce.clone();
    dj.subscriber.update(&meshes(DJAPP));
    assert_eq!(dj.receive(), [CLUSTER]);
    let request = DiscoveryRequest {
        type_url: CLUSTER.to_owned(),
        response_nonce: old,
        ..DiscoveryRequest::default()
    };
    assert_eq!(dj.subscriber.receive(request), Received::Ok);
    assert!(dj.receive().is_empty(), "the clusters are not accepted yet");
}
