//! The injected configuration, built from flags.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use common_names::{Direction, Role};
use common_tls::bundle;
use mesh_core::injection::{Carrier, Injection, Plugin, StreamCluster, Tls, TrustedCa};
use serde_json::{Map, Value, json};

use super::Args;

/// The filter accepts at most this many aggregators.
const AGGREGATORS_MAX: usize = 4;

/// Fails for flags that contradict each other.
pub(super) fn of(args: &Args) -> Result<Injection> {
    let is_filter = args.role == Role::Filter;
    ensure!(
        !is_filter || args.filter().is_some() || args.log_wasm.is_some(),
        "--filter-wasm, --filter-module or --log-wasm is needed"
    );
    ensure!(
        is_filter || args.filter_module.is_none(),
        "--filter-module plays --role filter only"
    );
    if let Some(file) = &args.filter_module {
        ensure!(
            Carrier::of(&text_of(file, "--filter-module")?) == Carrier::Module,
            "--filter-module {}: the name of a dynamic module ends in .so",
            file.display()
        );
    }
    ensure!(
        is_filter || args.log_wasm.is_some(),
        "--role access-log needs --log-wasm"
    );
    ensure!(
        args.aggregator.len() <= AGGREGATORS_MAX,
        "--aggregator: at most {AGGREGATORS_MAX} are allowed"
    );
    let ca = ca(args)?;
    let clusters = args.aggregator.iter().enumerate();
    let clusters = clusters
        .map(|(nth, address)| cluster(args, ca.as_ref(), nth, address))
        .collect::<Result<Vec<_>>>()?;
    let plugin = |role: Role| {
        let (file, injected) = match role {
            Role::Filter => (args.filter(), is_filter),
            Role::AccessLog => (args.log_wasm.as_ref(), !is_filter),
            Role::UpstreamLog => (args.log_wasm.as_ref(), true),
        };
        let file = file.filter(|_| injected);
        let configured = |direction| configuration(args, role, direction, &clusters);
        file.map(|file| {
            Ok::<_, anyhow::Error>(Plugin {
                module: text_of(file, "the module's path")?,
                inbound: configured(Direction::Inbound)?.to_string(),
                outbound: configured(Direction::Outbound)?.to_string(),
            })
        })
        .transpose()
    };
    Ok(Injection {
        filter: plugin(Role::Filter)?,
        access_log: plugin(Role::AccessLog)?,
        upstream_log: plugin(Role::UpstreamLog)?,
        directions: args.direction,
        clusters,
    })
}

/// The CA for verifying aggregators; `None` without TLS.
fn ca(args: &Args) -> Result<Option<TrustedCa>> {
    if let Some(file) = &args.aggregator_ca_secret {
        let file = text_of(file, "--aggregator-ca-secret")?;
        return Ok(Some(TrustedCa::WatchedFile(file)));
    }
    let (flag, pem) = match (&args.aggregator_ca, &args.aggregator_ca_file) {
        (Some(pem), _) => ("--aggregator-ca".to_owned(), pem.clone()),
        (None, Some(file)) => {
            let flag = format!("--aggregator-ca-file {}", file.display());
            let pem = fs::read_to_string(file).with_context(|| flag.clone())?;
            (flag, pem)
        }
        (None, None) => {
            only_with_tls(args)?;
            return Ok(None);
        }
    };
    bundle::check(&pem, &flag)?;
    Ok(Some(TrustedCa::Inline(pem)))
}

fn only_with_tls(args: &Args) -> Result<()> {
    for (flag, given) in [
        (
            "--aggregator-server-name",
            args.aggregator_server_name.is_some(),
        ),
        (
            "--aggregator-token-file",
            args.aggregator_token_file.is_some(),
        ),
    ] {
        ensure!(
            !given,
            "{flag} needs --aggregator-ca or --aggregator-ca-file: only with TLS"
        );
    }
    Ok(())
}

fn text_of(path: &Path, flag: &str) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{flag} is not text"));
    text.map(str::to_owned)
}

fn cluster(
    args: &Args,
    ca: Option<&TrustedCa>,
    nth: usize,
    address: &str,
) -> Result<StreamCluster> {
    let Some((host, port)) = address.rsplit_once(':') else {
        bail!("--aggregator {address:?} is not HOST:PORT");
    };
    let port = port
        .parse()
        .with_context(|| format!("--aggregator {address:?}: the port"))?;
    let host = host.trim_matches(['[', ']']);
    let token_file = args.aggregator_token_file.as_ref();
    let token_file = token_file.map(|file| text_of(file, "--aggregator-token-file"));
    let token_file = token_file.transpose()?;
    let tls = ca.map(|ca| Tls {
        ca: ca.clone(),
        server_name: args
            .aggregator_server_name
            .as_deref()
            .unwrap_or(host)
            .to_owned(),
        token_file,
    });
    Ok(StreamCluster {
        name: format!("meshmeter_aggregator_{nth}"),
        host: host.to_owned(),
        port,
        tls,
    })
}

fn configuration(
    args: &Args,
    role: Role,
    direction: Direction,
    clusters: &[StreamCluster],
) -> Result<Value> {
    let further: Value = serde_json::from_str(&args.plugin_config).context("--plugin-config")?;
    let Value::Object(mut fields) = further else {
        bail!("--plugin-config is not a JSON object");
    };
    fields.insert("role".to_owned(), role.as_str().into());
    fields
        .entry("direction")
        .or_insert_with(|| direction.as_str().into());
    let clusters = clusters
        .iter()
        .map(|cluster| json!({"cluster": cluster.name}));
    fields.insert("aggregators".to_owned(), clusters.collect());
    let mut identity = match fields.remove("identity") {
        Some(Value::Object(identity)) => identity,
        Some(_) => bail!("--plugin-config: identity is not an object"),
        None => Map::new(),
    };
    for (key, value) in [
        ("namespace", &args.pod_namespace),
        ("pod", &args.pod_name),
        ("uid", &args.pod_uid),
        ("node", &args.node_name),
    ] {
        if !value.is_empty() {
            identity.insert(key.to_owned(), value.as_str().into());
        }
    }
    fields.insert("identity".to_owned(), identity.into());
    Ok(fields.into())
}
