//! Settings of injection, the same for all pods.
//!
//! Immutable: the server reads flags and files again when they change, and uses the new value from
//! the next pod on.

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// Image with `meshmeter-mesh` and, in `/opt/meshmeter`, the modules.
    pub image: String,
    /// The xDS proxies' `--upstream`.
    pub upstream: String,
    /// HOST:PORT of each.
    pub aggregators: Vec<String>,
    /// TLS towards the aggregators.
    pub secure: Option<Secure>,
    pub modules: Modules,
    /// The sidecar to add; `None` if App Mesh's controller adds it.
    pub stock: Option<Stock>,
    /// Whether the xDS proxy raises Events about its pod.
    pub events: bool,
    /// Further arguments of the xDS proxy.
    pub xds_proxy_args: Vec<String>,
    pub version: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Secure {
    /// PEM.
    pub ca: String,
    /// `ConfigMap` in the pod's namespace with the current CA certificates. Sidecars watch it,
    /// instead of keeping the certificates from their injection.
    pub config_map: Option<String>,
    /// Name in the aggregators' certificates; `None` for each aggregator's host.
    pub server_name: Option<String>,
    /// Audience of the service account token that the sidecar sends; `None` for no token.
    pub audience: Option<String>,
}

/// How the modules come into the pod.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Modules {
    /// An init container copies them from its image.
    #[default]
    Copied,
    /// The image is a volume: Kubernetes 1.35, or 1.31 with the gate `ImageVolume`.
    ImageVolume,
}

/// A stock Envoy and the redirection of the pod's traffic into it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stock {
    pub image: String,
    /// App Mesh's proxy route manager, or a compatible image.
    pub redirect_image: String,
    /// Mesh of pods that name a virtual node but no mesh.
    pub mesh: Option<String>,
    /// Socket of an SDS server on each host; mounted into the sidecars.
    pub sds_socket: Option<String>,
}
