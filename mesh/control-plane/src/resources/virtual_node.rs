//! A virtual node: the pods of a workload, how they are reached, and what they call.

use serde::Deserialize;

use crate::resources::{
    Arn, BackendDefaults, ClientPolicy, ClientTls, HttpTimeout, IpPreference, ListenerTls, Logging,
    MeshReference, Pointer, PortMapping, Protocol, Reference, Span, TcpTimeout,
};
use crate::selector::Selector;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VirtualNodeSpec {
    /// Name in node IDs; default `NAME_NAMESPACE`.
    pub aws_name: Option<String>,
    /// Needed if no mesh selects the namespace.
    pub mesh_ref: Option<MeshReference>,
    /// `None` selects no pods.
    pub pod_selector: Option<Selector>,
    pub listeners: Vec<Listener>,
    pub service_discovery: Option<ServiceDiscovery>,
    pub backends: Vec<Backend>,
    pub backend_defaults: Option<BackendDefaults>,
    /// Further backends. The name `*` stands for all virtual services of the namespace.
    pub backend_groups: Vec<Reference>,
    pub logging: Option<Logging>,
    #[serde(skip)]
    pub created: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    pub port_mapping: PortMapping,
    /// Used by the Envoys of callers.
    pub health_check: Option<HealthCheck>,
    /// Used by the Envoys of callers.
    pub outlier_detection: Option<OutlierDetection>,
    /// Of the node's own Envoy to its application.
    pub connection_pool: Option<ConnectionPool>,
    /// Of the node's own Envoy.
    pub timeout: Option<ListenerTimeout>,
    /// Of the node's own Envoy.
    pub tls: Option<ListenerTls>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    pub protocol: Protocol,
    /// Of HTTP.
    #[serde(default = "root")]
    pub path: String,
    /// `None` for the listener's port.
    pub port: Option<u16>,
    pub healthy_threshold: u32,
    pub unhealthy_threshold: u32,
    pub timeout_millis: u64,
    pub interval_millis: u64,
}

fn root() -> String {
    "/".to_owned()
}

/// Takes pods out for a while that answer with errors.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutlierDetection {
    /// Answers with status 5xx in a row.
    pub max_server_errors: u32,
    /// Pods are looked at each time it passes.
    pub interval: Span,
    /// Time out of service, times the number of ejections so far.
    pub base_ejection_duration: Span,
    /// Of all pods that may be out of service at once.
    pub max_ejection_percent: u32,
}

/// That of the listener's protocol.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConnectionPool {
    Http(HttpPool),
    Http2(RequestPool),
    Grpc(RequestPool),
    Tcp(TcpPool),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpPool {
    pub max_connections: u32,
    /// Requests that wait for a connection; `None` for any number.
    pub max_pending_requests: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestPool {
    /// Requests at once.
    pub max_requests: u32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpPool {
    pub max_connections: u32,
}

/// That of the listener's protocol.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerTimeout {
    pub http: Option<HttpTimeout>,
    pub http2: Option<HttpTimeout>,
    pub grpc: Option<HttpTimeout>,
    pub tcp: Option<TcpTimeout>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServiceDiscovery {
    Dns(Dns),
    AwsCloudMap(CloudMap),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dns {
    pub hostname: String,
    #[serde(default)]
    pub response_type: ResponseType,
    /// `None` for that of the mesh.
    pub ip_preference: Option<IpPreference>,
}

/// What the addresses are that DNS answers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
pub enum ResponseType {
    /// Of one load balancer: each connection takes the first of the newest answer.
    #[default]
    LoadBalancer,
    /// Of the pods, between which Envoy balances.
    Endpoints,
}

/// The pods that App Mesh's controller registered in AWS Cloud Map, without AWS: those of the
/// virtual nodes with the same namespace and service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloudMap {
    pub namespace_name: String,
    pub service_name: String,
    /// Attributes that a pod needs: labels, or attributes of the virtual node that selects it.
    #[serde(default)]
    pub attributes: Vec<CloudMapAttribute>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CloudMapAttribute {
    pub key: String,
    pub value: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    pub virtual_service: BackendService,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "BackendFields")]
pub struct BackendService {
    pub service: Pointer,
    /// In place of that of the [`BackendDefaults`].
    pub client_policy: Option<ClientPolicy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BackendFields {
    virtual_service_ref: Option<Reference>,
    #[serde(rename = "virtualServiceARN")]
    virtual_service_arn: Option<Arn>,
    client_policy: Option<ClientPolicy>,
}

// === impl VirtualNodeSpec ===

impl VirtualNodeSpec {
    /// TLS of calls to backends without a policy of their own.
    pub fn default_tls(&self) -> Option<&ClientTls> {
        self.backend_defaults.as_ref()?.tls()
    }

    /// Of the listener on `port`.
    pub fn listener(&self, port: u16) -> Option<&Listener> {
        let mut listeners = self.listeners.iter();
        listeners.find(|listener| listener.port_mapping.port == port)
    }
}

// === impl BackendService ===

impl BackendService {
    /// TLS of calls to it, if it has a policy of its own.
    pub fn own_tls(&self) -> Option<&ClientTls> {
        self.client_policy.as_ref()?.tls.as_ref()
    }
}

impl TryFrom<BackendFields> for BackendService {
    type Error = String;

    fn try_from(fields: BackendFields) -> Result<Self, String> {
        let (reference, arn) = (fields.virtual_service_ref, fields.virtual_service_arn);
        let service = Pointer::of("virtualService", reference, arn)?;
        let client_policy = fields.client_policy;
        Ok(Self {
            service,
            client_policy,
        })
    }
}

// === impl ConnectionPool ===

impl ConnectionPool {
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Http(_) => Protocol::Http,
            Self::Http2(_) => Protocol::Http2,
            Self::Grpc(_) => Protocol::Grpc,
            Self::Tcp(_) => Protocol::Tcp,
        }
    }
}

// === impl ListenerTimeout ===

impl ListenerTimeout {
    /// Of requests by this protocol.
    pub fn of(self, protocol: Protocol) -> Option<HttpTimeout> {
        match protocol {
            Protocol::Http => self.http,
            Protocol::Http2 => self.http2,
            Protocol::Grpc => self.grpc,
            Protocol::Tcp => None,
        }
    }

    pub fn protocols(self) -> impl Iterator<Item = Protocol> {
        let set = [
            (Protocol::Http, self.http.is_some()),
            (Protocol::Http2, self.http2.is_some()),
            (Protocol::Grpc, self.grpc.is_some()),
            (Protocol::Tcp, self.tcp.is_some()),
        ];
        set.into_iter()
            .filter_map(|(protocol, is_set)| is_set.then_some(protocol))
    }
}

// === impl ServiceDiscovery ===

impl ServiceDiscovery {
    pub fn dns(&self) -> Option<&Dns> {
        match self {
            Self::Dns(dns) => Some(dns),
            Self::AwsCloudMap(_) => None,
        }
    }

    pub fn cloud_map(&self) -> Option<&CloudMap> {
        match self {
            Self::Dns(_) => None,
            Self::AwsCloudMap(cloud_map) => Some(cloud_map),
        }
    }

    /// The name that a server's certificate has to have unless the policy of the caller has
    /// others, as App Mesh's documentation says.
    pub fn name(&self) -> String {
        match self {
            Self::Dns(dns) => dns.hostname.trim_end_matches('.').to_owned(),
            Self::AwsCloudMap(map) => format!("{}.{}", map.service_name, map.namespace_name),
        }
    }
}
