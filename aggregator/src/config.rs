//! Converts flags into one checked [`Config`]. Errors that can be found before the start are found
//! here, and name the flag.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use aggregator_api::MetricSettings;
use aggregator_api::cluster_names::ClusterNames;
use aggregator_api::metric_name::MetricPrefix;
use aggregator_core::pod::PodInfo;
use anyhow::{Context as _, Result, bail};
use common_budget::Size;
use tracing_subscriber::EnvFilter;

pub use cluster::ClusterConfig;
pub use ingest::{IngestConfig, SelfManaged, SidecarIdentity, SidecarTls};
pub use peers::PeersConfig;
pub use remote_write::{AuthConfig, LeaseConfig, RemoteWriteConfig};

use crate::args::{ADMIN_PORT, API_PORT, INGEST_PORT, ReadsArgs, ServeArgs};
use crate::autoscalers_file::AutoscalersFile;
use crate::pods_file;
use crate::telemetry::Telemetry;

mod cluster;
mod ingest;
mod peers;
mod remote_write;

#[derive(Clone, Debug)]
pub struct Config {
    pub listen: Listen,
    pub mode: Mode,
    /// Where to write the bound addresses.
    pub addresses_file: Option<PathBuf>,
    pub metrics: MetricSettings,
    pub reads: ReadsConfig,
    /// Name of this replica in documents.
    pub replica_name: String,
    pub remote_write: Option<RemoteWriteConfig>,
    /// How long open requests and streams may take to end.
    pub drain: Duration,
    /// `None` takes the limit of the cgroup or the machine.
    pub memory_limit: Option<Size>,
}

/// What is remembered of reads, and where.
#[derive(Clone, Debug)]
pub struct ReadsConfig {
    /// Autoscalers for whose reads there is room in memory.
    pub autoscalers: usize,
    /// Where reads outlive the process.
    pub folder: Option<PathBuf>,
    pub folder_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Listen {
    pub ingest: SocketAddr,
    /// For the custom metrics API.
    pub api: SocketAddr,
    pub admin: SocketAddr,
}

#[derive(Clone, Debug)]
pub enum Mode {
    /// Without a cluster: loopback only, without authentication.
    Standalone {
        /// Further names of the API's certificate.
        api_names: Vec<String>,
        /// The pods that exist; `None` learns them from sidecars.
        pods: Option<Vec<PodInfo>>,
        /// The autoscalers that exist; `None` knows of none.
        autoscalers: Option<AutoscalersFile>,
    },
    /// The cluster is the source of pods and of authorisation.
    Cluster(Box<ClusterConfig>),
}

impl Mode {
    /// How long to wait at the start for sidecars that do not report.
    pub(crate) fn ready_wait(&self) -> Duration {
        match self {
            // Without a cluster it is unknown which pods have a sidecar.
            Self::Standalone { .. } => Duration::ZERO,
            Self::Cluster(cluster) => cluster.ready_wait,
        }
    }
}

impl Listen {
    /// The addresses given, or the default ones.
    fn new(
        standalone: bool,
        ingest: Option<SocketAddr>,
        api: Option<SocketAddr>,
        admin: Option<SocketAddr>,
    ) -> Self {
        let any: IpAddr = if standalone {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let address = |given: Option<SocketAddr>, port| given.unwrap_or((any, port).into());
        Self {
            ingest: address(ingest, INGEST_PORT),
            api: address(api, API_PORT),
            admin: address(admin, ADMIN_PORT),
        }
    }
}

impl ReadsConfig {
    fn new(args: ReadsArgs) -> Self {
        Self {
            autoscalers: args.reads_autoscalers,
            folder: args.reads_dir,
            folder_bytes: u64::from(args.reads_dir_mib) * 1024 * 1024,
        }
    }
}

impl Config {
    /// Checks the flags, and reads the files they name.
    pub fn check(args: ServeArgs) -> Result<(Telemetry, Self)> {
        let ServeArgs {
            standalone,
            ingest_listen,
            api_listen,
            admin_listen,
            api_name,
            addresses_file,
            pods_file,
            autoscalers_file,
            metric_prefix,
            cluster_destination,
            drain_seconds,
            memory_limit,
            log_format,
            log_level,
            cluster,
            peers,
            reads,
            remote_write,
        } = args;
        let replica_name = peers.replica_name.clone();
        let listen = Listen::new(standalone, ingest_listen, api_listen, admin_listen);
        let filter = EnvFilter::builder()
            .parse(&log_level)
            .with_context(|| format!("--log-level {log_level:?} is not a log filter"))?;
        let metrics = MetricSettings {
            prefix: MetricPrefix::new(&metric_prefix).context("--metric-prefix")?,
            clusters: ClusterNames::new(&cluster_destination).context("--cluster-destination")?,
        };
        let mode = if standalone {
            standalone_mode(listen, api_name, pods_file, autoscalers_file)?
        } else {
            for (flag, given) in [
                ("--api-name", !api_name.is_empty()),
                ("--pods-file", pods_file.is_some()),
                ("--autoscalers-file", autoscalers_file.is_some()),
            ] {
                if given {
                    bail!("{flag} is for --standalone: in a cluster, the API server is the source");
                }
            }
            Mode::Cluster(Box::new(ClusterConfig::check(
                cluster,
                peers,
                listen.ingest,
            )?))
        };
        let config = Self {
            listen,
            mode,
            addresses_file,
            metrics,
            reads: ReadsConfig::new(reads),
            replica_name,
            remote_write: RemoteWriteConfig::check(remote_write, Some(standalone))?,
            drain: Duration::from_secs(drain_seconds.into()),
            memory_limit,
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

fn standalone_mode(
    listen: Listen,
    api_names: Vec<String>,
    pods_file: Option<PathBuf>,
    autoscalers_file: Option<PathBuf>,
) -> Result<Mode> {
    for (flag, address) in [
        ("--ingest-listen", listen.ingest),
        ("--api-listen", listen.api),
        ("--admin-listen", listen.admin),
    ] {
        if !address.ip().is_loopback() {
            bail!(
                "{flag} {address}: with --standalone nobody is authenticated, so the address must be a loopback \
                 one such as 127.0.0.1"
            );
        }
    }
    let pods = pods_file
        .map(|path| {
            pods_file::load(&path).with_context(|| format!("--pods-file {}", path.display()))
        })
        .transpose()?;
    let autoscalers = autoscalers_file
        .map(|path| {
            let named = || format!("--autoscalers-file {}", path.display());
            AutoscalersFile::load(&path).with_context(named)
        })
        .transpose()?;
    Ok(Mode::Standalone {
        api_names,
        pods,
        autoscalers,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn check(flags: &[&str]) -> Result<(Telemetry, Config)> {
        let args = Args::try_parse_from(["meshmeter", "serve"].iter().chain(flags)).unwrap();
        let Command::Serve(args) = args.command else {
            panic!("another command");
        };
        Config::check(*args)
    }

    fn refusal(flags: &[&str]) -> String {
        format!("{:#}", check(flags).unwrap_err())
    }

    /// Defaults are fit for standalone mode as they are.
    #[test]
    fn defaults_are_loopback() {
        let (telemetry, config) = check(&["--standalone"]).unwrap();
        assert!(config.listen.api.ip().is_loopback());
        assert_eq!(config.drain, Duration::from_secs(10));
        assert_eq!(telemetry.filter, "info");
        assert!(matches!(config.mode, Mode::Standalone { pods: None, .. }));
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

    /// In a cluster everyone can reach it, and what only makes sense without one is refused.
    #[test]
    fn serves_a_cluster() {
        let (_, config) = check(&[]).unwrap();
        assert!(config.listen.api.ip().is_unspecified());
        let Mode::Cluster(cluster) = config.mode else {
            panic!("not in a cluster");
        };
        assert_eq!(cluster.scopes, [common_kubernetes::Scope::All]);
        for (flags, expected) in [
            (["--pods-file", "x"], "--pods-file is for --standalone"),
            (
                ["--autoscalers-file", "x"],
                "--autoscalers-file is for --standalone",
            ),
            (["--api-name", "x"], "--api-name is for --standalone"),
            (["--watch-namespace", "a,B"], "--watch-namespace \"B\""),
            (["--namespace", "a.b"], "--namespace \"a.b\""),
            (["--api-service", "-"], "--api-service \"-\""),
            (
                ["--ingest-identity", "none"],
                "--ingest-identity none: any pod",
            ),
            (
                ["--ingest-identity", "token"],
                "--ingest-identity token needs TLS",
            ),
            (
                ["--ingest-identity", "mtls"],
                "--ingest-client-ca-file is needed",
            ),
            (
                ["--ingest-tls", "files"],
                "--ingest-tls files needs --ingest-cert-file",
            ),
        ] {
            let message = refusal(&flags);
            assert!(message.starts_with(expected), "{message}");
        }
        let many: Vec<String> = (0..51).map(|number| format!("n{number}")).collect();
        let message = refusal(&["--watch-namespace", &many.join(",")]);
        assert!(message.contains("51 namespaces, at most 50"), "{message}");
    }

    /// TLS for sidecars is what files or the flag say, never both.
    #[test]
    fn sidecars_have_one_certificate() {
        let files = ["--ingest-cert-file=c", "--ingest-key-file=k"];
        let token = "--ingest-identity=token";
        let own = "--ingest-tls=self-managed";
        let tls = |flags: &[&str]| match check(flags).unwrap().1.mode {
            Mode::Cluster(cluster) => cluster.ingest.tls,
            Mode::Standalone { .. } => panic!("not in a cluster"),
        };
        assert_eq!(tls(&[]), SidecarTls::Off);
        let by_files = tls(&files);
        assert!(matches!(by_files, SidecarTls::Files(_)));
        assert_eq!(
            tls(&[&files[..], &["--ingest-tls=files"]].concat()),
            by_files
        );
        let SidecarTls::SelfManaged(managed) = tls(&[own, token]) else {
            panic!("not self-managed");
        };
        assert_eq!(managed.service, "meshmeter-ingest");
        assert_eq!(managed.config_map, "meshmeter-ca");
        for (flags, expected) in [
            (
                vec![own, files[0], files[1]],
                "--ingest-tls self-managed and --ingest-cert-file",
            ),
            (
                vec!["--ingest-tls=off", files[0], files[1]],
                "--ingest-tls off and --ingest-cert-file",
            ),
            (
                vec!["--ingest-tls=off", token],
                "--ingest-identity token needs TLS",
            ),
            (
                vec![own, "--ingest-service=a.b"],
                "--ingest-service \"a.b\"",
            ),
            (
                vec![own, "--ingest-ca-configmap=A"],
                "--ingest-ca-configmap \"A\"",
            ),
        ] {
            let message = refusal(&flags);
            assert!(message.starts_with(expected), "{message}");
        }
    }

    /// Whether TLS has to be used is a question only where there is a certificate, and a plain
    /// stream has an address to be checked.
    #[test]
    fn sidecars_may_have_a_choice() {
        let mode = |mode: &str| format!("--ingest-tls-mode={mode}");
        let (permissive, required) = (mode("permissive"), mode("required"));
        let files = ["--ingest-cert-file=c", "--ingest-key-file=k"];
        let own = "--ingest-tls=self-managed";
        let mtls = ["--ingest-identity=mtls", "--ingest-client-ca-file=a"];
        let local = ["--ingest-identity=none", "--ingest-listen=127.0.0.1:0"];
        for (flags, is_permissive) in [
            (vec![own], false),
            (vec![own, &required], false),
            (vec![own, &permissive], true),
            (vec![files[0], files[1], &permissive], true),
            (vec![own, "--ingest-identity=token", &permissive], true),
            (vec![own, mtls[0], mtls[1], &permissive], true),
        ] {
            let Mode::Cluster(cluster) = check(&flags).unwrap().1.mode else {
                panic!("not in a cluster");
            };
            assert_eq!(cluster.ingest.is_permissive, is_permissive, "{flags:?}");
        }
        let off = "and --ingest-tls off exclude one another: give --ingest-tls self-managed, or --ingest-cert-file";
        for (flags, expected) in [
            (
                vec![&*permissive],
                format!("{} {off}", "--ingest-tls-mode permissive"),
            ),
            (
                vec!["--ingest-tls=off", &permissive],
                format!("{} {off}", "--ingest-tls-mode permissive"),
            ),
            (
                vec![&*required],
                format!("{} {off}", "--ingest-tls-mode required"),
            ),
            (
                vec![own, local[0], local[1], &permissive],
                "--ingest-tls-mode permissive and --ingest-identity none exclude".to_owned(),
            ),
        ] {
            let message = refusal(&flags);
            assert!(message.starts_with(&expected), "{message}");
        }
    }

    /// Who may write what, of several replicas.
    #[test]
    fn replicas_do_not_write_one_series_twice() {
        let url = ["--remote-write-url", "http://127.0.0.1:9090/api/v1/write"];
        let with = |flags: &[&str]| check(&[&url, flags].concat());
        let summed = "--remote-write-output=summed";
        let deduplicated = "--remote-write-external-label=__replica__=a,cluster=c";
        let lease = "--remote-write-lease=writer";
        let (named, unnamed) = ("--remote-write-replica=a", "--remote-write-replica=");
        for (flags, expected) in [
            (vec![summed, unnamed], "--remote-write-replica is needed"),
            (
                vec![summed, named, deduplicated],
                "--remote-write-output summed and --remote-write-external-label __replica__=… exclude one another",
            ),
            (
                vec![summed, deduplicated, "--standalone"],
                "--remote-write-output summed and --remote-write-external-label __replica__=… exclude one another",
            ),
            (
                vec![summed, named, lease],
                "--remote-write-lease and --remote-write-output summed exclude one another",
            ),
            (
                vec![summed, named, "--remote-write-external-label=replica=b"],
                "--remote-write-external-label, --remote-write-pod-label",
            ),
            (
                vec![lease, named, deduplicated],
                "--remote-write-lease and the external label",
            ),
            (
                vec![lease, named, "--standalone"],
                "--remote-write-lease: there is no cluster",
            ),
            (vec![lease, unnamed], "--remote-write-replica is needed"),
            (
                vec!["--remote-write-lease=A", named],
                "--remote-write-lease \"A\"",
            ),
        ] {
            let message = with(&flags).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{flags:?}: {message}");
        }
        // (flags, the labels of every series)
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (flags, labels) in [
            (
                vec![summed, unnamed, "--standalone"],
                vec![own("replica", "")],
            ),
            (
                vec![summed, named, "--remote-write-external-label=cluster=c"],
                vec![own("cluster", "c"), own("replica", "a")],
            ),
            (vec![lease, named], vec![]),
            (
                vec![deduplicated, named],
                vec![own("__replica__", "a"), own("cluster", "c")],
            ),
        ] {
            let (_, config) = with(&flags).unwrap();
            let naming = config.remote_write.unwrap().naming;
            assert_eq!(naming.external_labels, labels, "{flags:?}");
        }
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
