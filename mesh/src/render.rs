//! `meshmeter-mesh render`.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use common_names::Role;
use mesh_core::injection::{Carrier, Directions};
use mesh_render::options::{Address, Options, Target};
use serde_json::{Map, Value};

use crate::placing::{CARRIERS, DIRECTIONS, ROLES, one_of};

/// Flags.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Mesh to render for.
    #[arg(long = "for", value_name = "MESH", value_parser = one_of(TARGETS))]
    target: Target,

    /// Name of the rendered objects.
    #[arg(long, default_value = "meshmeter")]
    name: String,

    /// Namespace of the pods and of the rendered objects.
    #[arg(long)]
    namespace: Option<String>,

    /// Label of the pods, as KEY=VALUE. May be given several times. Default: all pods of the
    /// namespace or the mesh.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    selector: Vec<(String, String)>,

    /// Deployment whose pods get the modules and the token. For consul the service too; for
    /// envoy-gateway the Gateway.
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,

    #[command(flatten)]
    plugin: PluginArgs,

    #[command(flatten)]
    module: ModuleArgs,

    #[command(flatten)]
    aggregator: AggregatorArgs,

    /// Control plane of the xDS proxies, as in `xds-proxy --upstream`; for appmesh.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,

    /// Address and port of Envoy's listener; for static.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// Address and port of the application; for static.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    application: Option<Address>,

    /// Address and port of Envoy's admin interface; for static. Default: 127.0.0.1:9901.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<SocketAddr>,
}

/// What is counted.
#[derive(Clone, Debug, clap::Args)]
struct PluginArgs {
    /// Where requests are counted.
    #[arg(long, value_parser = one_of(ROLES), default_value = "filter")]
    role: Role,

    /// What carries the filter into Envoy; `module` needs --module-file.
    #[arg(long, value_parser = one_of(CARRIERS), default_value = "wasm")]
    carrier: Carrier,

    /// Count upstream attempts too, by an access logger of the router.
    #[arg(long)]
    upstream_log: bool,

    /// Listeners that get the filter.
    #[arg(long, value_parser = one_of(DIRECTIONS), default_value = "inbound")]
    direction: Directions,

    /// Count each upstream cluster as a series of its own.
    #[arg(long, value_name = "DIMENSION", value_delimiter = ',')]
    dimensions: Vec<String>,

    /// Detail of response counts: by class, by status code, or off.
    #[arg(long, value_name = "DETAIL")]
    responses: Option<String>,

    /// Further fields of the plugin configuration, as a JSON object.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    plugin_config: String,
}

/// Where the modules come from.
#[derive(Clone, Debug, clap::Args)]
struct ModuleArgs {
    /// Image with meshmeter-mesh and both modules: an init container copies them.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    /// Image with the filter alone, for meshes that download it themselves.
    #[arg(long, value_name = "IMAGE")]
    module_image: Option<String>,

    /// Path of the filter in Envoy's file system.
    #[arg(long, value_name = "FILE")]
    module_file: Option<String>,

    /// Path of the logger for --role access-log and --upstream-log in Envoy's file system.
    #[arg(long, value_name = "FILE")]
    log_module_file: Option<String>,

    /// URL of the filter, for meshes that download it themselves.
    #[arg(long, value_name = "URL")]
    module_url: Option<String>,

    /// SHA-256 of the downloaded module or image.
    #[arg(long, value_name = "DIGITS")]
    module_sha256: Option<String>,
}

/// Where to stream to.
#[derive(Clone, Debug, clap::Args)]
struct AggregatorArgs {
    /// Aggregator to stream to. May be given several times, or once with commas.
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        value_parser = address,
        required = true
    )]
    aggregator: Vec<Address>,

    /// File with a CA bundle (PEM) for verifying aggregators; turns on TLS. It becomes part of the
    /// output.
    #[arg(long, value_name = "FILE")]
    aggregator_ca_file: Option<PathBuf>,

    /// Name that the aggregators' certificates are valid for. Default: the host of each aggregator.
    #[arg(long, value_name = "NAME")]
    aggregator_server_name: Option<String>,

    /// Authenticate to aggregators by a service account token for the audience `meshmeter`.
    #[arg(long)]
    aggregator_token: bool,

    /// Envoy's secret file with the token; for static. Default: /etc/meshmeter/token.json.
    #[arg(long, value_name = "FILE")]
    aggregator_token_file: Option<String>,
}

/// The meshes.
const TARGETS: &[(Target, &str, &str)] = &[
    (
        Target::Istio,
        "istio",
        "Istio 1.30 and newer, by its API for Wasm",
    ),
    (
        Target::IstioWasmPlugin,
        "istio-wasmplugin",
        "Istio before 1.30, by its API for Wasm",
    ),
    (
        Target::IstioEnvoyFilter,
        "istio-envoyfilter",
        "Istio, by patches of what it sends to Envoy",
    ),
    (Target::EnvoyGateway, "envoy-gateway", "Envoy Gateway"),
    (Target::Consul, "consul", "Consul's mesh on Kubernetes"),
    (Target::Kuma, "kuma", "Kuma and Kong Mesh on Kubernetes"),
    (Target::AppMesh, "appmesh", "App Mesh, without the webhook"),
    (
        Target::Static,
        "static",
        "An Envoy of one's own: its bootstrap",
    ),
];

#[expect(clippy::print_stdout, reason = "the result of the command")]
pub(crate) fn run(args: Args) -> Result<()> {
    let target = args.target;
    print!("{}", mesh_render::render(target, &options(args)?)?);
    Ok(())
}

fn options(args: Args) -> Result<Options> {
    let plugin_config = plugin_config(&args.plugin)?;
    let Args {
        target: _,
        name,
        namespace,
        selector,
        workload,
        plugin,
        module,
        aggregator,
        upstream,
        listen,
        application,
        admin_listen,
    } = args;
    let ca = aggregator.aggregator_ca_file;
    let ca = ca.map(|file| {
        let name = || format!("--aggregator-ca-file {}", file.display());
        fs::read_to_string(&file).with_context(name)
    });
    Ok(Options {
        name,
        namespace,
        selector: BTreeMap::from_iter(selector),
        workload,
        role: plugin.role,
        carrier: plugin.carrier,
        upstream_log: plugin.upstream_log,
        direction: plugin.direction,
        plugin_config,
        aggregators: aggregator.aggregator,
        aggregator_ca: ca.transpose()?,
        aggregator_server_name: aggregator.aggregator_server_name,
        aggregator_token: aggregator.aggregator_token,
        aggregator_token_file: aggregator.aggregator_token_file,
        image: module.image,
        module_image: module.module_image,
        module_file: module.module_file,
        log_module_file: module.log_module_file,
        module_url: module.module_url,
        module_sha256: module.module_sha256,
        upstream,
        listen,
        application,
        admin_listen,
    })
}

/// The fields of `--plugin-config` and of flags of their own.
fn plugin_config(args: &PluginArgs) -> Result<Map<String, Value>> {
    let further: Value = serde_json::from_str(&args.plugin_config).context("--plugin-config")?;
    let Value::Object(mut fields) = further else {
        bail!("--plugin-config is not a JSON object");
    };
    if !args.dimensions.is_empty() {
        fields.insert("dimensions".to_owned(), args.dimensions.clone().into());
    }
    if let Some(responses) = &args.responses {
        fields.insert("responses".to_owned(), responses.as_str().into());
    }
    Ok(fields)
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("it is not KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn address(text: &str) -> Result<Address, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("it is not HOST:PORT")?;
    Ok(Address {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: port.parse().map_err(|_| "the port is invalid")?,
    })
}
