//! Many sidecars in one process: each a connection, a hello, and reports at an even pace or as fast
//! as they are acknowledged.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use proto::v1;
use tests_support::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::frames::{self, Credit};

const OPENED_PER_SECOND: u32 = 2_000;
/// Loopback addresses that connections come from: each has ports of its own.
const SOURCES: u32 = 8;
/// Between two lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The server.
    #[arg(long)]
    target: SocketAddr,
    /// Sidecars.
    #[arg(long)]
    sidecars: u32,
    /// How long, from the moment all are connected.
    #[arg(long)]
    seconds: u32,
    /// Send the next report as soon as the last one is acknowledged, not once a second.
    #[arg(long)]
    saturate: bool,
}

#[derive(Debug, Default)]
struct Counts {
    connected: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

/// Sends, and prints a line each second: `connected acknowledged failed`.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let counts = Arc::new(Counts::default());
    let mut sidecars = JoinSet::new();
    let start = clock::now();
    for number in 0..args.sidecars {
        let due = Duration::from_secs(1) * number / OPENED_PER_SECOND;
        if let Some(early) = due.checked_sub(start.elapsed()) {
            tokio::time::sleep(early).await;
        }
        let (args, counts) = (args.clone(), Arc::clone(&counts));
        sidecars.spawn(async move {
            if let Err(error) = sidecar(&args, number, &counts).await
                && counts.failed.fetch_add(1, Ordering::Relaxed) == 0
            {
                eprintln!("sidecar {number}: {error:#}");
            }
        });
    }
    let mut lines = tokio::time::interval(LINE_EVERY);
    let mut left = args.seconds;
    while left > 0 {
        lines.tick().await;
        let connected = counts.connected.load(Ordering::Relaxed);
        let (acknowledged, failed) = (
            counts.acknowledged.load(Ordering::Relaxed),
            counts.failed.load(Ordering::Relaxed),
        );
        println!("{connected} {acknowledged} {failed}");
        if connected + failed >= u64::from(args.sidecars) {
            left -= 1;
        }
    }
    sidecars.shutdown().await;
    Ok(())
}

async fn sidecar(args: &Args, number: u32, counts: &Counts) -> Result<()> {
    let connection = connect(args.target, number).await.context("connect")?;
    let mut out = frames::open("ingest");
    let now = unix_ms();
    frames::message(&mut out, hello(number, now));
    let mut seq = 1;
    frames::message(&mut out, report(seq, 1000, true));
    let mut link = Link {
        connection,
        received: Vec::new(),
        credit: Credit::default(),
    };
    link.credit.take(out.len());
    link.connection.write_all(&out).await?;
    let mut answered = 0;
    // The answer to the hello, and the first acknowledgement.
    while answered < 2 {
        answered += link.exchange().await?;
    }
    counts.connected.fetch_add(1, Ordering::Relaxed);
    counts.acknowledged.fetch_add(1, Ordering::Relaxed);
    let phase = Duration::from_millis(u64::from(number.wrapping_mul(7919) % 1000));
    let mut ticks = tokio::time::interval_at(
        tokio::time::Instant::from_std(clock::now()) + phase,
        Duration::from_secs(1),
    );
    loop {
        if !args.saturate {
            tokio::select! {
                _ = ticks.tick() => {}
                // Pings come between reports.
                exchanged = link.exchange() => {
                    exchanged?;
                    ticks.tick().await;
                }
            }
        }
        seq += 1;
        out.clear();
        frames::message(&mut out, report(seq, 1000, false));
        while !link.credit.take(out.len()) {
            link.exchange().await?;
        }
        link.connection.write_all(&out).await?;
        while link.exchange().await? == 0 {}
        counts.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

async fn connect(target: SocketAddr, number: u32) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last = u8::try_from(2 + number % SOURCES)?;
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
    let connection = socket.connect(target).await?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

/// A connection of one sidecar.
struct Link {
    connection: TcpStream,
    received: Vec<u8>,
    credit: Credit,
}

impl Link {
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
            self.connection.write_all(&answers).await?;
        }
        Ok(messages)
    }
}

fn hello(number: u32, now: u64) -> v1::sidecar_frame::Frame {
    let labels =
        [("app", "jazz"), ("version", "v1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    v1::sidecar_frame::Frame::Hello(v1::Hello {
        identity: Some(v1::Identity {
            namespace: "prod".to_owned(),
            pod: format!("jazz-v1-7d9c8b6f5-{number:05}"),
            pod_uid: format!("00000000-0000-4000-8000-{number:012}"),
            node: "ip-10-0-1-23.eu-west-1.compute.internal".to_owned(),
            labels: labels.into_iter().collect(),
        }),
        instance: u64::from(number) + 1,
        process: u64::from(number) + 1,
        scope: v1::CounterScope::Process.into(),
        started_at_unix_ms: now - 5_000,
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
