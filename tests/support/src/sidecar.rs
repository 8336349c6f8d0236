//! The Envoy of one pod, shaped and named as App Mesh shapes and names it: an inbound listener to
//! the pod's application, an outbound one to its backends, and our plugins in both.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::bootstrap::{
    Bootstrap, Cluster, Direction, Listener, Secure, route, route_with_retries, virtual_host,
};
use crate::plugin::{AGGREGATOR_CLUSTER, Plugin, Role};

/// Name of the listener towards the application.
pub const INBOUND_LISTENER: &str = "lds_ingress_0.0.0.0_15000";
/// Name of the listener of the application's own requests.
pub const OUTBOUND_LISTENER: &str = "lds_egress_0.0.0.0_15001";
/// Stat prefix of the inbound connection manager.
pub const INBOUND_STAT_PREFIX: &str = "ingress";
/// Stat prefix of the outbound connection manager.
pub const OUTBOUND_STAT_PREFIX: &str = "egress";

const MESH: &str = "dj-app";
/// The port in the names of clusters and services; real ports are the kernel's choice.
const SERVICE_PORT: u16 = 9080;

/// Parameters of the bootstrap of one pod's Envoy.
#[derive(Clone, Debug)]
pub struct Sidecar {
    /// Name of the pod and of its virtual node.
    pub pod: String,
    pub namespace: String,
    pub labels: Vec<(String, String)>,
    /// The pod's own address, where its listeners are.
    pub ip: IpAddr,
    /// Addresses of the pod's application, with weights.
    pub application: Vec<(SocketAddr, u32)>,
    /// Retries of the inbound route; 0 for none.
    pub retries: u32,
    pub backends: Vec<Backend>,
    /// Address of the aggregator's ingest; `None` leaves our plugins out.
    pub aggregator: Option<SocketAddr>,
    /// TLS to the aggregator; `None` for plain text.
    pub secure: Option<Secure>,
    /// The pod's uid; empty: one that is made of its name.
    pub uid: String,
}

/// A service behind the outbound listener.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Virtual service, such as `jazz`: the host name the application asks for.
    pub service: String,
    /// Virtual node behind it, such as `jazz-v1`.
    pub node: String,
    /// Where the inbound listener of that node's pod is.
    pub address: SocketAddr,
}

// === impl Sidecar ===

impl Sidecar {
    /// A pod on 127.0.0.1 whose application is at `application`: no labels, retries or backends, no
    /// plugins.
    pub fn new(namespace: &str, pod: &str, application: SocketAddr) -> Self {
        Self {
            pod: pod.to_owned(),
            namespace: namespace.to_owned(),
            labels: Vec::new(),
            ip: Ipv4Addr::LOCALHOST.into(),
            application: vec![(application, 1)],
            retries: 0,
            backends: Vec::new(),
            aggregator: None,
            secure: None,
            uid: String::new(),
        }
    }

    /// The bootstrap: role `filter` in both listeners and `upstream_log` in both routers if there
    /// is an aggregator.
    pub fn bootstrap(&self) -> Result<Bootstrap> {
        let mut bootstrap = Bootstrap::new(&format!(
            "mesh/{MESH}/virtualNode/{}_{}",
            self.pod, self.namespace
        ));
        bootstrap.listeners = vec![self.inbound()?, self.outbound()?];
        bootstrap.clusters = self.clusters();
        Ok(bootstrap)
    }

    /// The identity of this pod, as the plugin configuration wants it.
    pub fn identity(&self) -> Value {
        let labels: Map<String, Value> = self
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().into()))
            .collect();
        let uid = match self.uid.as_str() {
            "" => format!("{}-{}-uid", self.namespace, self.pod),
            uid => uid.to_owned(),
        };
        json!({
            "namespace": self.namespace,
            "pod": self.pod,
            "uid": uid,
            "node": "loopback",
            "labels": labels,
        })
    }

    /// Name of the cluster that leads to the pod's own application.
    pub fn inbound_cluster(&self) -> String {
        cluster_name("ingress", &self.pod, &self.namespace)
    }

    fn inbound(&self) -> Result<Listener> {
        let cluster = self.inbound_cluster();
        let mut listener = Listener::new(INBOUND_LISTENER, Direction::Inbound);
        INBOUND_STAT_PREFIX.clone_into(&mut listener.stat_prefix);
        let route = match self.retries {
            0 => route("/", &cluster),
            retries => route_with_retries("/", &cluster, retries),
        };
        listener.virtual_hosts = vec![virtual_host("ingress", &["*"], &[route])];
        self.finish(listener)
    }

    fn outbound(&self) -> Result<Listener> {
        let mut listener = Listener::new(OUTBOUND_LISTENER, Direction::Outbound);
        OUTBOUND_STAT_PREFIX.clone_into(&mut listener.stat_prefix);
        listener.virtual_hosts = self
            .backends
            .iter()
            .map(|backend| {
                let host = backend.host(&self.namespace);
                let domains = [host.as_str(), &format!("{host}:{SERVICE_PORT}")];
                let cluster = cluster_name("egress", &backend.node, &self.namespace);
                virtual_host(&backend.service, &domains, &[route("/", &cluster)])
            })
            .collect();
        self.finish(listener)
    }

    fn finish(&self, mut listener: Listener) -> Result<Listener> {
        listener.ip = self.ip;
        if self.aggregator.is_some() {
            // Who knows the side says it: then even an idle sidecar can tell what it counts.
            // (Before 1.39 Envoy does not tell it to access loggers at all.)
            let side = listener.direction.as_str();
            let plugin = |role| -> Result<Plugin> {
                let plugin = Plugin::new(role)?.with_aggregator();
                let plugin = plugin.with("direction", side.into());
                Ok(plugin.with("identity", self.identity()))
            };
            listener.http_filters = vec![plugin(Role::Filter)?.http_filter()];
            listener.upstream_log = vec![plugin(Role::UpstreamLog)?.access_logger()];
        }
        Ok(listener)
    }

    fn clusters(&self) -> Vec<Cluster> {
        let own = Cluster {
            name: self.inbound_cluster(),
            endpoints: self.application.clone(),
            http2: false,
            secure: None,
        };
        let backends = self.backends.iter().map(|backend| {
            let name = cluster_name("egress", &backend.node, &self.namespace);
            Cluster::new(&name, backend.address)
        });
        let aggregator = self.aggregator.map(|address| {
            let cluster = Cluster::new(AGGREGATOR_CLUSTER, address).with_http2();
            match &self.secure {
                Some(secure) => cluster.with_secure(secure.clone()),
                None => cluster,
            }
        });
        std::iter::once(own)
            .chain(backends)
            .chain(aggregator)
            .collect()
    }
}

// === impl Backend ===

impl Backend {
    /// The host name under which an application in `namespace` calls it.
    pub fn host(&self, namespace: &str) -> String {
        service_host(&self.service, namespace)
    }
}

/// The DNS name of a service.
pub fn service_host(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc.cluster.local")
}

fn cluster_name(side: &str, node: &str, namespace: &str) -> String {
    format!("cds_{side}_{MESH}_{node}_{namespace}_http_{SERVICE_PORT}")
}
