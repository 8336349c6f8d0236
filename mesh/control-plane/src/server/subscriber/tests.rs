//! What is told, and when.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::google::rpc::Status;
use prost::Message as _;

use super::*;

const DJAPP: &str = include_str!("../../../../../tests/mesh/djapp.yaml");
const DJ: &str = "mesh/dj-app/virtualNode/dj_prod";
const TO_V1: &str = "cds_egress_dj-app_jazz-v1_prod_http_9080";
const TO_V2: &str = "cds_egress_dj-app_jazz-v2_prod_http_9080";

/// An Envoy: what it was told, and what it says to that.
struct Envoy {
    subscriber: Subscriber,
    told: Vec<DiscoveryResponse>,
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
            told: Vec::new(),
        }
    }

    /// Asks, or answers to what it was told of the type last; returns the types of what it is told
    /// then.
    fn says(&mut self, type_url: &str, names: &[&str], error: Option<&str>) -> Vec<String> {
        let last = self.told.iter().rfind(|told| told.type_url == type_url);
        let request = DiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: last.map(|told| told.nonce.clone()).unwrap_or_default(),
            error_detail: error.map(|message| Status {
                message: message.to_owned(),
                ..Status::default()
            }),
            ..DiscoveryRequest::default()
        };
        self.subscriber.hear(request);
        self.told()
    }

    fn told(&mut self) -> Vec<String> {
        let told = self.subscriber.next();
        let types = told.iter().map(|told| told.type_url.clone()).collect();
        self.told.extend(told);
        types
    }

    /// The clusters that it was told last.
    fn decoded(&self) -> impl Iterator<Item = Cluster> {
        let last = self.told.iter().rfind(|told| told.type_url == CLUSTER);
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

    /// Has everything, as an Envoy that began.
    fn begin(&mut self) {
        assert_eq!(self.says(CLUSTER, &[], None), [CLUSTER]);
        assert!(self.says(CLUSTER, &[], None).is_empty());
        assert_eq!(self.says(LISTENER, &[], None), [LISTENER]);
        assert!(self.says(LISTENER, &[], None).is_empty());
        assert_eq!(self.says(ROUTE, ROUTES, None), [ROUTE]);
        assert!(self.says(ROUTE, ROUTES, None).is_empty());
    }
}

const ROUTES: &[&str] = &["rds_egress_http_9080", "rds_ingress_http_9080"];

fn meshes(text: &str) -> Meshes {
    Meshes::parse([("djapp.yaml", text)], &Meshes::default()).0
}

/// Of these, jazz's first version has its address known, not looked up by name.
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

/// A route is told once the cluster that it leads to is warm, and the cluster is taken away once no
/// route leads there.
#[test]
fn makes_before_it_breaks() {
    let (stable, canary) = (meshes(&stable()), meshes(DJAPP));
    let mut dj = Envoy::new(&stable);
    dj.begin();
    assert!(!dj.clusters().contains(&TO_V2.to_owned()));

    dj.subscriber.update(&canary);
    assert_eq!(dj.told(), [CLUSTER], "no route yet");
    assert!(dj.clusters().contains(&TO_V2.to_owned()));
    assert_eq!(dj.says(CLUSTER, &[], None), [ROUTE], "it is warm");
    assert!(dj.says(ROUTE, ROUTES, None).is_empty());

    dj.subscriber.update(&stable);
    assert_eq!(dj.told(), [ROUTE], "the cluster stays");
    assert_eq!(dj.says(ROUTE, ROUTES, None), [CLUSTER]);
    assert!(!dj.clusters().contains(&TO_V2.to_owned()));
    assert!(dj.says(CLUSTER, &[], None).is_empty());
    assert!(dj.told().is_empty());
}

/// Routes that Envoy rejected still lead where they led.
#[test]
fn a_rejected_route_keeps_its_clusters() {
    let (stable, canary) = (meshes(&stable()), meshes(DJAPP));
    let mut dj = Envoy::new(&canary);
    dj.begin();
    dj.subscriber.update(&stable);
    assert_eq!(dj.told(), [ROUTE]);
    assert!(dj.says(ROUTE, ROUTES, Some("no")).is_empty());
    assert!(dj.told().is_empty());
    // And back: as if nothing had been.
    dj.subscriber.update(&canary);
    assert_eq!(dj.told(), [ROUTE]);
    assert!(dj.says(ROUTE, ROUTES, None).is_empty());
    assert!(dj.clusters().contains(&TO_V2.to_owned()));
}

/// Clusters that Envoy rejected are nowhere to lead to; but an Envoy that begins gets what it asks
/// for.
#[test]
fn routes_wait_for_clusters_that_are_taken() {
    let mut dj = Envoy::new(&meshes(&stable()));
    dj.begin();
    dj.subscriber.update(&meshes(DJAPP));
    assert_eq!(dj.told(), [CLUSTER]);
    assert!(dj.says(CLUSTER, &[], Some("no")).is_empty());
    let mut dj = Envoy::new(&meshes(DJAPP));
    assert_eq!(dj.says(CLUSTER, &[], None), [CLUSTER]);
    assert!(
        dj.says(LISTENER, &[], None).is_empty(),
        "the clusters first"
    );
    assert_eq!(dj.says(CLUSTER, &[], Some("no")), [LISTENER]);
}

/// Addresses change without clusters and routes; a cluster that changes hears its addresses again.
#[test]
fn endpoints_are_told_on_their_own() {
    let with = |address: &str, text: &str| located(meshes(text), address);
    let to = [TO_V1];
    let mut dj = Envoy::new(&with("10.0.0.1:80", DJAPP));
    assert_eq!(dj.says(CLUSTER, &[], None), [CLUSTER]);
    assert_eq!(dj.says(ENDPOINT, &to, None), [ENDPOINT]);
    assert!(dj.says(CLUSTER, &[], None).is_empty());
    assert!(dj.says(ENDPOINT, &to, None).is_empty());
    dj.subscriber.update(&with("10.0.0.2:80", DJAPP));
    assert_eq!(dj.told(), [ENDPOINT]);
    assert!(dj.says(ENDPOINT, &to, None).is_empty());
    let slower = DJAPP.replace("intervalMillis: 5000", "intervalMillis: 6000");
    dj.subscriber.update(&with("10.0.0.2:80", &slower));
    assert_eq!(dj.told(), [CLUSTER, ENDPOINT]);
    // The cluster of Envoy's own zone, which some sidecars ask for, is nobody's.
    assert_eq!(dj.says(ENDPOINT, &["local_cluster"], None), [ENDPOINT]);
    assert!(dj.told.last().unwrap().resources.is_empty());
    // Who wants none any more is not told.
    assert!(dj.says(ENDPOINT, &[], None).is_empty());
}

/// An Envoy that begins waits for ever for a cluster that becomes another kind before it is ready:
/// it is told of that when it asks for listeners, which it does when its first clusters are.
#[test]
fn no_cluster_becomes_another_kind_while_envoy_begins() {
    type MeshesOf = fn(&str) -> Meshes;
    let known: MeshesOf = |text| located(meshes(text), "10.0.0.1:80");
    let slower = DJAPP.replace("intervalMillis: 5000", "intervalMillis: 6000");
    for (before, after) in [(meshes as MeshesOf, known), (known, meshes)] {
        let mut dj = Envoy::new(&before(DJAPP));
        assert_eq!(dj.says(CLUSTER, &[], None), [CLUSTER]);
        let kind = dj.kind_of(TO_V1);
        dj.subscriber.update(&after(DJAPP));
        assert!(dj.told().is_empty());
        dj.subscriber.update(&after(&slower));
        assert_eq!(dj.told(), [CLUSTER], "of what else changed");
        assert_eq!(dj.kind_of(TO_V1), kind);
        assert!(dj.says(CLUSTER, &[], None).is_empty());

        assert_eq!(dj.says(LISTENER, &[], None), [CLUSTER], "it is ready");
        assert_ne!(dj.kind_of(TO_V1), kind);
        assert_eq!(dj.says(CLUSTER, &[], None), [LISTENER]);
        dj.subscriber.update(&before(&slower));
        assert_eq!(dj.told(), [CLUSTER], "and from then on at once");
        assert_eq!(dj.kind_of(TO_V1), kind);
    }
}

/// An answer to what is outdated is none.
#[test]
fn an_old_answer_is_none() {
    let mut dj = Envoy::new(&meshes(&stable()));
    dj.begin();
    let before = dj.told.iter().position(|told| told.type_url == CLUSTER);
    let old = dj.told[before.unwrap()].nonce.clone();
    dj.subscriber.update(&meshes(DJAPP));
    assert_eq!(dj.told(), [CLUSTER]);
    let request = DiscoveryRequest {
        type_url: CLUSTER.to_owned(),
        response_nonce: old,
        ..DiscoveryRequest::default()
    };
    assert_eq!(dj.subscriber.hear(request), Heard::Fine);
    assert!(dj.told().is_empty(), "the clusters are not taken yet");
}
