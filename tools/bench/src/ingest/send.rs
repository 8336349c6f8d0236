//! Many sidecars in one process: each a connection, a hello, and reports at an even pace or as fast
//! as they are acknowledged.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use common_tls::config;
use proto::v1;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tests_support::clock;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::frames::{self, Credit};
use super::names::{SERVER_NAME, pod_name, pod_uid};

/// Connections that one process opens in a second at the start, and with TLS.
const OPENED_PER_SECOND: u32 = 2_000;
const OPENED_PER_SECOND_TLS: u32 = 500;
/// Loopback addresses that connections come from: each has ports of its own.
const SOURCES: u32 = 16;
/// Between two lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// As the filter has it (`filter/core/src/stream.rs`): shortest and longest backoff, in
/// milliseconds, and how long a report may be without its acknowledgement.
const BACKOFF_MIN_MS: u64 = 100;
const BACKOFF_MAX_MS: u64 = 1_000;
const ACK_WITHIN: Duration = Duration::from_secs(5);
/// How long that may take where a late one fails the run.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The server.
    #[arg(long)]
    target: SocketAddr,
    /// Number of the first sidecar.
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// Sidecars.
    #[arg(long)]
    sidecars: u32,
    /// How long, from the moment all are connected.
    #[arg(long)]
    seconds: u32,
    /// Send the next report as soon as the last one is acknowledged, not once a second.
    #[arg(long)]
    saturate: bool,
    /// CA of the server: TLS.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Open a lost stream again, with the filter's backoff.
    #[arg(long)]
    reconnect: bool,
}

/// What all sidecars of a process share.
struct Shared {
    args: Args,
    tls: Option<TlsConnector>,
    begun: Instant,
    /// When the Envoys started, in Unix milliseconds.
    started_at: u64,
    connected: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    /// When each sidecar's last report was acknowledged, in milliseconds since `begun`; 0 before
    /// the first.
    last: Vec<AtomicU64>,
}

/// A connection of one sidecar.
struct Link {
    connection: Box<dyn Io>,
    received: Vec<u8>,
    credit: Credit,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Sends, and prints a line each second: `connected acknowledged failed oldest`, the last the age
/// of the oldest acknowledged report in milliseconds.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let shared = Arc::new(Shared::new(args.clone())?);
    let mut sidecars = JoinSet::new();
    let start = clock::now();
    let per_second = if shared.tls.is_some() {
        OPENED_PER_SECOND_TLS
    } else {
        OPENED_PER_SECOND
    };
    let mut lines = tokio::time::interval(LINE_EVERY);
    for number in 0..args.sidecars {
        let due = Duration::from_secs(1) * number / per_second;
        while let Some(early) = due.checked_sub(start.elapsed()) {
            tokio::select! {
                () = tokio::time::sleep(early) => {}
                _ = lines.tick() => {
                    shared.print();
                }
            }
        }
        let shared = Arc::clone(&shared);
        sidecars.spawn(async move { shared.sidecar(number).await });
    }
    let mut left = args.seconds;
    while left > 0 {
        lines.tick().await;
        if shared.print() >= u64::from(args.sidecars) {
            left -= 1;
        }
    }
    sidecars.shutdown().await;
    Ok(())
}

// === impl Shared ===

impl Shared {
    fn new(args: Args) -> Result<Self> {
        let tls = match &args.ca_file {
            None => None,
            Some(file) => {
                let roots = std::fs::read_to_string(file).context("read the CA")?;
                let mut config = config::client(&roots, "the server's CA")?.as_ref().clone();
                config.alpn_protocols = vec![b"h2".to_vec()];
                // Each handshake is a whole one, as after the restart of all.
                config.resumption = Resumption::disabled();
                Some(TlsConnector::from(Arc::new(config)))
            }
        };
        Ok(Self {
            last: (0..args.sidecars).map(|_| AtomicU64::new(0)).collect(),
            args,
            tls,
            begun: clock::now(),
            started_at: unix_ms() - 5_000,
            connected: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Prints a line; returns how many sidecars are no longer connecting.
    fn print(&self) -> u64 {
        let [connected, acknowledged, failed] = [&self.connected, &self.acknowledged, &self.failed]
            .map(|it| it.load(Ordering::Relaxed));
        let now = self.now_ms();
        let since = |last: &AtomicU64| match last.load(Ordering::Relaxed) {
            0 => 0,
            last => now.saturating_sub(last),
        };
        let oldest = self.last.iter().map(since).max().unwrap_or(0);
        println!("{connected} {acknowledged} {failed} {oldest}");
        connected + failed
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long an answer may take. A sidecar's first stream, before any storm, has time.
    fn within(&self, number: u32) -> Duration {
        let last = usize::try_from(number)
            .ok()
            .and_then(|at| self.last.get(at));
        let connected = last.is_some_and(|last| last.load(Ordering::Relaxed) > 0);
        if self.args.reconnect && connected {
            ACK_WITHIN
        } else {
            PATIENCE
        }
    }

    fn acknowledged(&self, number: u32) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        let last = usize::try_from(number)
            .ok()
            .and_then(|at| self.last.get(at));
        if let Some(last) = last
            && last.swap(self.now_ms().max(1), Ordering::Relaxed) == 0
        {
            self.connected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One sidecar, for ever, or until its stream is lost and it does not come back.
    async fn sidecar(&self, number: u32) {
        let mut seq = 0;
        let mut failures = 0_u32;
        let mut random = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        loop {
            let before = seq;
            let Err(error) = self.stream(number, &mut seq).await else {
                return;
            };
            if !self.args.reconnect {
                if self.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                    eprintln!("sidecar {number}: {error:#}");
                }
                return;
            }
            // The first report of a stream was acknowledged.
            if seq > before + 1 {
                failures = 0;
            }
            let ceiling = BACKOFF_MIN_MS.checked_shl(failures);
            let ceiling = ceiling.map_or(BACKOFF_MAX_MS, |wait| wait.min(BACKOFF_MAX_MS));
            failures = (failures + 1).min(16);
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let wait = ceiling / 2 + random % (ceiling / 2);
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// One stream: hello, snapshot, reports.
    async fn stream(&self, number: u32, seq: &mut u64) -> Result<()> {
        let connection = timeout(self.within(number), self.connect(number));
        let connection = connection.await.context("connect")??;
        let number_of_all = self.args.first + number;
        let mut out = frames::open("ingest");
        frames::message(&mut out, hello(number_of_all, self.started_at, unix_ms()));
        *seq += 1;
        frames::message(&mut out, report(*seq, 1000, true));
        let mut link = Link {
            connection,
            received: Vec::new(),
            credit: Credit::default(),
        };
        link.credit.take(out.len());
        link.send(&out).await?;
        // The answer to the hello, and the first acknowledgement.
        timeout(self.within(number), link.messages(2))
            .await
            .context("no acknowledgement")??;
        self.acknowledged(number);
        let phase = Duration::from_millis(u64::from(number.wrapping_mul(7919) % 1000));
        let mut ticks = tokio::time::interval_at(
            tokio::time::Instant::from_std(clock::now()) + phase,
            Duration::from_secs(1),
        );
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if !self.args.saturate {
                tokio::select! {
                    _ = ticks.tick() => {}
                    // Pings come between reports.
                    exchanged = link.exchange() => {
                        exchanged?;
                        ticks.tick().await;
                    }
                }
            }
            *seq += 1;
            out.clear();
            frames::message(&mut out, report(*seq, 1000, false));
            while !link.credit.take(out.len()) {
                link.exchange().await?;
            }
            link.send(&out).await?;
            timeout(self.within(number), link.messages(1))
                .await
                .context("no acknowledgement")??;
            self.acknowledged(number);
        }
    }

    async fn connect(&self, number: u32) -> Result<Box<dyn Io>> {
        let socket = TcpSocket::new_v4()?;
        let last = u8::try_from(2 + (self.args.first + number) % SOURCES)?;
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
        let connection = socket.connect(self.args.target).await?;
        connection.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(connection));
        };
        let name = ServerName::try_from(SERVER_NAME)?;
        Ok(Box::new(tls.connect(name, connection).await?))
    }
}

// === impl Link ===

impl Link {
    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.connection.write_all(bytes).await?;
        // What TLS holds back.
        Ok(self.connection.flush().await?)
    }

    /// Waits for so many messages.
    async fn messages(&mut self, count: u64) -> Result<()> {
        let mut come = 0;
        while come < count {
            come += self.exchange().await?;
        }
        Ok(())
    }

    /// Waits for something to come, answers what has to be, and returns how many messages came.
    async fn exchange(&mut self) -> Result<u64> {
        let mut buffer = [0; 512];
        let count = self.connection.read(&mut buffer).await?;
        anyhow::ensure!(count > 0, "the server closed the connection");
        self.received
            .extend_from_slice(buffer.get(..count).unwrap_or_default());
        let mut answers = Vec::new();
        let messages = frames::take(&mut self.received, &mut answers, &mut self.credit)?;
        if !answers.is_empty() {
            self.send(&answers).await?;
        }
        Ok(messages)
    }
}

fn hello(number: u32, started_at: u64, now: u64) -> v1::sidecar_frame::Frame {
    let labels =
        [("app", "jazz"), ("version", "v1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    v1::sidecar_frame::Frame::Hello(v1::Hello {
        identity: Some(v1::Identity {
            namespace: "prod".to_owned(),
            pod: pod_name(number),
            pod_uid: pod_uid(number),
            node: "ip-10-0-1-23.eu-west-1.compute.internal".to_owned(),
            labels: labels.into_iter().collect(),
        }),
        instance: u64::from(number) + 1,
        process: u64::from(number) + 1,
        scope: v1::CounterScope::Process.into(),
        started_at_unix_ms: started_at,
        clock_unix_ms: now,
        flush_interval_ms: 1000,
        build: "bench".to_owned(),
        protocol: proto::PROTOCOL,
        hot_restart: false,
    })
}

/// A report of a busy sidecar: inbound requests with their responses, and two upstream clusters.
fn report(seq: u64, interval_ms: u32, snapshot: bool) -> v1::sidecar_frame::Frame {
    let inbound = v1::Series {
        direction: v1::Direction::Inbound.into(),
        cluster: String::new(),
        requests: Some(seq * 25),
        requests_at_completion: false,
        upstream_attempts: None,
        responses: vec![
            v1::Responses {
                code: 2,
                total: seq * 24,
            },
            v1::Responses {
                code: 5,
                total: seq,
            },
        ],
        inflight: Some(3),
        inflight_ns: Some(seq * 80_000_000),
    };
    let outbound = |cluster: &str| v1::Series {
        direction: v1::Direction::Outbound.into(),
        cluster: cluster.to_owned(),
        requests: Some(seq * 12),
        responses: vec![v1::Responses {
            code: 2,
            total: seq * 12,
        }],
        inflight: Some(1),
        inflight_ns: Some(seq * 20_000_000),
        ..v1::Series::default()
    };
    v1::sidecar_frame::Frame::Report(v1::Report {
        seq,
        interval_end_unix_ms: unix_ms(),
        interval_ms,
        series: vec![inbound, outbound("metal"), outbound("jazz")],
        vms_expected: 3,
        vms_live: 3,
        next_report_within_ms: 1000,
        snapshot,
        r#final: false,
        refused: None,
    })
}

#[expect(clippy::disallowed_methods, reason = "a sidecar dates its reports")]
fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0))
}
