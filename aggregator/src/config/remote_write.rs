//! Checks the flags of remote write.

use std::path::PathBuf;
use std::time::Duration;

use aggregator_api::names::service_name_fault;
use aggregator_core::limits::LABELS_MAX;
use aggregator_remote_write::encoder::SeriesLabels;
use aggregator_remote_write::endpoint::Endpoint;
use aggregator_remote_write::protocol::Version;
use aggregator_remote_write::series::{Naming, Output, label_name};
use anyhow::{Context as _, Result, bail, ensure};

use crate::args::{AuthMode, Gauge, OutputMode, ProtocolVersion, RemoteWriteArgs};

/// The label by which receivers deduplicate an HA pair.
const HA_REPLICA: &str = "__replica__";

/// The label that separates the sums of replicas.
const REPLICA: &str = "replica";

#[derive(Clone, Debug)]
pub struct RemoteWriteConfig {
    pub endpoint: Endpoint,
    pub auth: AuthConfig,
    /// CA bundle for the receiver, PEM; `None` uses the system's.
    pub ca: Option<Vec<u8>>,
    pub interval: Duration,
    /// Folder of the queue; `None` keeps it in memory.
    pub queue_dir: Option<PathBuf>,
    pub queue_bytes: u64,
    pub naming: Naming,
    pub version: Version,
    /// Elects the replica that writes; `None` lets each write.
    pub lease: Option<LeaseConfig>,
}

/// A Lease and the identity of this replica.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseConfig {
    pub name: String,
    /// The name of this replica.
    pub identity: String,
}

/// Authentication of requests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthConfig {
    None,
    /// AWS Signature Version 4.
    SigV4 {
        region: String,
        /// ARN of a role to write as.
        role: Option<String>,
    },
    Basic {
        user: String,
        file: PathBuf,
    },
    Bearer {
        file: PathBuf,
    },
}

impl RemoteWriteConfig {
    /// `None` if remote write is off. With `standalone` there is no Lease; `None` skips that check.
    pub fn check(args: RemoteWriteArgs, standalone: Option<bool>) -> Result<Option<Self>> {
        let Some(url) = &args.remote_write_url else {
            return Ok(None);
        };
        let region = args.remote_write_region.as_deref();
        let endpoint = Endpoint::new(url, region).context("--remote-write-url")?;
        let auth = auth(&args, &endpoint)?;
        let lease = standalone.map(|standalone| lease(&args, standalone));
        let naming = naming(&args)?;
        let ca = args.remote_write_ca_file.as_ref().map(|path| {
            std::fs::read(path)
                .with_context(|| format!("--remote-write-ca-file {}", path.display()))
        });
        Ok(Some(Self {
            endpoint,
            auth,
            ca: ca.transpose()?,
            interval: Duration::from_secs(args.remote_write_interval_seconds.into()),
            queue_dir: args.remote_write_queue_dir,
            queue_bytes: u64::from(args.remote_write_queue_mib) * 1024 * 1024,
            naming,
            version: match args.remote_write_protocol {
                ProtocolVersion::V1 => Version::V1,
                ProtocolVersion::V2 => Version::V2,
            },
            lease: lease.transpose()?.flatten(),
        }))
    }
}

/// The Lease that elects the writer, if there is one. With sums each replica writes its own.
fn lease(args: &RemoteWriteArgs, standalone: bool) -> Result<Option<LeaseConfig>> {
    let summed = args.remote_write_output == OutputMode::Summed;
    let named = !args.remote_write_replica.is_empty();
    ensure!(
        !summed || named || standalone,
        "--remote-write-replica is needed for --remote-write-output summed, as the label `replica`: there is no HOSTNAME in the environment"
    );
    let Some(name) = args.remote_write_lease.clone() else {
        return Ok(None);
    };
    ensure!(
        !summed,
        "--remote-write-lease and --remote-write-output summed exclude one another: each replica writes its own sums, none of which can stand in for the others"
    );
    ensure!(
        !standalone,
        "--remote-write-lease: there is no cluster with --standalone"
    );
    ensure!(
        !has_ha_replica(args),
        "--remote-write-lease and the external label __replica__ exclude one another: with a Lease one replica writes, with the label both do"
    );
    if let Some(fault) = service_name_fault(&name) {
        bail!("--remote-write-lease {name:?}: {fault}");
    }
    ensure!(
        named,
        "--remote-write-replica is needed for --remote-write-lease: there is no HOSTNAME in the environment"
    );
    Ok(Some(LeaseConfig {
        name,
        identity: args.remote_write_replica.clone(),
    }))
}

fn has_ha_replica(args: &RemoteWriteArgs) -> bool {
    let mut pairs = args.remote_write_external_label.iter();
    pairs.any(|pair| {
        pair.split_once('=')
            .is_some_and(|(name, _)| name == HA_REPLICA)
    })
}

fn auth(args: &RemoteWriteArgs, endpoint: &Endpoint) -> Result<AuthConfig> {
    let for_aws = [
        (
            "--remote-write-role-arn",
            args.remote_write_role_arn.is_some(),
        ),
        ("--remote-write-region", args.remote_write_region.is_some()),
    ];
    let for_aws = for_aws
        .iter()
        .find_map(|(flag, given)| given.then_some(*flag));
    let implied = match (endpoint.amp_region(), for_aws) {
        (None, None) => AuthMode::None,
        _ => AuthMode::Sigv4,
    };
    let mode = args.remote_write_auth.unwrap_or(implied);
    if let (Some(flag), false) = (for_aws, mode == AuthMode::Sigv4) {
        bail!("{flag} goes with --remote-write-auth sigv4 only");
    }
    let file = || {
        let file = args.remote_write_secret_file.clone();
        file.context(
            "--remote-write-secret-file is needed for --remote-write-auth basic and bearer",
        )
    };
    Ok(match mode {
        AuthMode::None => AuthConfig::None,
        AuthMode::Sigv4 => AuthConfig::SigV4 {
            region: args
                .remote_write_region
                .clone()
                .or_else(|| endpoint.amp_region().map(str::to_owned))
                .context("--remote-write-region is needed: the URL's host name has no region")?,
            role: args.remote_write_role_arn.clone(),
        },
        AuthMode::Basic => AuthConfig::Basic {
            user: args
                .remote_write_user
                .clone()
                .context("--remote-write-user is needed for --remote-write-auth basic")?,
            file: file()?,
        },
        AuthMode::Bearer => AuthConfig::Bearer { file: file()? },
    })
}

fn naming(args: &RemoteWriteArgs) -> Result<Naming> {
    let output = match args.remote_write_output {
        OutputMode::PerPod => Output::PerPod,
        OutputMode::Summed => Output::Summed,
    };
    let live_only = has_ha_replica(args);
    ensure!(
        !(live_only && output == Output::Summed),
        "--remote-write-output summed and --remote-write-external-label __replica__=… exclude one another: a receiver that deduplicates takes the sums of one replica, and drops those of the others with a 202 that looks like success; leave out __replica__, the label `replica` tells sums apart"
    );
    let prefix = args.remote_write_prefix.clone();
    SeriesLabels::new(&format!("{prefix}upstream_rq_total"), [])
        .with_context(|| format!("--remote-write-prefix {prefix:?}"))?;
    Ok(Naming {
        prefix,
        live_only,
        output,
        external_labels: external_labels(args)?,
        pod_labels: args.remote_write_pod_label.clone(),
        rate: args.remote_write_gauge.contains(&Gauge::Rate),
        inflight: args.remote_write_gauge.contains(&Gauge::Inflight),
    })
}

/// The labels of every series: the configured ones, and for sums the name of this replica.
fn external_labels(args: &RemoteWriteArgs) -> Result<Vec<(String, String)>> {
    let (external, pod_labels) = (
        &args.remote_write_external_label,
        &args.remote_write_pod_label,
    );
    ensure!(
        external.len() + pod_labels.len() <= LABELS_MAX,
        "--remote-write-external-label, --remote-write-pod-label: at most {LABELS_MAX} are allowed"
    );
    let mut labels = Vec::with_capacity(external.len() + 1);
    for pair in external {
        let Some((name, value)) = pair.split_once('=') else {
            bail!("--remote-write-external-label {pair:?} is not NAME=VALUE");
        };
        labels.push((name.to_owned(), value.to_owned()));
    }
    if args.remote_write_output == OutputMode::Summed {
        labels.push((REPLICA.to_owned(), args.remote_write_replica.clone()));
    }
    // A dummy series with all labels finds duplicates and limits before the first flush.
    let fixed = [
        "namespace",
        "kubernetes_pod_name",
        "service",
        "envoy_cluster_name",
        "traffic_direction",
    ];
    let own = ["envoy_response_code", "envoy_response_code_class"];
    let fixed = fixed.into_iter().chain(own).map(|name| (name, "x"));
    let of_pod: Vec<String> = pod_labels.iter().map(|key| label_name(key)).collect();
    let all = labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .chain(of_pod.iter().map(|name| (name.as_str(), "x")))
        .chain(fixed);
    SeriesLabels::new("x", all)
        .context("--remote-write-external-label, --remote-write-pod-label")?;
    Ok(labels)
}
