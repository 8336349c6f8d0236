//! Remote write: wires receiver, queue and sender, and flushes the store every interval.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aggregator_core::pod::PodKey;
use aggregator_core::query::{Metric, MetricQuery, Milli, WindowChoice};
use aggregator_core::store::Store;
use aggregator_directory::{Directory, ServicePods};
use aggregator_remote_write::metrics::Metrics;
use aggregator_remote_write::queue::{Limits, MEMORY_BYTES, Queue};
use aggregator_remote_write::receiver::{Auth, HttpReceiver};
use aggregator_remote_write::sender::{Sender, Settings};
use aggregator_remote_write::series::{Exporter, Flush, Output, SeriesMetadata};
use anyhow::{Context as _, Result};
use common_aws::chain;
use common_aws::signer::Signer;
use common_budget::Size;
use common_kubernetes::Lease;
use common_time::{Clock, Monotonic, UnixMillis};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::config::{AuthConfig, RemoteWriteConfig};
use crate::remote_write::writer::{LeadershipChange, Writer};

mod check;
mod schedule;
mod writer;

pub use check::check;

pub(crate) struct RemoteWrite {
    store: Arc<Store>,
    directory: Arc<Directory>,
    clock: Clock,
    interval: Duration,
    pod_labels: Vec<String>,
    exporter: Exporter,
    sender: Arc<Sender<HttpReceiver>>,
    metrics: Metrics,
    writer: Writer,
}

/// A Lease by which one replica writes.
pub(crate) struct OneWriter {
    pub(crate) client: kube::Client,
    pub(crate) lease: Lease,
}

/// Opens the queue, on disk if a folder is configured, within `memory`.
fn open_queue(config: &RemoteWriteConfig, memory: Size) -> Result<Queue> {
    let memory_bytes = MEMORY_BYTES.min(memory.get());
    let limits = Limits {
        bytes: match &config.queue_dir {
            Some(_) => config.queue_bytes,
            None => config.queue_bytes.min(memory_bytes),
        },
        memory_bytes: memory_bytes.min(config.queue_bytes),
        ..Limits::DISK
    };
    if limits.bytes < config.queue_bytes {
        tracing::warn!(
            limit_bytes = limits.bytes,
            "the remote-write queue in memory is smaller than --remote-write-queue-mib: the memory budget has no more \
             for it; give --remote-write-queue-dir, or raise --memory-limit"
        );
    }
    match &config.queue_dir {
        None => Ok(Queue::in_memory(limits)),
        Some(folder) => Queue::open(folder, limits).with_context(|| {
            format!(
                "--remote-write-queue-dir {}: cannot be used",
                folder.display()
            )
        }),
    }
}

// === impl RemoteWrite ===

impl RemoteWrite {
    /// Opens the queue and creates the client. Sends nothing yet.
    pub(crate) async fn new(
        config: RemoteWriteConfig,
        store: Arc<Store>,
        directory: Arc<Directory>,
        clock: Clock,
        one_writer: Option<OneWriter>,
        memory: Size,
        registry: &mut Registry,
    ) -> Result<Self> {
        let receiver = receiver(&config, &clock).await?;
        let queue = open_queue(&config, memory)?;
        let metrics = Metrics::register(registry);
        let url = config.endpoint.url();
        let interval = config.interval;
        tracing::info!(url, interval_s = interval.as_secs(), "remote write begins");
        let exporter = exporter(&config, &queue, &clock);
        let (mut writer, gate) = Writer::new(one_writer.is_some());
        if let Some(OneWriter { client, lease }) = one_writer {
            writer.keep(client, lease);
        }
        let settings = Settings {
            interval,
            version: config.version,
            gate,
        };
        let (sender_clock, sender_metrics) = (clock.clone(), metrics.clone());
        let sender = Sender::new(
            queue,
            receiver,
            sender_clock,
            sender_metrics,
            settings,
            rand::random::<f64>,
        );
        Ok(Self {
            pod_labels: config.naming.pod_labels.clone(),
            exporter,
            store,
            directory,
            clock,
            interval,
            sender,
            metrics,
            writer,
        })
    }

    /// Flushes and sends until `stop`; then flushes once more and sends for at most `drain`. Unsent
    /// batches stay in a queue on disk.
    pub(crate) async fn run(mut self, stop: CancellationToken, drain: Duration) {
        let stop_sending = CancellationToken::new();
        let sending = tokio::spawn(Arc::clone(&self.sender).run(stop_sending.clone()));
        let interval = millis(self.interval);
        let mut last = self
            .sender
            .with_queue(|queue| queue.last_flush())
            .unwrap_or(0);
        loop {
            let now = signed(self.clock.wall().0);
            let next = schedule::next_flush(now, interval, last);
            let wait = Duration::from_millis(u64::try_from(next - now).unwrap_or(0));
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
                change = self.writer.leadership_change() => {
                    self.apply(change);
                    continue;
                }
            }
            let now = signed(self.clock.wall().0);
            let Some(timestamp) = schedule::due(now, interval, next) else {
                continue;
            };
            self = self.flush(timestamp, interval).await;
            last = timestamp;
        }
        let now = schedule::ending(signed(self.clock.wall().0), interval, last);
        let sender = Arc::clone(&self.sender);
        let ended = self.flush(now, interval).await;
        stop_sending.cancel();
        if tokio::time::timeout(drain, sending).await.is_err() {
            tracing::warn!("remote write: not everything was sent before the end");
            sender.maintain();
        }
        ended.writer.release().await;
    }

    /// Opens or closes the gate of the sender.
    fn apply(&self, change: LeadershipChange) {
        match change {
            LeadershipChange::Leads => self.writer.open(),
            LeadershipChange::Unknown => self.writer.shut(),
            LeadershipChange::Follows { first } => {
                self.writer.shut();
                if first {
                    // The new leader writes the same totals.
                    self.sender.with_queue(Queue::discard_pending);
                }
            }
        }
    }

    fn save_checkpoint(&self) {
        // Before the flush is durable: a sum that was written must never be above the one that a
        // restart resumes with.
        if !self.sender.with_queue(|queue| queue.is_on_disk()) {
            return;
        }
        let Some(state) = self.exporter.checkpoint() else {
            return;
        };
        if let Err(error) = self.sender.with_queue(|queue| queue.save_state(&state)) {
            tracing::warn!(%error, "remote write: cannot write the checkpoint of sums");
        }
    }

    fn save_written(&mut self) {
        // Before the flush is durable: after a restart no series that was written counts as new.
        let Some(written) = self.exporter.written() else {
            return;
        };
        let saved = self.sender.with_queue(|queue| queue.save_written(&written));
        if let Err(error) = saved {
            tracing::warn!(%error, "remote write: cannot save the list of series written; after a kill some may lack the 0 before their first sample");
        }
    }

    /// Flushes the store into the queue.
    async fn flush(mut self, timestamp: i64, interval: i64) -> Self {
        // Off the async workers: the store is large, and the disk may be slow.
        let flushed = tokio::task::spawn_blocking(move || {
            let now = self.clock.both();
            let pods = self.store.inspect(now.monotonic);
            let services = services(&self.directory);
            let (directory, keys) = (Arc::clone(&self.directory), self.pod_labels.clone());
            let metadata = |pod: &PodKey| metadata(&directory, &services, &keys, pod);
            let before = self.exporter.refused();
            let batches = self.exporter.flush(&Flush {
                now,
                timestamp,
                interval,
                parallel: self.sender.wants_parallel(),
                pods: &pods,
                metadata: &metadata,
                rate: &|pod| rate(&self.store, self.clock.now(), pod),
            });
            self.metrics.count_refused(self.exporter.refused() - before);
            if !self.writer.is_follower() {
                self.save_checkpoint();
                self.save_written();
                self.sender.push(timestamp, batches);
            }
            self
        });
        match flushed.await {
            Ok(done) => done,
            // The state went with the panicked task; the process ends and is restarted.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// The exporter, resumed from the state beside a queue on disk.
fn exporter(config: &RemoteWriteConfig, queue: &Queue, clock: &Clock) -> Exporter {
    let last = queue.last_flush().and_then(|last| u64::try_from(last).ok());
    let mut exporter = Exporter::new(
        config.naming.clone(),
        last.map_or_else(|| clock.wall(), UnixMillis),
    );
    if let (Output::PerPod, Some(last)) = (config.naming.output, queue.last_flush()) {
        resume(&mut exporter, queue, last);
    }
    if config.naming.output == Output::Summed {
        match queue.state() {
            Ok(Some(state)) if !exporter.restore(&state) => {
                tracing::warn!("remote write: the checkpoint of sums is damaged; sums begin at 0");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "remote write: cannot read the checkpoint of sums; sums begin at 0");
            }
        }
    }
    exporter
}

/// Resumes with the list of series that the previous process wrote.
fn resume(exporter: &mut Exporter, queue: &Queue, last: i64) {
    let intact = match queue.written() {
        Ok(Some(written)) => exporter.resume(&written, last),
        Ok(None) => true,
        Err(error) => {
            tracing::warn!(%error, "remote write: cannot read the list of series written");
            true
        }
    };
    if !intact {
        tracing::warn!(
            "remote write: the file `written` beside the queue is damaged; series that are new now have no 0 before their first sample"
        );
    }
}

fn rate(store: &Store, now: Monotonic, pod: &PodKey) -> Option<f64> {
    let query = MetricQuery {
        metric: Metric::RequestsPerSecond,
        direction: None,
        cluster: None,
        code_class: None,
        window: WindowChoice::default(),
    };
    let result = store.read(now, std::slice::from_ref(pod), &query);
    let reading = result.readings.first()?;
    Some(per_second(reading.value))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate is far below 2^53 thousandths"
)]
fn per_second(value: Milli) -> f64 {
    value.0 as f64 / 1e3
}

async fn receiver(config: &RemoteWriteConfig, clock: &Clock) -> Result<HttpReceiver> {
    let auth = match config.auth.clone() {
        AuthConfig::None => Auth::None,
        AuthConfig::Basic { user, file } => Auth::Basic {
            user,
            password_file: file,
        },
        AuthConfig::Bearer { file } => Auth::Bearer { token_file: file },
        AuthConfig::SigV4 { region, role } => Auth::SigV4 {
            signer: Signer::amp(&region),
            // On the heap: the SDK's future is large, and would enlarge ours for its lifetime.
            credentials: Box::pin(chain::credentials(&region, role.as_deref())).await,
        },
    };
    let (endpoint, ca) = (config.endpoint.clone(), config.ca.as_deref());
    HttpReceiver::new(endpoint, auth, ca, clock.clone()).context("--remote-write-ca-file")
}

/// The service of each pod; of several the first by name.
fn services(directory: &Directory) -> BTreeMap<PodKey, String> {
    let mut services = BTreeMap::new();
    for (namespace, name) in directory.service_keys() {
        if let ServicePods::Pods(pods) = directory.pods_of_service(&namespace, &name) {
            for pod in pods {
                services.entry(pod).or_insert_with(|| name.to_string());
            }
        }
    }
    services
}

fn metadata(
    directory: &Directory,
    services: &BTreeMap<PodKey, String>,
    keys: &[String],
    pod: &PodKey,
) -> SeriesMetadata {
    let labels = if keys.is_empty() {
        Vec::new()
    } else {
        let known = directory.get(pod).map(|info| info.labels);
        let value = |key: &String| known.as_ref().and_then(|labels| labels.get(key)).cloned();
        keys.iter()
            .map(|key| value(key).unwrap_or_default())
            .collect()
    };
    SeriesMetadata {
        service: services.get(pod).cloned().unwrap_or_default(),
        labels,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
