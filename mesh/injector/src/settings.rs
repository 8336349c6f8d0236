//! What every pod gets.
//!
//! A value that is replaced as a whole: whoever serves reads its flags and files again as they
//! change, and hands the new one to the next pod.

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// Image with `meshmeter-mesh` and, in `/opt/meshmeter`, the modules.
    pub image: String,
    /// Where the xDS proxies get the configuration from, as `--upstream` has it.
    pub upstream: String,
    /// Where the sidecars stream to, as HOST:PORT.
    pub aggregators: Vec<String>,
    /// TLS on the way there; `None` for none.
    pub secure: Option<Secure>,
    /// How the modules come into the pod.
    pub modules: Modules,
    /// A sidecar of ours where there is none; `None` where App Mesh's controller adds it.
    pub stock: Option<Stock>,
    /// Whether the xDS proxy raises events about its pod.
    pub events: bool,
    /// Further arguments of the xDS proxy.
    pub xds_proxy_args: Vec<String>,
    pub version: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Secure {
    /// Certificates of the CA, as PEM.
    pub ca: String,
    /// `ConfigMap` of the pod's namespace that has the same, and whatever replaces it: sidecars
    /// follow it, instead of being given the certificates of when they were injected.
    pub config_map: Option<String>,
    /// Name that their certificates are for; `None` for the host of each.
    pub server_name: Option<String>,
    /// Audience of the service account token that the sidecar shows; `None` for no token.
    pub audience: Option<String>,
}

/// How the modules come into the pod.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Modules {
    /// An init container copies them out of its image.
    #[default]
    Copied,
    /// The image is a volume: Kubernetes 1.35, or 1.31 with the gate `ImageVolume`.
    ImageVolume,
}

/// A stock Envoy and the redirection of the pod's traffic into it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stock {
    pub image: String,
    /// Image that redirects, as App Mesh's proxy route manager does.
    pub redirect_image: String,
    /// Mesh of nodes that a pod names without one.
    pub mesh: Option<String>,
}
