//! Options to render, the same for all tests.

use common_names::Role;
use mesh_core::injection::Directions;
use mesh_render::options::{Address, Options, Target};
use serde_json::json;

/// A certificate that is none: only its form is looked at.
const AUTHORITY: &str =
    "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";

/// A target, the name of what is asked of it, and the options.
pub(crate) struct Case {
    pub(crate) target: Target,
    pub(crate) name: &'static str,
    pub(crate) options: Options,
}

/// Each target as it is mostly used, with TLS and the token, and with all that it takes.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for target in Target::ALL {
        let mut case = |name, options| {
            cases.push(Case {
                target,
                name,
                options,
            });
        };
        let plain = plain(target);
        case("plain", plain.clone());
        case("secure", secure(target, plain.clone()));
        case("all", everything(target, plain));
    }
    cases
}

pub(crate) fn aggregator(replica: u8) -> Address {
    Address {
        host: format!("meshmeter-{replica}.meshmeter-ingest.meshmeter.svc.cluster.local"),
        port: 7470,
    }
}

/// No more than the target needs.
pub(crate) fn plain(target: Target) -> Options {
    let mut options = Options {
        namespace: Some("prod".into()),
        aggregators: vec![aggregator(0)],
        workload: Some("metal".into()),
        ..Options::default()
    };
    let mesh = Some("registry.example.com/meshmeter/mesh:0.2.0".into());
    match target {
        Target::Istio | Target::IstioWasmPlugin => {
            options.workload = None;
            options.module_image = Some("registry.example.com/meshmeter/filter:0.2.0".into());
        }
        Target::EnvoyGateway => {
            options.module_image = Some("registry.example.com/meshmeter/filter:0.2.0".into());
        }
        Target::Consul => options.image = mesh,
        Target::IstioEnvoyFilter | Target::Kuma => {
            options.image = mesh;
            options.selector = [("app".to_owned(), "metal".to_owned())].into();
        }
        Target::AppMesh => {
            options.image = mesh;
            options.upstream = Some("http://meshmeter-control-plane.meshmeter:18000".into());
        }
        Target::Static => {
            options.namespace = None;
            options.workload = None;
            options.module_file = Some("/etc/envoy/meshmeter-filter.wasm".into());
            options.listen = "0.0.0.0:15000".parse().ok();
            options.application = Some(Address {
                host: "127.0.0.1".to_owned(),
                port: 8080,
            });
        }
    }
    options
}

fn secure(target: Target, mut options: Options) -> Options {
    options.aggregator_ca = Some(AUTHORITY.into());
    let by_istio = matches!(target, Target::Istio | Target::IstioWasmPlugin);
    options.aggregator_token = !by_istio;
    if by_istio {
        options.workload = Some("metal".into());
        options.selector = [("app".to_owned(), "metal".to_owned())].into();
    }
    options
}

fn everything(target: Target, plain: Options) -> Options {
    let mut options = secure(target, plain);
    let file_based = matches!(
        target,
        Target::IstioEnvoyFilter | Target::Kuma | Target::Static
    );
    "counting".clone_into(&mut options.name);
    options.aggregators = vec![aggregator(0), aggregator(1)];
    options.plugin_config = json!({
        "dimensions": ["cluster"],
        "responses": "code",
        "flush_interval_ms": 500,
        "max_series": 100,
    })
    .as_object()
    .cloned()
    .unwrap_or_default();
    options.upstream_log = file_based || target == Target::AppMesh;
    options.aggregator_server_name = Some("meshmeter.meshmeter.svc".into());
    if matches!(
        target,
        Target::Istio | Target::IstioWasmPlugin | Target::IstioEnvoyFilter | Target::Kuma
    ) {
        options.selector = [("app", "metal"), ("example.com/version", "1")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        options.direction = Directions::Both;
    }
    if matches!(
        target,
        Target::Istio | Target::IstioWasmPlugin | Target::EnvoyGateway
    ) {
        options.module_image = None;
        options.module_url = Some("https://example.com/meshmeter-filter.wasm".into());
        options.module_sha256 = Some("0a".repeat(32));
    }
    match target {
        Target::Kuma | Target::Static => options.role = Role::AccessLog,
        Target::AppMesh => options.direction = Directions::Both,
        Target::Consul => {
            options.image = None;
            options.module_file = Some("/consul/modules/meshmeter-filter.wasm".into());
        }
        _ => {}
    }
    if target == Target::Static {
        options.direction = Directions::Outbound;
        options.log_module_file = Some("/etc/envoy/meshmeter-log.wasm".into());
        options.module_file = None;
        options.aggregator_token_file = Some("/etc/envoy/token.json".into());
        options.admin_listen = "127.0.0.1:9902".parse().ok();
    }
    options
}
