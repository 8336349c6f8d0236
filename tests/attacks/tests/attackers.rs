//! The aggregator at its shipped limit of memory.
#![expect(clippy::print_stdout, reason = "what was measured belongs in the log")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::json;
use tempfile::TempDir;
use tests_attacks::cage::Cage;
use tests_attacks::flood::{self, Call, Held};
use tests_attacks::heads::{self, Endless};
use tests_attacks::sidecar::{self, NAMESPACE, NEWCOMER, POD};
use tests_attacks::target::{HTTP1, HTTP2, Target};
use tests_attacks::well_behaved::WellBehaved;
use tests_support::aggregator::{Aggregator, Options};
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::objects;
use tests_support::{clock, secured};
use tokio::time::sleep;

/// As `deploy/chart/values.yaml` says.
const LIMIT: u64 = 512 << 20;
const REPORT: Call = Call::grpc("/meshmeter.v1.Ingest/Report");
const METRICS_SERVICE: Call = Call::grpc("/envoy.service.metrics.v3.MetricsService/StreamMetrics");
/// Lines of log: some at the start, and a few of each reason every ten seconds.
const LINES_MAX: usize = 300;
const MIB: usize = 1 << 20;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long the kinds go on that have no other end.
const RAPID_FOR: Duration = Duration::from_secs(2);
const SLOW_FOR: Duration = Duration::from_secs(5);
/// A head of HTTP/1.1 has ten seconds; who tries for so long and is not closed has found a way
/// around that.
const SLOW_MAX: Duration = Duration::from_mins(1);
const KNOWN_WITHIN: Duration = Duration::from_secs(30);

/// An aggregator in its cage, and a sidecar.
struct Stage {
    name: &'static str,
    aggregator: Aggregator,
    cage: Cage,
    pid: u32,
    /// The ingest as the sidecar reaches it, and as attackers do.
    sidecar: Target,
    ingest: Target,
    _cluster: Option<(ApiServer, TempDir)>,
}

// === impl Stage ===

impl Stage {
    /// Without a cluster: whoever streams is believed.
    async fn standalone() -> Result<Self> {
        let (cage, aggregator) = Self::begin(Options::default()).await?;
        let ingest = Target::plain(aggregator.ingest());
        Self::of("standalone", (cage, aggregator), None, ingest).await
    }

    /// A pod is known by its address: attackers have that of another pod.
    async fn pod_ip() -> Result<Self> {
        let cluster = cluster().await?;
        let kubeconfig = cluster.1.path().join("kubeconfig");
        cluster.0.write_kubeconfig(&kubeconfig)?;
        let flags = [
            format!("--kubeconfig={}", kubeconfig.display()),
            "--ingest-identity=pod-ip".to_owned(),
        ];
        let options = Options {
            flags: flags.into(),
            ..Options::default()
        };
        let (cage, aggregator) = Self::begin(options).await?;
        let ingest = Target::plain(aggregator.ingest());
        Self::of("pod-ip", (cage, aggregator), Some(cluster), ingest).await
    }

    /// A pod is known by its token, over TLS: attackers have one of nobody.
    async fn token() -> Result<Self> {
        let cluster = cluster().await?;
        let folder = cluster.1.path();
        let options = secured::options(&cluster.0, folder)?;
        let ca = std::fs::read_to_string(folder.join("ca.pem"))?;
        let (cage, aggregator) = Self::begin(options).await?;
        let address = aggregator.ingest();
        let sidecar = Target::secure(address, &ca, secured::SERVER_NAME)?.with_token("good");
        let mut stage = Self::of("token", (cage, aggregator), Some(cluster), sidecar).await?;
        stage.ingest = Target::unverified(address)?
            .with_token("of nobody")
            .attacked_from(1);
        Ok(stage)
    }

    async fn begin(options: Options) -> Result<(Cage, Aggregator)> {
        let cage = Cage::new(LIMIT);
        let cgroup = cage.procs();
        let aggregator = Aggregator::start(&Options { cgroup, ..options }).await?;
        Ok((cage, aggregator))
    }

    async fn of(
        name: &'static str,
        (cage, aggregator): (Cage, Aggregator),
        cluster: Option<(ApiServer, TempDir)>,
        sidecar: Target,
    ) -> Result<Self> {
        aggregator.wait_ready().await?;
        Ok(Self {
            name,
            pid: aggregator.pid().context("it has ended")?,
            aggregator,
            cage,
            ingest: sidecar.clone().attacked_from(1),
            sidecar,
            _cluster: cluster,
        })
    }

    fn report(&mut self, what: &str, held: &Held) -> Result<()> {
        self.aggregator
            .check_running()
            .with_context(|| what.to_owned())?;
        let peak = self.cage.check_peak(self.pid);
        let peak = peak.with_context(|| what.to_owned())?;
        println!(
            "{}, {what}: peak {} MiB, {} MiB sent, {} refused",
            self.name,
            peak >> 20,
            held.sent >> 20,
            held.refused
        );
        Ok(())
    }

    async fn half(&mut self) -> Result<()> {
        let ingest = self.ingest.clone();
        let held = flood::half_messages(&ingest, METRICS_SERVICE, 160, 1, 4 * MIB).await;
        self.report("160 half-sent messages", &held)?;
        drop(held);
        let held = flood::half_messages(&ingest, METRICS_SERVICE, 8, 20, 4 * MIB).await;
        self.report("160 half-sent messages on 8 connections", &held)?;
        drop(held);
        // The small ones fill what the large ones leave.
        let (held, small) = tokio::join!(
            flood::half_messages(&ingest, REPORT, 400, 1, 256 * 1024),
            flood::half_messages(&ingest, REPORT, 300, 1, 5 * 1024),
        );
        self.report("400 half-sent frames", &held)?;
        // Until their deadline.
        sleep(SLOW_FOR).await;
        self.report("300 small ones", &small)
    }

    async fn empty(&mut self) -> Result<()> {
        let ingest = self.ingest.clone();
        let held = flood::empty_streams(&ingest, METRICS_SERVICE, 400, 256).await;
        self.report("102,400 empty streams", &held)?;
        drop(held);
        let held = flood::empty_streams(&ingest, REPORT, 100, 64).await;
        self.report("6,400 empty streams", &held)
    }

    async fn connections(&mut self) -> Result<()> {
        let ingest = self.ingest.clone();
        let held = flood::without_handshake(&ingest, 2_000, b"").await;
        self.report("2,000 connections without a byte", &held)?;
        drop(held);
        let held = flood::silent(&ingest, HTTP2, 500, PREFACE).await;
        self.report("500 connections without a call", &held)?;
        drop(held);
        let held = flood::silent(&ingest, HTTP2, 500, &b"PRI * HT"[..]).await;
        self.report("500 halves of a preface", &held)?;
        drop(held);
        let rapid = flood::rapid(&ingest, REPORT, Bytes::new(), 1, RAPID_FOR).await;
        self.report(&format!("{rapid} rapid connects"), &Held::default())
    }

    /// Streams that say that they are of the sidecar's pod, of another that is there, and of one
    /// that is not.
    async fn forged(&mut self) -> Result<()> {
        for pod in [POD, "other-1", "nobody"] {
            // Without identities the first would take the sidecar's place by right.
            if self.name == "standalone" && pod == POD {
                continue;
            }
            let message = sidecar::first_message(pod);
            let tried = flood::rapid(&self.ingest, REPORT, message, 8, RAPID_FOR).await;
            self.report(&format!("{tried} streams of {pod}"), &Held::default())?;
        }
        Ok(())
    }

    /// Whoever sends a head without an end is closed. A slow one of HTTP/2 stays until there is
    /// somebody who wants its place.
    async fn heads(&mut self) -> Result<()> {
        let ingest = self.ingest.clone();
        self.endless("ingest", &ingest, Endless::http2()).await?;
        let held = heads::slow(&ingest, HTTP2, 100, SLOW_FOR).await;
        self.report("100 slow heads", &held)
    }

    async fn endless(&mut self, port: &str, target: &Target, kind: Endless) -> Result<()> {
        let held = heads::huge(target, kind, 100, 16 * MIB).await;
        self.report(&format!("100 endless heads to {port}"), &held)?;
        ensure!(held.refused == 100, "{} of {port} are closed", held.refused);
        Ok(())
    }

    /// The ports that are the same however sidecars are known. A slow head of HTTP/1.1 is closed
    /// too.
    async fn other_ports(&mut self) -> Result<()> {
        let of_admin = Target::plain(self.aggregator.admin()).attacked_from(1);
        let of_api = Target::unverified(self.aggregator.api_address())?.attacked_from(1);
        self.endless("API", &of_api, Endless::http1()).await?;
        self.endless("API", &of_api, Endless::http2()).await?;
        self.endless("admin", &of_admin, Endless::http1()).await?;
        let held = tokio::join!(
            heads::slow(&of_api, HTTP2, 100, SLOW_FOR),
            heads::slow(&of_api, HTTP1, 100, SLOW_MAX),
            heads::slow(&of_admin, HTTP1, 100, SLOW_MAX),
        );
        self.report("300 slow heads to API and admin", &held.1)?;
        ensure!(held.1.refused == 100, "API: {} closed", held.1.refused);
        ensure!(held.2.refused == 100, "admin: {} closed", held.2.refused);
        Ok(())
    }

    /// What the sidecar sent is counted, and the log tells no more than it has to.
    async fn check(&self, requests: u64) -> Result<()> {
        let pods = self.aggregator.pods().await?;
        let state = pods.get(NAMESPACE, POD)?;
        ensure!(state.requests("inbound") == Some(requests), "{state:?}");
        let lines = self.aggregator.log().lines().count();
        ensure!(lines < LINES_MAX, "{lines} lines of log");
        Ok(())
    }
}

/// A cluster with the sidecar's pod and that of attackers, in a folder for files.
async fn cluster() -> Result<(ApiServer, TempDir)> {
    let server = ApiServer::start().await?;
    let pods = [
        (POD, "127.0.0.1"),
        (NEWCOMER, "127.0.0.1"),
        ("other-1", "10.0.0.9"),
        ("evil-1", "127.0.0.66"),
    ];
    for (name, ip) in pods {
        let metadata = json!({"namespace": NAMESPACE, "name": name, "uid": format!("uid-{name}")});
        let status = json!({"phase": "Running", "podIP": ip});
        let pod = json!({"metadata": metadata, "status": status});
        server.objects().apply(objects::POD, pod);
    }
    secured::add_token(&server, "good", NAMESPACE, POD);
    secured::add_token(&server, "good too", NAMESPACE, NEWCOMER);
    Ok((server, TempDir::new()?))
}

/// While attackers hold what they can get, a sidecar is served in time and counted exactly, probes
/// are answered, and the program stays within its limit: however sidecars are known.
///
/// `IDENTITY=token` and `ATTACK=half`, for example, run a part alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attackers_do_not_hurt_anyone() -> Result<()> {
    let chosen =
        |variable: &str, name: &str| std::env::var(variable).map_or(true, |wanted| wanted == name);
    for name in ["standalone", "pod-ip", "token"] {
        if !chosen("IDENTITY", name) {
            continue;
        }
        let mut stage = match name {
            "standalone" => Stage::standalone().await,
            "pod-ip" => Stage::pod_ip().await,
            _ => Stage::token().await,
        }?;
        let (pid, target) = (stage.pid, stage.sidecar.clone());
        let newcomer = match target.token {
            Some(_) => target.clone().with_token("good too"),
            None => target.clone(),
        };
        let well_behaved =
            WellBehaved::start((pid, stage.aggregator.admin()), async move |stop| {
                tokio::try_join!(
                    sidecar::run(pid, &target, &stop),
                    sidecar::newcomers(pid, &newcomer, &stop),
                )
            })?;
        clock::wait_for("the sidecar", KNOWN_WITHIN, async || {
            let pods = stage.aggregator.pods().await?;
            let pod = pods.find(NAMESPACE, POD);
            Ok(pod.and_then(|pod| (pod.streams > 0).then_some(())))
        })
        .await?;
        for attack in ["half", "empty", "connections", "forged", "heads", "ports"] {
            if !chosen("ATTACK", attack) {
                continue;
            }
            match attack {
                "half" => stage.half().await,
                "empty" => stage.empty().await,
                "connections" => stage.connections().await,
                "forged" => stage.forged().await,
                "heads" => stage.heads().await,
                _ if name == "standalone" => stage.other_ports().await,
                _ => Ok(()),
            }
            .with_context(|| format!("{name}: {attack}"))?;
        }
        let served = well_behaved.finish().context(name)?;
        println!("{name}: {served:?}");
        stage.check(served.client.0.requests).await.context(name)?;
    }
    Ok(())
}
