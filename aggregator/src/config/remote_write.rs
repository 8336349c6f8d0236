//! Flags of remote write -> checked.

use std::net::IpAddr;
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

/// The label by which receivers tell the replicas of an HA pair apart.
const REPLICA: &str = "__replica__";

/// Where running totals are written to, and how.
#[derive(Clone, Debug)]
pub struct RemoteWriteConfig {
    /// The receiver.
    pub endpoint: Endpoint,
    /// How requests show who sends them.
    pub auth: AuthConfig,
    /// The authorities of the receiver, PEM; `None`: the system's.
    pub ca: Option<Vec<u8>>,
    /// Time between flushes.
    pub interval: Duration,
    /// Where samples wait; `None`: in memory.
    pub queue_dir: Option<PathBuf>,
    /// Bytes that may wait.
    pub queue_bytes: u64,
    /// Names and labels.
    pub naming: Naming,
    /// The version of the protocol.
    pub version: Version,
    /// By which one of several replicas writes.
    pub lease: Option<LeaseConfig>,
}

/// A Lease and who wants it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseConfig {
    /// Its name.
    pub name: String,
    /// The name of this replica.
    pub identity: String,
    /// Its address; `None`: that of the admin listener.
    pub address: Option<IpAddr>,
}

/// How requests show who sends them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthConfig {
    /// Not at all.
    None,
    /// AWS Signature Version 4.
    SigV4 {
        /// Region to sign for.
        region: String,
        /// ARN of a role to write as.
        role: Option<String>,
    },
    /// User and password.
    Basic {
        /// The user.
        user: String,
        /// File with the password.
        file: PathBuf,
    },
    /// A bearer token.
    Bearer {
        /// File with the token.
        file: PathBuf,
    },
}

impl RemoteWriteConfig {
    /// `None` if nothing is to be written. `standalone` says whether there is a cluster that could hold a Lease; `None`
    /// that it does not matter.
    pub fn check(args: RemoteWriteArgs, standalone: Option<bool>) -> Result<Option<Self>> {
        let Some(url) = &args.remote_write_url else {
            return Ok(None);
        };
        let region = args.remote_write_region.as_deref();
        let endpoint = Endpoint::new(url, region).context("--remote-write-url")?;
        let auth = auth(&args, &endpoint)?;
        let lease = standalone.map(|standalone| lease(&args, standalone));
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
            naming: Naming {
                output: match args.remote_write_output {
                    OutputMode::PerPod => Output::PerPod,
                    OutputMode::Summed => Output::Summed,
                },
                rate: args.remote_write_gauge.contains(&Gauge::Rate),
                inflight: args.remote_write_gauge.contains(&Gauge::Inflight),
                ..naming(
                    args.remote_write_prefix,
                    &args.remote_write_external_label,
                    args.remote_write_pod_label,
                )?
            },
            version: match args.remote_write_protocol {
                ProtocolVersion::V1 => Version::V1,
                ProtocolVersion::V2 => Version::V2,
            },
            lease: lease.transpose()?.flatten(),
        }))
    }
}

fn lease(args: &RemoteWriteArgs, standalone: bool) -> Result<Option<LeaseConfig>> {
    let labels = &args.remote_write_external_label;
    let replica = labels.iter().any(|pair| pair.starts_with("__replica__="));
    let summed = args.remote_write_output == OutputMode::Summed;
    ensure!(
        !(summed && replica),
        "--remote-write-output summed: the sums of two replicas differ, so that a receiver cannot choose between them by __replica__; use --remote-write-lease"
    );
    let Some(name) = args.remote_write_lease.clone() else {
        ensure!(
            !summed || standalone,
            "--remote-write-lease is needed for --remote-write-output summed: of several replicas only one may write sums"
        );
        return Ok(None);
    };
    ensure!(
        !standalone,
        "--remote-write-lease: there is no cluster with --standalone"
    );
    ensure!(
        !replica,
        "--remote-write-lease and the external label __replica__ exclude one another: with a Lease one replica writes, with the label both do"
    );
    if let Some(fault) = service_name_fault(&name) {
        bail!("--remote-write-lease {name:?}: {fault}");
    }
    let identity = args.remote_write_lease_identity.clone();
    ensure!(
        !identity.is_empty(),
        "--remote-write-lease-identity is needed for --remote-write-lease: there is no HOSTNAME in the environment"
    );
    let address = args.remote_write_lease_address;
    Ok(Some(LeaseConfig {
        name,
        identity,
        address,
    }))
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
                .context("--remote-write-region is needed: the URL's host does not tell it")?,
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

fn naming(prefix: String, external: &[String], pod_labels: Vec<String>) -> Result<Naming> {
    SeriesLabels::new(&format!("{prefix}upstream_rq_total"), [])
        .with_context(|| format!("--remote-write-prefix {prefix:?}"))?;
    ensure!(
        external.len() + pod_labels.len() <= LABELS_MAX,
        "--remote-write-external-label, --remote-write-pod-label: at most {LABELS_MAX} are allowed"
    );
    let mut labels = Vec::with_capacity(external.len());
    for pair in external {
        let Some((name, value)) = pair.split_once('=') else {
            bail!("--remote-write-external-label {pair:?} is not NAME=VALUE");
        };
        labels.push((name.to_owned(), value.to_owned()));
    }
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
    Ok(Naming {
        prefix,
        live_only: labels.iter().any(|(name, _)| name == REPLICA),
        external_labels: labels,
        pod_labels,
        ..Naming::default()
    })
}
