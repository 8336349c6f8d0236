//! What remote write costs.
//!
//! Encoding, compressing and signing takes turns with bare prost and Snappy on the same samples, in
//! one thread, so that what else the machine does hits both. Then the same samples again and again
//! while memory is looked at, the queue on disk, and the whole way into a real Prometheus.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aggregator_remote_write::batch::{Batch, Kind, SHARDS};
use aggregator_remote_write::encoder::{Encoder, SAMPLES_PER_BATCH_MAX, SeriesLabels};
use aggregator_remote_write::endpoint::Endpoint;
use aggregator_remote_write::metrics::Metrics;
use aggregator_remote_write::protocol::Version;
use aggregator_remote_write::queue::{Limits, Queue};
use aggregator_remote_write::receiver::{Auth, HttpReceiver};
use aggregator_remote_write::sender::{Sender, Settings};
use aggregator_remote_write::write_request::{Label, Sample, TimeSeries, WriteRequest};
use anyhow::{Context as _, Result, ensure};
use aws_credential_types::Credentials;
use common_aws::signer::Signer;
use prost::Message as _;
use tempfile::TempDir;
use tests_support::clock;
use tests_support::prometheus::Prometheus;
use tokio_util::sync::CancellationToken;

use crate::{optimised, usage};
use report::Report;

mod report;

/// Series of a flush: 2,500 pods with eight each.
const SERIES: usize = 20_000;
/// Flushes of each side of the comparison.
const ROUNDS: u32 = 60;
/// Flushes that memory is looked at over: ten million samples.
const MEMORY_FLUSHES: i64 = 500;
/// Flushes through the queue on disk.
const QUEUE_FLUSHES: i64 = 60;
/// Flushes into Prometheus, as fast as it takes them.
const SENT_FLUSHES: i64 = 40;
const INTERVAL_MS: i64 = 15_000;
const URL: &str =
    "https://aps-workspaces.us-east-1.amazonaws.com/workspaces/ws-0/api/v1/remote_write";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// Measures and prints; fails if a limit is exceeded.
pub(crate) async fn run(args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        return optimised::run(&[]);
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let labels = labels();
    let series = series(&labels)?;
    eprintln!("{ROUNDS} rounds of {SERIES} samples each way ...");
    let (ours, bare) = compare(&series, &labels)?;
    eprintln!("{MEMORY_FLUSHES} flushes ...");
    let (early, late) = memory(&series)?;
    eprintln!("the queue on disk ...");
    let (append, replay, bytes) = queue(&series)?;
    eprintln!("a real Prometheus ...");
    let sent = send(&series).await?;
    let samples = f64::from(ROUNDS) * real(SERIES);
    let report = Report {
        samples_per_round: SERIES,
        encode_sign_ns_per_sample: ours / samples,
        bare_ns_per_sample: bare / samples,
        cpu_ratio: ours / bare,
        resident_early_bytes: early,
        resident_late_bytes: late,
        bytes_per_sample: bytes,
        append_samples_per_second: append,
        replay_samples_per_second: replay,
        sent_samples_per_second: sent.rate,
        sender_cpu_share: sent.sender,
        prometheus_cpu_share: sent.prometheus,
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    ensure!(report.is_within_limits(), "a limit was exceeded");
    Ok(())
}

/// Labels as the aggregator writes them.
fn labels() -> Vec<Vec<(String, String)>> {
    let of = |i: usize| {
        let (pod, own) = (i / 8, i % 8);
        let deployment = pod / 20;
        let name = if own == 0 { "total" } else { "xx" };
        let mut labels = vec![
            ("__name__", format!("envoy_cluster_upstream_rq_{name}")),
            ("cluster", "eks-production-eu-west-1".to_owned()),
            (
                "envoy_cluster_name",
                format!("cds_ingress_mesh_svc-{deployment}_http_8080_{}", own / 6),
            ),
            ("envoy_response_code_class", own.to_string()),
            (
                "kubernetes_pod_name",
                format!("svc-{deployment}-7d9c5b8f6d-{pod:05x}"),
            ),
            ("namespace", format!("team-{}", deployment % 17)),
            ("service", format!("svc-{deployment}")),
            ("traffic_direction", "inbound".to_owned()),
        ];
        labels.sort_unstable();
        labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    };
    (0..SERIES).map(of).collect()
}

fn series(labels: &[Vec<(String, String)>]) -> Result<Vec<SeriesLabels>> {
    let of = |labels: &Vec<(String, String)>| {
        let name = labels
            .iter()
            .find(|(name, _)| name == "__name__")
            .context("a name")?;
        let rest = labels.iter().filter(|(name, _)| name != "__name__");
        let rest = rest.map(|(name, value)| (name.as_str(), value.as_str()));
        Ok(SeriesLabels::new(&name.1, rest)?)
    };
    labels.iter().map(of).collect()
}

/// Nanoseconds of CPU that all rounds took: ours, and bare prost and Snappy.
fn compare(series: &[SeriesLabels], labels: &[Vec<(String, String)>]) -> Result<(f64, f64)> {
    let mut requests = requests(labels);
    let signer = Signer::amp("us-east-1");
    let credentials = Credentials::from_keys("AKIDEXAMPLE", "secret", Some("token".to_owned()));
    let (mut ours, mut bare) = (0, 0);
    for round in 0..ROUNDS {
        let timestamp = 1_700_000_000_000 + i64::from(round) * INTERVAL_MS;
        let before = cpu()?;
        for batch in flush(series, timestamp)? {
            signer.sign(URL, &batch.body, &credentials, SystemTime::UNIX_EPOCH)?;
        }
        let between = cpu()?;
        for request in &mut requests {
            for series in &mut request.timeseries {
                series.samples[0].timestamp = timestamp;
                series.samples[0].value += 1.0;
            }
            let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec())?;
            std::hint::black_box(body);
        }
        ours += between - before;
        bare += cpu()? - between;
    }
    Ok((real_ns(ours), real_ns(bare)))
}

fn requests(labels: &[Vec<(String, String)>]) -> Vec<WriteRequest> {
    let of = |labels: &Vec<(String, String)>| TimeSeries {
        labels: labels
            .iter()
            .map(|(name, value)| Label {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
        samples: vec![Sample::default()],
    };
    labels
        .chunks(SAMPLES_PER_BATCH_MAX)
        .map(|chunk| WriteRequest {
            timeseries: chunk.iter().map(of).collect(),
        })
        .collect()
}

fn flush(series: &[SeriesLabels], timestamp: i64) -> Result<Vec<Batch>> {
    let mut encoders: Vec<_> = (0..SHARDS)
        .map(|shard| Encoder::new(shard, Kind::Plain, timestamp))
        .collect();
    let value = real_ms(timestamp);
    for labels in series {
        let shard = usize::from(labels.shard(SHARDS));
        encoders
            .get_mut(shard)
            .context("a shard")?
            .push(labels, value)?;
    }
    let batches: Vec<Vec<Batch>> = encoders
        .into_iter()
        .map(Encoder::finish)
        .collect::<Result<_, _>>()?;
    Ok(batches.concat())
}

/// Resident bytes after a tenth of all samples went through the queue in memory, and after all.
fn memory(series: &[SeriesLabels]) -> Result<(u64, u64)> {
    let mut queue = Queue::in_memory(Limits::MEMORY);
    let mut early = 0;
    for nth in 0..MEMORY_FLUSHES {
        let timestamp = 1_700_000_000_000 + nth * INTERVAL_MS;
        queue.push(timestamp, flush(series, timestamp)?);
        drain(&mut queue);
        if nth == MEMORY_FLUSHES / 10 {
            early = usage::resident_bytes(std::process::id())?;
        }
    }
    Ok((early, usage::resident_bytes(std::process::id())?))
}

fn drain(queue: &mut Queue) -> u64 {
    let mut samples = 0;
    for shard in 0..SHARDS {
        while let Some((seq, batch)) = queue.front(shard) {
            samples += u64::from(batch.samples);
            queue.acknowledge(shard, seq);
        }
    }
    samples
}

/// Samples a second into the queue on disk, one fsync a flush, and out of it after it was opened
/// anew; bytes a sample.
fn queue(series: &[SeriesLabels]) -> Result<(f64, f64, f64)> {
    let folder = TempDir::new()?;
    let mut queue = Queue::open(folder.path(), Limits::DISK)?;
    let flushes: Vec<_> = (0..QUEUE_FLUSHES)
        .map(|nth| flush(series, 1_700_000_000_000 + nth * INTERVAL_MS))
        .collect::<Result<_>>()?;
    let samples = real(SERIES) * real_ms(QUEUE_FLUSHES);
    let begun = clock::now();
    for (nth, batches) in flushes.into_iter().enumerate() {
        queue.push(
            1_700_000_000_000 + i64::try_from(nth)? * INTERVAL_MS,
            batches,
        );
    }
    let append = samples / begun.elapsed().as_secs_f64();
    let bytes = real_ns(queue.waiting().bytes) / samples;
    ensure!(queue.totals().dropped() == 0, "the queue dropped samples");
    drop(queue);
    let begun = clock::now();
    let mut queue = Queue::open(folder.path(), Limits::DISK)?;
    let replayed = drain(&mut queue);
    let replay = samples / begun.elapsed().as_secs_f64();
    ensure!(
        replayed == queue.totals().recovered,
        "not everything was replayed"
    );
    ensure!(
        (real_ns(replayed) - samples).abs() < 0.5,
        "{replayed} of {samples} replayed"
    );
    Ok((append, replay, bytes))
}

struct Sent {
    rate: f64,
    sender: f64,
    prometheus: f64,
}

/// The whole way: queue, sender, HTTP, Prometheus. Flushes wait all at once, so that only the two
/// of them limit it.
async fn send(series: &[SeriesLabels]) -> Result<Sent> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = free.local_addr()?;
    drop(free);
    let receiver = ["--web.enable-remote-write-receiver"];
    let prometheus =
        Prometheus::start(address, "global: {scrape_interval: 1h}\n", &receiver).await?;
    let system = clock::system();
    let endpoint = Endpoint::new(&format!("http://{address}/api/v1/write"), None)?;
    let receiver = HttpReceiver::new(endpoint, Auth::None, None, system.clone())?;
    let limits = Limits {
        bytes: Limits::DISK.bytes,
        ..Limits::MEMORY
    };
    let settings = Settings {
        // Longer than all of it: nothing is late, so nothing is paced.
        interval: Duration::from_hours(1),
        version: Version::V1,
        gate: None,
    };
    let queue = Queue::in_memory(limits);
    let (counted, time) = (Metrics::default(), system.clone());
    let sender = Sender::new(queue, receiver, time, counted, settings, || 0.5);
    let now = i64::try_from(system.wall().0)?;
    for nth in 0..SENT_FLUSHES {
        let timestamp = now - (SENT_FLUSHES - nth) * 1_000;
        sender.push(timestamp, flush(series, timestamp)?);
    }
    let (mine, theirs) = (
        std::process::id(),
        prometheus.pid().context("Prometheus ended")?,
    );
    let (before, before_theirs) = (usage::cpu_ns(mine)?, usage::cpu_ns(theirs)?);
    let begun = clock::now();
    let stop = CancellationToken::new();
    stop.cancel();
    Arc::clone(&sender).run(stop).await;
    let elapsed = begun.elapsed();
    let used = usage::cpu_ns(mine)?.saturating_sub(before);
    let used_theirs = usage::cpu_ns(theirs)?.saturating_sub(before_theirs);
    let waiting = sender.with_queue(|queue| (queue.waiting().samples, queue.totals().dropped()));
    ensure!(waiting == (0, 0), "left or dropped: {waiting:?}");
    let count = prometheus.value("count({__name__=~\"envoy.*\"})").await?;
    ensure!(
        count == Some(real(SERIES)),
        "{count:?} series in Prometheus"
    );
    let nanos = elapsed.as_secs_f64() * 1e9;
    Ok(Sent {
        rate: real(SERIES) * real_ms(SENT_FLUSHES) / elapsed.as_secs_f64(),
        sender: real_ns(used) / nanos,
        prometheus: real_ns(used_theirs) / nanos,
    })
}

fn cpu() -> Result<u64> {
    usage::cpu_ns(std::process::id())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn real(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn real_ms(count: i64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn real_ns(count: u64) -> f64 {
    count as f64
}
