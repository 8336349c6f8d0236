//! What a target has no words for, and what it cannot do without.

use crate::checks::syntax::is_ip;
use crate::options::Target::{
    self, AppMesh, Consul, EnvoyGateway, Istio, IstioEnvoyFilter, Kuma, Static,
};
use crate::options::{Direction, Options, Role};

/// An option, and the targets that take it.
pub(crate) struct Taken {
    pub(crate) option: &'static str,
    pub(crate) given: fn(&Options) -> bool,
    pub(crate) by: &'static [Target],
    /// Why others do not, or what to do instead.
    pub(crate) else_why: &'static str,
}

/// An option, and the targets that need it.
pub(crate) struct Needed {
    pub(crate) option: &'static str,
    /// Whether it, or what does instead, is given, or not needed with these options.
    pub(crate) given: fn(&Options) -> bool,
    pub(crate) by: &'static [Target],
    pub(crate) what: &'static str,
}

const ONLY: &str = "it says nothing there";
const IN_KUBERNETES: &[Target] = &[Istio, IstioEnvoyFilter, EnvoyGateway, Consul, Kuma, AppMesh];
/// Those whose Envoy reads modules from files that we bring.
const FROM_FILES: &[Target] = &[IstioEnvoyFilter, Consul, Kuma];
/// Those that fetch the module.
const FETCHING: &[Target] = &[Istio, EnvoyGateway];

/// What only some take.
pub(crate) const TAKEN: &[Taken] = &[
    Taken {
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
    Taken {
        option: "namespace",
        given: |options| options.namespace.is_some(),
        by: IN_KUBERNETES,
        else_why: ONLY,
    },
    Taken {
        option: "workload",
        given: |options| options.workload.is_some(),
        by: IN_KUBERNETES,
        else_why: ONLY,
    },
    Taken {
        option: "selector",
        given: |options| !options.selector.is_empty(),
        by: &[Istio, IstioEnvoyFilter, Kuma],
        else_why: "it is told by --workload, if at all",
    },
    Taken {
        option: "role",
        given: |options| options.role == Role::AccessLog,
        by: &[IstioEnvoyFilter, Kuma, AppMesh, Static],
        else_why: "it takes HTTP filters only; use --role filter",
    },
    Taken {
        option: "upstream-log",
        given: |options| options.upstream_log,
        by: &[IstioEnvoyFilter, Kuma, AppMesh, Static],
        else_why: "it takes HTTP filters only, the router is out of reach",
    },
    Taken {
        option: "direction",
        given: |options| options.direction == Direction::Outbound,
        by: &[Istio, IstioEnvoyFilter, Kuma, AppMesh, Static],
        else_why: "it takes the filter for inbound requests only",
    },
    Taken {
        option: "direction",
        given: |options| options.direction == Direction::Both,
        by: &[Istio, IstioEnvoyFilter, Kuma, AppMesh],
        else_why: "it has one kind of listener",
    },
    Taken {
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
    Taken {
        option: "aggregator-token-file",
        given: |options| options.aggregator_token_file.is_some(),
        by: &[Static],
        else_why: "it is mounted with the pod's own token",
    },
    Taken {
        option: "image",
        given: |options| options.image.is_some(),
        by: &[IstioEnvoyFilter, Consul, Kuma, AppMesh],
        else_why: "no init container runs there; use --module-image, --module-url or --module-file",
    },
    Taken {
        option: "module-image",
        given: |options| options.module_image.is_some(),
        by: FETCHING,
        else_why: "it reads files; use --image or --module-file",
    },
    Taken {
        option: "module-url",
        given: |options| options.module_url.is_some(),
        by: FETCHING,
        else_why: "it reads files; use --image or --module-file",
    },
    Taken {
        option: "module-sha256",
        given: |options| options.module_sha256.is_some(),
        by: FETCHING,
        else_why: "nothing there would check it",
    },
    Taken {
        option: "module-file",
        given: |options| options.module_file.is_some(),
        by: &[Istio, IstioEnvoyFilter, Consul, Kuma, Static],
        else_why: "it reads no file of ours; use --module-image or --module-url, for appmesh --image",
    },
    Taken {
        option: "log-module-file",
        given: |options| options.log_module_file.is_some(),
        by: &[IstioEnvoyFilter, Kuma, Static],
        else_why: "it takes no access logger from a file of ours",
    },
    Taken {
        option: "upstream",
        given: |options| options.upstream.is_some(),
        by: &[AppMesh],
        else_why: ONLY,
    },
    Taken {
        option: "listen",
        given: |options| options.listen.is_some(),
        by: &[Static],
        else_why: ONLY,
    },
    Taken {
        option: "application",
        given: |options| options.application.is_some(),
        by: &[Static],
        else_why: ONLY,
    },
    Taken {
        option: "admin-listen",
        given: |options| options.admin_listen.is_some(),
        by: &[Static],
        else_why: ONLY,
    },
];

pub(crate) const NEEDED: &[Needed] = &[
    Needed {
        option: "namespace",
        given: |options| options.namespace.is_some(),
        by: IN_KUBERNETES,
        what: "the namespace of the pods",
    },
    Needed {
        option: "module-image",
        given: |options| options.module_file.is_some() || fetches(options),
        by: &[Istio],
        what: "or --module-url, or --module-file",
    },
    Needed {
        option: "module-image",
        given: fetches,
        by: &[EnvoyGateway],
        what: "or --module-url",
    },
    Needed {
        option: "image",
        given: |options| options.image.is_some(),
        by: &[AppMesh],
        what: "the image with meshmeter-mesh and the modules",
    },
    Needed {
        option: "image",
        given: |options| options.image.is_some() || has_filter(options),
        by: FROM_FILES,
        what: "or --module-file, if the sidecar has the module already",
    },
    Needed {
        option: "module-file",
        given: has_filter,
        by: &[Static],
        what: "the module where Envoy runs",
    },
    Needed {
        option: "log-module-file",
        given: |options| options.image.is_some() || has_logger(options),
        by: &[IstioEnvoyFilter, Kuma, Static],
        what: "the module of access loggers",
    },
    Needed {
        option: "workload",
        given: |options| options.workload.is_some(),
        by: &[Consul, EnvoyGateway, AppMesh],
        what: "the service, the Gateway, or the Deployment",
    },
    Needed {
        option: "workload",
        given: |options| options.aggregator_ca.is_none() || options.workload.is_some(),
        by: &[Istio],
        what: "its pods get the CA's certificate",
    },
    Needed {
        option: "workload",
        given: |options| {
            let mounts = options.image.is_some() || options.aggregator_token;
            !mounts || options.workload.is_some()
        },
        by: &[IstioEnvoyFilter, Kuma],
        what: "its pods get the modules and the token",
    },
    Needed {
        option: "selector",
        given: |options| options.aggregator_ca.is_none() || !options.selector.is_empty(),
        by: &[Istio],
        what: "the pods of --workload, which have the CA's certificate",
    },
    Needed {
        option: "selector",
        given: |options| {
            let mounts = options.image.is_some() || options.aggregator_token;
            !mounts || !options.selector.is_empty()
        },
        by: &[IstioEnvoyFilter, Kuma],
        what: "the pods of --workload: without the module an Envoy refuses its listeners",
    },
    Needed {
        option: "upstream",
        given: |options| options.upstream.is_some(),
        by: &[AppMesh],
        what: "the control plane of the xDS proxies' configuration",
    },
    Needed {
        option: "listen",
        given: |options| options.listen.is_some(),
        by: &[Static],
        what: "where Envoy listens",
    },
    Needed {
        option: "application",
        given: |options| options.application.is_some(),
        by: &[Static],
        what: "where requests go",
    },
];

fn fetches(options: &Options) -> bool {
    options.module_image.is_some() || options.module_url.is_some()
}

/// The filter's file is given, or the logger counts instead.
fn has_filter(options: &Options) -> bool {
    options.module_file.is_some() || options.role == Role::AccessLog
}

/// The logger's file is given, or there is none in this.
fn has_logger(options: &Options) -> bool {
    let wanted = options.role == Role::AccessLog || options.upstream_log;
    !wanted || options.log_module_file.is_some()
}
