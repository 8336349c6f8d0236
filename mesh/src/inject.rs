//! `meshmeter-mesh inject`, and the flags of injection.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use common_tls::{bundle, files};
use mesh_injector::manifest::{Unchanged, inject_all};
use mesh_injector::settings::{Modules, Secure, Settings, Stock};
use mesh_injector::virtual_node::Unknown;
use serde_json::{Value, json};

/// Longest manifest, in bytes.
const MANIFEST_MAX: u64 = 4 * 1024 * 1024;
/// Longest name of a Kubernetes object, in bytes.
const NAME_MAX: usize = 253;
/// Further arguments of the xDS proxy at most.
const XDS_PROXY_ARGS_MAX: usize = 16;

#[expect(clippy::doc_markdown, reason = "these are texts of --help")]
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PodArgs {
    /// Image with `meshmeter-mesh` and, in /opt/meshmeter, the modules.
    #[arg(long, env = "MESHMETER_IMAGE", value_name = "IMAGE")]
    image: String,

    /// Control plane of the xDS proxies, as in `xds-proxy --upstream`.
    #[arg(long, env = "MESHMETER_UPSTREAM", value_name = "URL")]
    upstream: String,

    /// Aggregator to stream to, as HOST:PORT. May be given several times, or once with commas.
    #[arg(
        long,
        env = "MESHMETER_AGGREGATOR",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        required = true
    )]
    aggregator: Vec<String>,

    /// File with the CA (PEM) of the aggregators' certificates; turns on TLS.
    #[arg(long, env = "MESHMETER_AGGREGATOR_CA_FILE", value_name = "FILE")]
    aggregator_ca_file: Option<PathBuf>,

    /// ConfigMap to maintain in each namespace labelled for injection, with the certificates of
    /// --aggregator-ca-file. Sidecars watch it and trust a new CA without a restart. Without it
    /// they trust the certificates from their injection.
    #[arg(
        long,
        env = "MESHMETER_AGGREGATOR_CA_CONFIGMAP",
        value_name = "CONFIGMAP",
        requires = "aggregator_ca_file"
    )]
    aggregator_ca_configmap: Option<String>,

    /// Name that the aggregators' certificates are valid for. Default: the host of each aggregator.
    #[arg(
        long,
        env = "MESHMETER_AGGREGATOR_SERVER_NAME",
        value_name = "NAME",
        requires = "aggregator_ca_file"
    )]
    aggregator_server_name: Option<String>,

    /// Authenticate sidecars to aggregators by a service account token of their pod.
    #[arg(
        long,
        env = "MESHMETER_AGGREGATOR_TOKEN",
        requires = "aggregator_ca_file"
    )]
    aggregator_token: bool,

    /// Audience of that token, as the aggregator's `--ingest-token-audience`.
    #[arg(
        long,
        env = "MESHMETER_TOKEN_AUDIENCE",
        value_name = "NAME",
        default_value = "meshmeter"
    )]
    token_audience: String,

    /// How pods get the modules.
    #[arg(long, env = "MESHMETER_MODULES", value_name = "MODE", value_enum, default_value_t = ModulesArg::InitContainer)]
    modules: ModulesArg,

    /// Add an Envoy and an init container that redirects traffic to it, where App Mesh's controller
    /// is gone.
    #[arg(
        long,
        env = "MESHMETER_INJECT_ENVOY",
        requires_all = ["envoy_image", "redirect_image"]
    )]
    inject_envoy: bool,

    /// Envoy image for --inject-envoy.
    #[arg(long, env = "MESHMETER_ENVOY_IMAGE", value_name = "IMAGE")]
    envoy_image: Option<String>,

    /// Image of the init container that redirects traffic, which reads the variables of App Mesh's
    /// proxy route manager.
    #[arg(long, env = "MESHMETER_REDIRECT_IMAGE", value_name = "IMAGE")]
    redirect_image: Option<String>,

    /// Unix socket of an SDS server on each host, such as /run/spire/sockets/agent.sock of SPIRE's
    /// agent, for the Envoys of --inject-envoy: mounted into them as a hostPath volume.
    #[arg(
        long,
        env = "MESHMETER_SDS_SOCKET",
        value_name = "PATH",
        requires = "inject_envoy"
    )]
    sds_socket: Option<String>,

    /// Mesh of pods whose annotations name a virtual node but no mesh.
    #[arg(long, env = "MESHMETER_MESH", value_name = "NAME")]
    mesh: Option<String>,

    /// Let the xDS proxies raise Events about their pods, with each pod's service account.
    #[arg(long, env = "MESHMETER_EVENTS")]
    events: bool,

    /// Further argument of the xDS proxies, such as `--direction=both`. May be given several times.
    #[arg(
        long,
        env = "MESHMETER_XDS_PROXY_ARG",
        value_name = "ARGUMENT",
        allow_hyphen_values = true
    )]
    xds_proxy_arg: Vec<String>,
}

/// How pods get the modules.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ModulesArg {
    /// An init container copies them.
    InitContainer,
    /// The image is a volume (Kubernetes 1.35, or 1.31 with the gate `ImageVolume`).
    ImageVolume,
}

/// Flags of the dry run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct InjectArgs {
    #[command(flatten)]
    pod: PodArgs,

    /// Namespace of objects without one.
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    namespace: String,

    /// Output format.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

/// Output format.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    /// As YAML documents.
    Yaml,
    /// As JSON, a List of several objects.
    Json,
}

// === impl PodArgs ===

impl PodArgs {
    pub(crate) fn injects_envoy(&self) -> bool {
        self.inject_envoy
    }

    /// The name from `--aggregator-ca-configmap`, checked, since it becomes part of URL paths.
    pub(crate) fn config_map(&self) -> Result<Option<String>> {
        let name = self.aggregator_ca_configmap.clone();
        if let Some(name) = &name {
            ensure!(
                is_name(name),
                "--aggregator-ca-configmap {name:?}: not a valid Kubernetes name"
            );
        }
        Ok(name)
    }

    /// Builds the settings; reads files.
    pub(crate) fn settings(&self) -> Result<Settings> {
        ensure!(
            self.xds_proxy_arg.len() <= XDS_PROXY_ARGS_MAX,
            "--xds-proxy-arg: at most {XDS_PROXY_ARGS_MAX} are allowed"
        );
        if let Some(path) = &self.sds_socket {
            ensure!(
                path.starts_with('/'),
                "--sds-socket {path}: not an absolute path"
            );
        }
        let secure = self.aggregator_ca_file.as_ref().map(|file| {
            Ok::<_, anyhow::Error>(Secure {
                ca: ca(file)?,
                config_map: self.config_map()?,
                server_name: self.aggregator_server_name.clone(),
                audience: self.aggregator_token.then(|| self.token_audience.clone()),
            })
        });
        let images = self.envoy_image.as_ref().zip(self.redirect_image.as_ref());
        let images = images.filter(|_| self.inject_envoy);
        Ok(Settings {
            image: self.image.clone(),
            upstream: self.upstream.clone(),
            aggregators: self.aggregator.clone(),
            secure: secure.transpose()?,
            modules: match self.modules {
                ModulesArg::InitContainer => Modules::Copied,
                ModulesArg::ImageVolume => Modules::ImageVolume,
            },
            stock: images.map(|(envoy, redirect)| Stock {
                image: envoy.clone(),
                redirect_image: redirect.clone(),
                mesh: self.mesh.clone(),
                sds_socket: self.sds_socket.clone(),
            }),
            events: self.events,
            xds_proxy_args: self.xds_proxy_arg.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

fn is_name(text: &str) -> bool {
    let is_valid = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(is_valid)
}

/// Rejects anything but certificates: everyone who may read pods can read it.
fn ca(file: &Path) -> Result<String> {
    let name = || format!("--aggregator-ca-file {}", file.display());
    let text = files::text(file).with_context(name)?;
    bundle::check_for_pods(&text, &name())?;
    Ok(text)
}

/// Prints the manifest from standard input, injected.
#[expect(clippy::print_stderr, reason = "warnings beside the result")]
pub(crate) fn inject(args: &InjectArgs) -> Result<()> {
    let settings = args.pod.settings()?;
    let mut text = String::new();
    let read = io::stdin().take(MANIFEST_MAX + 1).read_to_string(&mut text);
    let read = read.context("standard input")?;
    ensure!(
        read as u64 <= MANIFEST_MAX,
        "standard input: longer than {MANIFEST_MAX} bytes"
    );
    let documents = serde_saphyr::from_multiple::<Value>(&text).context("standard input")?;
    let mut documents: Vec<_> = documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect();
    let (mut injected, mut unchanged) = (0, 0);
    for document in &mut documents {
        for outcome in inject_all(document, &args.namespace, &settings, &Unknown) {
            if let Some(bypass) = &outcome.bypass {
                let line = format!("{}: {bypass}", outcome.what);
                eprintln!("{}", common_log::escaped(&line));
            }
            match outcome.unchanged {
                None => injected += 1,
                Some(why) => {
                    unchanged += usize::from(why != Unchanged::NoPods);
                    let line = format!("{}: left as it is: {why}", outcome.what);
                    eprintln!("{}", common_log::escaped(&line));
                }
            }
        }
    }
    let text = printed(documents, args.output)?;
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        // The reader, such as `head`, closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    if injected == 0 || unchanged > 0 {
        bail!(
            "{injected} of {} pods or templates injected",
            injected + unchanged
        );
    }
    Ok(())
}

fn printed(mut documents: Vec<Value>, output: Output) -> Result<String> {
    match output {
        Output::Json => {
            let only = if documents.len() == 1 {
                documents.pop()
            } else {
                None
            };
            let list = || json!({"apiVersion": "v1", "kind": "List", "items": documents});
            Ok(serde_json::to_string_pretty(&only.unwrap_or_else(list))?)
        }
        Output::Yaml => {
            let texts = documents.iter().map(serde_saphyr::to_string);
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("---\n"))
        }
    }
}
