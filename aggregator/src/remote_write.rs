//! Remote write: the receiver, the queue, and the clock that makes a flush of the store every interval.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aggregator_core::directory::{Directory, ServicePods};
use aggregator_core::pod::PodKey;
use aggregator_core::store::Store;
use aggregator_core::time::Clock;
use aggregator_remote_write::answer::Class;
use aggregator_remote_write::aws;
use aggregator_remote_write::block::Kind;
use aggregator_remote_write::encoder::{Encoder, SeriesLabels};
use aggregator_remote_write::metrics::Metrics;
use aggregator_remote_write::queue::{AMP_AGE_MAX, Limits, Queue};
use aggregator_remote_write::receiver::{Auth, HttpReceiver, Receiver as _};
use aggregator_remote_write::sender::Sender;
use aggregator_remote_write::series::{About, Exporter};
use aggregator_remote_write::signer::Signer;
use anyhow::{Context as _, Result, bail};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::config::{AuthConfig, RemoteWriteConfig};

/// Bytes of a file of the queue.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes held in memory while the disk does not take them.
const MEMORY_BYTES: u64 = 64 * 1024 * 1024;

/// Writes the store to a receiver.
pub(crate) struct RemoteWrite {
    store: Arc<Store>,
    directory: Arc<Directory>,
    clock: Clock,
    interval: Duration,
    pod_labels: Vec<String>,
    exporter: Exporter,
    sender: Arc<Sender<HttpReceiver>>,
    metrics: Metrics,
}

// === impl RemoteWrite ===

impl RemoteWrite {
    /// Opens the queue and makes the client. Nothing is sent yet.
    pub(crate) async fn new(
        config: RemoteWriteConfig,
        store: Arc<Store>,
        directory: Arc<Directory>,
        clock: Clock,
        registry: &mut Registry,
    ) -> Result<Self> {
        let receiver = receiver(&config, &clock).await?;
        let limits = Limits {
            bytes: config.queue_bytes,
            memory_bytes: MEMORY_BYTES.min(config.queue_bytes),
            age: Some(AMP_AGE_MAX),
            segment_bytes: SEGMENT_BYTES,
        };
        let queue = match &config.queue_dir {
            None => Queue::in_memory(limits),
            Some(folder) => Queue::open(folder, limits).with_context(|| {
                format!(
                    "--remote-write-queue-dir {}: cannot be used",
                    folder.display()
                )
            })?,
        };
        let metrics = Metrics::register(registry);
        let url = config.endpoint.url();
        tracing::info!(
            url,
            interval_s = config.interval.as_secs(),
            "remote write begins"
        );
        let sender = Sender::new(
            queue,
            receiver,
            Arc::clone(&clock),
            metrics.clone(),
            config.interval,
            rand::random::<f64>,
        );
        Ok(Self {
            pod_labels: config.naming.pod_labels.clone(),
            exporter: Exporter::new(config.naming, clock()),
            store,
            directory,
            clock,
            interval: config.interval,
            sender,
            metrics,
        })
    }

    /// Flushes and sends until `stop`; then once more, and sends what waits for at most `drain`. What is not sent by
    /// then stays in the queue, if that is on disk.
    pub(crate) async fn run(mut self, stop: CancellationToken, drain: Duration) {
        let ending = CancellationToken::new();
        let sending = tokio::spawn(Arc::clone(&self.sender).run(ending.clone()));
        let interval = millis(self.interval);
        let mut last = 0;
        loop {
            let now = signed((self.clock)().0);
            // No receiver takes samples out of order: after a step back of the clock it waits for the time of before.
            let next = ((now / interval + 1) * interval).max(last + interval);
            let wait = Duration::from_millis(u64::try_from(next - now).unwrap_or(0));
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
            self = self.flush(next, interval).await;
            last = next;
        }
        let now = signed((self.clock)().0).max(last + 1);
        let sender = Arc::clone(&self.sender);
        drop(self.flush(now, interval).await);
        ending.cancel();
        if tokio::time::timeout(drain, sending).await.is_err() {
            tracing::warn!("remote write: not everything was sent before the end");
            sender.keep_house();
        }
    }

    /// Off the async threads: the store is large, and the disk may be slow.
    async fn flush(mut self, timestamp: i64, interval: i64) -> Self {
        let flushed = tokio::task::spawn_blocking(move || {
            let pods = self.store.inspect((self.clock)());
            let services = services(&self.directory);
            let (directory, keys) = (Arc::clone(&self.directory), self.pod_labels.clone());
            let about = |pod: &PodKey| about(&directory, &services, &keys, pod);
            let before = self.exporter.refused();
            let blocks = self.exporter.flush(timestamp, interval, &pods, about);
            self.metrics.count_refused(self.exporter.refused() - before);
            self.sender.push(timestamp, blocks);
            self
        });
        match flushed.await {
            Ok(this) => this,
            // It cannot go on without its state; the process is restarted.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
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
            // On the heap: the SDK's future is large, and would be part of ours for good.
            credentials: Box::pin(aws::credentials(&region, role.as_deref())).await,
        },
    };
    let (endpoint, ca) = (config.endpoint.clone(), config.ca.as_deref());
    HttpReceiver::new(endpoint, auth, ca, Arc::clone(clock)).context("--remote-write-ca-file")
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

fn about(
    directory: &Directory,
    services: &BTreeMap<PodKey, String>,
    keys: &[String],
    pod: &PodKey,
) -> About {
    let labels = if keys.is_empty() {
        Vec::new()
    } else {
        let known = directory.get(pod).map(|info| info.labels);
        let value = |key: &String| known.as_ref().and_then(|labels| labels.get(key)).cloned();
        keys.iter()
            .map(|key| value(key).unwrap_or_default())
            .collect()
    };
    About {
        service: services.get(pod).cloned().unwrap_or_default(),
        labels,
    }
}

/// Signs and sends one sample, and says what the receiver thinks of it.
pub async fn check(config: &RemoteWriteConfig, clock: &Clock) -> Result<String> {
    let receiver = receiver(config, clock).await?;
    let external = &config.naming.external_labels;
    let labels = external
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let labels = SeriesLabels::new("meshmeter_remote_write_check", labels)?;
    let mut encoder = Encoder::new(0, Kind::Plain, signed(clock().0));
    encoder.push(&labels, 1.0)?;
    let blocks = encoder.finish()?;
    let block = blocks.first().context("no block")?;
    let answer = receiver.send(block.body.clone(), 0).await;
    let url = config.endpoint.url();
    let said = match answer.text() {
        "" => String::new(),
        text => format!("; the receiver says: {text}"),
    };
    let skew = receiver.clock_skew();
    match answer.class() {
        Class::Stored => Ok(format!(
            "{url}: one sample of meshmeter_remote_write_check was stored"
        )),
        Class::Deduplicated => Ok(format!(
            "{url}: answered, and another replica's samples are stored at the moment"
        )),
        class => bail!(
            "{url}: not stored ({}){said}\n{}",
            class.as_str(),
            explained(class, answer.text(), skew, config)
        ),
    }
}

/// What to do about it.
fn explained(class: Class, text: &str, skew: f64, config: &RemoteWriteConfig) -> String {
    if skew.abs() > 300.0 {
        return format!(
            "The receiver's clock is {skew:.0} s ahead of this machine's: AWS takes requests within 300 s. Set the clock."
        );
    }
    let lower = text.to_lowercase();
    match class {
        Class::Unauthorised if lower.contains("credential should be scoped") || lower.contains("region") => {
            "The request is signed for another region than the workspace's: give --remote-write-region.".to_owned()
        }
        Class::Unauthorised if lower.contains("signature") => {
            "The signature is not that of the key: check the secret key, and that no proxy changes the request.".to_owned()
        }
        Class::Unauthorised if lower.contains("no aws credentials") => {
            "None of environment, profile, service account, Pod Identity and instance has credentials.".to_owned()
        }
        Class::Unauthorised if matches!(config.auth, AuthConfig::SigV4 { .. }) => {
            "Check that the role has aps:RemoteWrite for this workspace, the workspace id, and the role's trust.".to_owned()
        }
        Class::Unauthorised => "Check user, password or token.".to_owned(),
        Class::Misdirected => "There is no receiver at this path: check the URL and the workspace id.".to_owned(),
        Class::Failed => "The receiver cannot be reached or failed: check the host, the network and its health.".to_owned(),
        _ => "The receiver was reached and refused the sample.".to_owned(),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
