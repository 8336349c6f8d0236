//! The options that each target supports and requires.

use common_names::Role;
use mesh_core::injection::{Carrier, Directions};

use crate::checks::syntax::is_ip;
use crate::options::Options;
use crate::options::Target::{
    self, AppMesh, Consul, EnvoyGateway, Istio, IstioEnvoyFilter, IstioWasmPlugin, Kuma, Static,
};

/// An option that only some targets support.
pub(crate) struct Supported {
    pub(crate) option: &'static str,
    pub(crate) given: fn(&Options) -> bool,
    pub(crate) by: &'static [Target],
    /// Why other targets do not, or an alternative.
    pub(crate) else_why: &'static str,
}

/// An option that some targets require.
pub(crate) struct Required {
    pub(crate) option: &'static str,
    /// Also true if an alternative is given, or the other options make it needless.
    pub(crate) given: fn(&Options) -> bool,
    pub(crate) by: &'static [Target],
    pub(crate) what: &'static str,
}

const NO_EFFECT: &str = "it has no effect there";
const IN_KUBERNETES: &[Target] = &[
    Istio,
    IstioWasmPlugin,
    IstioEnvoyFilter,
    EnvoyGateway,
    Consul,
    Kuma,
    AppMesh,
];
/// Targets whose Envoy reads modules from files that the init container copies.
const FROM_FILES: &[Target] = &[IstioEnvoyFilter, Consul, Kuma];
/// Targets whose control plane or sidecar downloads the module.
const FETCHING: &[Target] = &[Istio, IstioWasmPlugin, EnvoyGateway];

pub(crate) const SUPPORTED: &[Supported] = &[
    Supported {
        option: "aggregator",
        given: |options| options.aggregators.iter().any(is_ip),
        by: &[
            IstioEnvoyFilter,
            EnvoyGateway,
            Consul,
            Kuma,
            AppMesh,
            Static,
        ],
        else_why: "a ServiceEntry needs a DNS name",
    },
    Supported {
        option: "namespace",
        given: |options| options.namespace.is_some(),
        by: IN_KUBERNETES,
        else_why: NO_EFFECT,
    },
    Supported {
        option: "workload",
        given: |options| options.workload.is_some(),
        by: IN_KUBERNETES,
        else_why: NO_EFFECT,
    },
    Supported {
        option: "selector",
        given: |options| !options.selector.is_empty(),
        by: &[Istio, IstioWasmPlugin, IstioEnvoyFilter, Kuma],
        else_why: "use --workload",
    },
    Supported {
        option: "carrier",
        given: |options| options.carrier == Carrier::Module,
        by: &[IstioEnvoyFilter, Kuma, Static],
        else_why: "it has no setting for a dynamic module",
    },
    Supported {
        option: "role",
        given: |options| options.role == Role::AccessLog,
        by: &[IstioEnvoyFilter, Kuma, AppMesh, Static],
        else_why: "it takes HTTP filters only; use --role filter",
    },
    Supported {
        option: "upstream-log",
        given: |options| options.upstream_log,
        by: &[IstioEnvoyFilter, Kuma, AppMesh, Static],
        else_why: "it takes HTTP filters only, and cannot change the router",
    },
    Supported {
        option: "direction",
        given: |options| options.direction == Directions::Outbound,
        by: &[
            Istio,
            IstioWasmPlugin,
            IstioEnvoyFilter,
            Kuma,
            AppMesh,
            Static,
        ],
        else_why: "it takes the filter for inbound requests only",
    },
    Supported {
        option: "direction",
        given: |options| options.direction == Directions::Both,
        by: &[Istio, IstioWasmPlugin, IstioEnvoyFilter, Kuma, AppMesh],
        else_why: "it has one kind of listener",
    },
    Supported {
        option: "aggregator-token",
        given: |options| options.aggregator_token,
        by: &[
            IstioEnvoyFilter,
            EnvoyGateway,
            Consul,
            Kuma,
            AppMesh,
            Static,
        ],
        else_why: "Istio makes the cluster, without a credential injector; use istio-envoyfilter, or --ingest-identity pod-ip at the aggregator",
    },
    Supported {
        option: "aggregator-token-file",
        given: |options| options.aggregator_token_file.is_some(),
        by: &[Static],
        else_why: "it is mounted with the pod's own token",
    },
    Supported {
        option: "image",
        given: |options| options.image.is_some(),
        by: &[IstioEnvoyFilter, Consul, Kuma, AppMesh],
        else_why: "no init container runs there; use --module-image, --module-url or --module-file",
    },
    Supported {
        option: "module-image",
        given: |options| options.module_image.is_some(),
        by: FETCHING,
        else_why: "it reads files; use --image or --module-file",
    },
    Supported {
        option: "module-url",
        given: |options| options.module_url.is_some(),
        by: FETCHING,
        else_why: "it reads files; use --image or --module-file",
    },
    Supported {
        option: "module-sha256",
        given: |options| options.module_sha256.is_some(),
        by: FETCHING,
        else_why: "it does not verify digests",
    },
    Supported {
        option: "module-file",
        given: |options| options.module_file.is_some(),
        by: &[
            Istio,
            IstioWasmPlugin,
            IstioEnvoyFilter,
            Consul,
            Kuma,
            Static,
        ],
        else_why: "it reads no local file; use --module-image or --module-url, for appmesh --image",
    },
    Supported {
        option: "log-module-file",
        given: |options| options.log_module_file.is_some(),
        by: &[IstioEnvoyFilter, Kuma, Static],
        else_why: "it takes no access logger from a local file",
    },
    Supported {
        option: "upstream",
        given: |options| options.upstream.is_some(),
        by: &[AppMesh],
        else_why: NO_EFFECT,
    },
    Supported {
        option: "listen",
        given: |options| options.listen.is_some(),
        by: &[Static],
        else_why: NO_EFFECT,
    },
    Supported {
        option: "application",
        given: |options| options.application.is_some(),
        by: &[Static],
        else_why: NO_EFFECT,
    },
    Supported {
        option: "admin-listen",
        given: |options| options.admin_listen.is_some(),
        by: &[Static],
        else_why: NO_EFFECT,
    },
];

pub(crate) const REQUIRED: &[Required] = &[
    Required {
        option: "namespace",
        given: |options| options.namespace.is_some(),
        by: IN_KUBERNETES,
        what: "the namespace of the pods",
    },
    Required {
        option: "module-image",
        given: |options| options.module_file.is_some() || fetches(options),
        by: &[Istio, IstioWasmPlugin],
        what: "or --module-url, or --module-file",
    },
    Required {
        option: "module-image",
        given: fetches,
        by: &[EnvoyGateway],
        what: "or --module-url",
    },
    Required {
        option: "image",
        given: |options| options.image.is_some(),
        by: &[AppMesh],
        what: "the image with meshmeter-mesh and the modules",
    },
    Required {
        option: "image",
        given: |options| options.image.is_some() || has_filter(options),
        by: FROM_FILES,
        what: "or --module-file, if the sidecar has the module already",
    },
    Required {
        option: "module-file",
        given: has_filter,
        by: &[Static],
        what: "the module's path in Envoy's file system",
    },
    Required {
        option: "log-module-file",
        given: |options| options.image.is_some() || has_logger(options),
        by: &[IstioEnvoyFilter, Kuma, Static],
        what: "the module of access loggers",
    },
    Required {
        option: "workload",
        given: |options| options.workload.is_some(),
        by: &[Consul, EnvoyGateway, AppMesh],
        what: "the service, the Gateway, or the Deployment",
    },
    Required {
        option: "workload",
        given: |options| options.aggregator_ca.is_none() || options.workload.is_some(),
        by: &[Istio, IstioWasmPlugin],
        what: "its pods get the CA's certificate",
    },
    Required {
        option: "workload",
        given: |options| {
            let mounts = options.image.is_some() || options.aggregator_token;
            !mounts || options.workload.is_some()
        },
        by: &[IstioEnvoyFilter, Kuma],
        what: "its pods get the modules and the token",
    },
    Required {
        option: "selector",
        given: |options| options.aggregator_ca.is_none() || !options.selector.is_empty(),
        by: &[Istio, IstioWasmPlugin],
        what: "the pods of --workload, which have the CA's certificate",
    },
    Required {
        option: "selector",
        given: |options| {
            let mounts = options.image.is_some() || options.aggregator_token;
            !mounts || !options.selector.is_empty()
        },
        by: &[IstioEnvoyFilter, Kuma],
        what: "the pods of --workload: without the module an Envoy refuses its listeners",
    },
    Required {
        option: "upstream",
        given: |options| options.upstream.is_some(),
        by: &[AppMesh],
        what: "the control plane of the xDS proxies' configuration",
    },
    Required {
        option: "listen",
        given: |options| options.listen.is_some(),
        by: &[Static],
        what: "where Envoy listens",
    },
    Required {
        option: "application",
        given: |options| options.application.is_some(),
        by: &[Static],
        what: "where requests go",
    },
];

fn fetches(options: &Options) -> bool {
    options.module_image.is_some() || options.module_url.is_some()
}

/// The filter's file is given, or the access logger counts instead.
fn has_filter(options: &Options) -> bool {
    options.module_file.is_some() || options.role == Role::AccessLog
}

/// The logger's file is given, or no logger is used.
fn has_logger(options: &Options) -> bool {
    let wanted = options.role == Role::AccessLog || options.upstream_log;
    !wanted || options.log_module_file.is_some()
}
