//! A virtual gateway: Envoys by themselves, through which requests come into the mesh.

use serde::Deserialize;

use crate::resources::{
    BackendDefaults, ClientTls, ConnectionPool, HealthCheck, ListenerTls, Logging, MeshReference,
    PortMapping,
};
use crate::selector::Selector;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VirtualGatewaySpec {
    /// Name in node IDs; default `NAME_NAMESPACE`.
    pub aws_name: Option<String>,
    /// Needed if no mesh selects the namespace.
    pub mesh_ref: Option<MeshReference>,
    /// Namespaces of its routes. `None` selects none.
    pub namespace_selector: Option<Selector>,
    /// `None` selects no pods.
    pub pod_selector: Option<Selector>,
    /// Its routes in those namespaces. `None` selects all.
    pub gateway_route_selector: Option<Selector>,
    pub listeners: Vec<GatewayListener>,
    pub backend_defaults: Option<BackendDefaults>,
    pub logging: Option<Logging>,
    #[serde(skip)]
    pub created: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayListener {
    pub port_mapping: PortMapping,
    /// Checked, and not used: no Envoy of the mesh calls a gateway.
    pub health_check: Option<HealthCheck>,
    /// Of all requests of the listener into the mesh.
    pub connection_pool: Option<ConnectionPool>,
    pub tls: Option<ListenerTls>,
}

// === impl VirtualGatewaySpec ===

impl VirtualGatewaySpec {
    /// TLS of calls to virtual services.
    pub fn default_tls(&self) -> Option<&ClientTls> {
        self.backend_defaults.as_ref()?.tls()
    }
}
