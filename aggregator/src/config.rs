//! Flags -> one checked [`Config`]. Whatever can be refused before anything starts is refused here, by the name
//! of its flag.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use aggregator_api::MetricSettings;
use aggregator_api::cluster_names::ClusterNames;
use aggregator_api::metric_name::MetricPrefix;
use aggregator_core::pod::PodInfo;
use anyhow::{Context as _, Result, bail};
use tracing_subscriber::EnvFilter;

use crate::args::{Command, ServeArgs};
use crate::pods_file;
use crate::telemetry::Telemetry;

/// Everything the aggregator is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where sidecars connect.
    pub ingest_listen: SocketAddr,
    /// Where the custom metrics API is.
    pub api_listen: SocketAddr,
    /// Where operators look.
    pub admin_listen: SocketAddr,
    /// Further names of the API's certificate.
    pub api_names: Vec<String>,
    /// Where to write the addresses.
    pub addresses_file: Option<PathBuf>,
    /// The pods that exist; `None`: learn them from sidecars.
    pub pods: Option<Vec<PodInfo>>,
    /// Names of metrics, and where Envoy's clusters lead.
    pub metrics: MetricSettings,
    /// How long open requests and streams may take to end.
    pub drain: Duration,
}

impl Config {
    /// Checks what was asked for, and reads the files it names.
    pub fn check(command: Command) -> Result<(Telemetry, Self)> {
        let Command::Serve(args) = command;
        let ServeArgs {
            standalone,
            ingest_listen,
            api_listen,
            admin_listen,
            api_name,
            addresses_file,
            pods_file,
            metric_prefix,
            cluster_destination,
            drain_seconds,
            log_format,
            log_level,
        } = args;
        if !standalone {
            bail!(
                "meshmeter does not yet run in a Kubernetes cluster (authentication and the pod watch are still to \
                 come); run it with --standalone on loopback"
            );
        }
        for (flag, address) in [
            ("--ingest-listen", ingest_listen),
            ("--api-listen", api_listen),
            ("--admin-listen", admin_listen),
        ] {
            if !address.ip().is_loopback() {
                bail!(
                    "{flag} {address}: with --standalone nobody is authenticated, so the address must be a loopback \
                     one such as 127.0.0.1"
                );
            }
        }
        let filter = EnvFilter::builder()
            .parse(&log_level)
            .with_context(|| format!("--log-level {log_level:?} is not a log filter"))?;
        let pods = pods_file
            .map(|path| {
                pods_file::load(&path).with_context(|| format!("--pods-file {}", path.display()))
            })
            .transpose()?;
        let metrics = MetricSettings {
            prefix: MetricPrefix::new(&metric_prefix).context("--metric-prefix")?,
            clusters: ClusterNames::new(&cluster_destination).context("--cluster-destination")?,
        };
        let config = Self {
            ingest_listen,
            api_listen,
            admin_listen,
            api_names: api_name,
            addresses_file,
            pods,
            metrics,
            drain: Duration::from_secs(drain_seconds.into()),
        };
        Ok((
            Telemetry {
                format: log_format,
                filter: filter.to_string(),
            },
            config,
        ))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Args;

    fn check(flags: &[&str]) -> Result<(Telemetry, Config)> {
        let args = Args::try_parse_from(["meshmeter", "serve"].iter().chain(flags)).unwrap();
        Config::check(args.command)
    }

    fn refusal(flags: &[&str]) -> String {
        format!("{:#}", check(flags).unwrap_err())
    }

    /// Defaults are fit for standalone mode as they are.
    #[test]
    fn defaults_are_loopback() {
        let (telemetry, config) = check(&["--standalone"]).unwrap();
        assert!(config.api_listen.ip().is_loopback());
        assert_eq!(config.drain, Duration::from_secs(10));
        assert_eq!(telemetry.filter, "info");
        assert!(config.pods.is_none());
    }

    /// Without authentication nothing may listen beyond this machine; the flag at fault is named.
    #[test]
    fn refuses_other_addresses_by_flag() {
        for flag in ["--ingest-listen", "--api-listen", "--admin-listen"] {
            let message = refusal(&["--standalone", flag, "0.0.0.0:0"]);
            assert!(
                message.starts_with(&format!("{flag} 0.0.0.0:0: ")),
                "{message}"
            );
        }
        assert!(check(&["--standalone", "--api-listen", "[::1]:0"]).is_ok());
    }

    /// What does not exist yet is said plainly.
    #[test]
    fn says_that_cluster_mode_is_missing() {
        let message = refusal(&[]);
        assert!(message.contains("--standalone"), "{message}");
    }

    /// A bad filter or file is refused before anything starts.
    #[test]
    fn refuses_bad_values() {
        let message = refusal(&["--standalone", "--log-level", "a=b=c"]);
        assert!(message.contains("--log-level \"a=b=c\""), "{message}");
        let message = refusal(&["--standalone", "--metric-prefix", "a-b"]);
        assert!(message.starts_with("--metric-prefix: "), "{message}");
        let message = refusal(&["--standalone", "--cluster-destination", "a=b"]);
        assert!(message.starts_with("--cluster-destination: "), "{message}");
        let message = refusal(&["--standalone", "--pods-file", "/nonexistent/pods.json"]);
        assert!(
            message.contains("--pods-file /nonexistent/pods.json"),
            "{message}"
        );
    }
}
