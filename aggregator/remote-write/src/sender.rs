//! Sends the queue to the receiver: one task per shard, one request in flight each, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common_time::{Clock, UnixMillis};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, SINGLE};
use crate::isolation::Isolation;
use crate::metrics::{Metrics, ReasonLabel};
use crate::protocol::{Protocol, Version};
use crate::queue::Queue;
use crate::rate_limiter::RateLimiter;
use crate::receiver::Receiver;
use crate::retry::Retry;
use crate::sender::lag::Lag;
use crate::sub_batch::SubBatch;
use crate::write_response::{Class, WriteResponse};

mod delivery;
mod lag;

#[cfg(test)]
mod tests;

/// Largest flush for one shard: eight requests, half a second at 60 ms each.
const SINGLE_SAMPLES_MAX: u64 = 16_000;

/// Pending batches beyond which one shard does not keep up.
const SINGLE_BATCHES_MAX: usize = 32;

/// How often the queue's limits are enforced and its cursor is saved.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between log lines about the same class of response, in seconds.
const WARN_SECONDS: f64 = 30.0;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between flushes: batches older than two of them are being caught up.
    pub interval: Duration,
    /// The version of the protocol to begin with.
    pub version: Version,
    /// True while this replica may send; `None` means always.
    pub gate: Option<watch::Receiver<bool>>,
}

pub struct Sender<R> {
    queue: Mutex<Queue>,
    receiver: R,
    rate_limiter: Mutex<RateLimiter>,
    /// Held while a shard waits for the rate limiter; its queue is fair, so no shard starves.
    turn: tokio::sync::Mutex<()>,
    clock: Clock,
    metrics: Metrics,
    settings: Settings,
    protocol: Protocol,
    /// Timestamp of the newest flush, Unix milliseconds; shards wait for it to change.
    newest: watch::Sender<i64>,
    /// Number of finished batches; a shard that waits for others waits for it to change.
    completed: watch::Sender<u64>,
    isolation: Mutex<Isolation>,
    /// The last stored sub-batch, for a probe.
    last_stored: Mutex<Option<SubBatch>>,
    lag: Mutex<Lag>,
    last_flush_samples: AtomicU64,
    last_warning: Mutex<Option<(Class, f64)>>,
    jitter: fn() -> f64,
}

impl<R> std::fmt::Debug for Sender<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

// === impl Sender ===

impl<R: Receiver> Sender<R> {
    /// A sender of `queue`. `jitter` draws from 0..1.
    pub fn new(
        queue: Queue,
        receiver: R,
        clock: Clock,
        metrics: Metrics,
        settings: Settings,
        jitter: fn() -> f64,
    ) -> Arc<Self> {
        metrics.damaged.inc_by(queue.totals().damaged_bytes);
        let now = seconds(clock.now().0);
        let lag = Lag::new(now, queue.last_flush());
        Arc::new(Self {
            queue: Mutex::new(queue),
            receiver,
            rate_limiter: Mutex::new(RateLimiter::new(now)),
            turn: tokio::sync::Mutex::default(),
            clock,
            metrics,
            protocol: Protocol::new(settings.version),
            settings,
            newest: watch::Sender::new(0),
            completed: watch::Sender::new(0),
            isolation: Mutex::new(Isolation::new(now)),
            last_stored: Mutex::default(),
            lag: Mutex::new(lag),
            last_flush_samples: AtomicU64::new(0),
            last_warning: Mutex::default(),
            jitter,
        })
    }

    pub fn receiver(&self) -> &R {
        &self.receiver
    }

    /// Adds a flush to the queue, durable when this returns. Blocks on the disk.
    pub fn push(&self, timestamp: i64, batches: Vec<Batch>) {
        let samples: u64 = batches.iter().map(|batch| u64::from(batch.samples)).sum();
        self.rate_limiter.lock().pushed(self.now(), samples);
        self.lag.lock().flushed(timestamp, self.now());
        self.last_flush_samples.store(samples, Ordering::Relaxed);
        let now = self.oldest_clock();
        self.queue.lock().push(now, batches);
        self.metrics.flushes.inc();
        self.metrics.pushed.inc_by(samples);
        self.metrics.highest_pushed.set(real_seconds(timestamp));
        self.observe();
        self.newest.send_replace(timestamp);
    }

    /// True if the next flush should use several shards: the last one was large, or the queue
    /// grows.
    pub fn wants_parallel(&self) -> bool {
        self.last_flush_samples.load(Ordering::Relaxed) > SINGLE_SAMPLES_MAX
            || self.queue.lock().waiting().batches > SINGLE_BATCHES_MAX
    }

    /// Runs `work` on the queue. Blocks on the disk.
    pub fn with_queue<T>(&self, work: impl FnOnce(&mut Queue) -> T) -> T {
        work(&mut self.queue.lock())
    }

    /// Sends until `stop` is cancelled and the queue is empty, then saves the cursor. Dropping it
    /// earlier is safe: batches without a response are sent again after the next start.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut shards = tokio::task::JoinSet::new();
        for shard in 0..=SINGLE {
            shards.spawn(Arc::clone(&self).run_shard(shard, stop.clone()));
        }
        let mut ticks = tokio::time::interval(MAINTENANCE_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ended = shards.join_next() => match ended {
                    None => break,
                    Some(Err(error)) => tracing::error!(%error, "remote write: shard stopped"),
                    Some(Ok(())) => {}
                },
                _ = ticks.tick() => {
                    self.blocking(Self::maintain).await;
                }
            }
        }
        self.blocking(Self::maintain).await;
    }

    /// Enforces the queue's limits and saves its cursor. Blocks on the disk.
    pub fn maintain(&self) {
        let now = self.oldest_clock();
        let mut queue = self.queue.lock();
        queue.enforce(now);
        if let Err(error) = queue.save_cursor() {
            self.metrics.disk_errors.inc();
            tracing::warn!(%error, "remote write: cannot save the cursor; some samples may be sent again");
        }
        drop(queue);
        self.observe();
    }

    async fn run_shard(self: Arc<Self>, shard: u16, stop: CancellationToken) {
        let mut newest = self.newest.subscribe();
        let mut retry = Retry::default();
        loop {
            let front = self
                .blocking(move |sender| sender.queue.lock().front(shard))
                .await;
            if let Some((seq, batch)) = front.flatten() {
                if !self.gate_opened(&stop).await {
                    return;
                }
                if !self.await_others(shard, seq).await {
                    continue;
                }
                if self.send_batch(shard, seq, batch, &mut retry).await {
                    self.blocking(move |sender| sender.queue.lock().acknowledge(shard, seq))
                        .await;
                    self.completed.send_modify(|done| *done += 1);
                }
                continue;
            }
            if stop.is_cancelled() {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                changed = newest.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Waits until older batches of other shards are sent. False if the batch was dropped
    /// meanwhile.
    async fn await_others(&self, shard: u16, seq: u64) -> bool {
        // A series moves between the single shard and its hash shard when the size of flushes
        // changes; the receiver refuses its samples out of order.
        let mut done = self.completed.subscribe();
        loop {
            done.mark_unchanged();
            let turn = {
                let queue = self.queue.lock();
                if !queue.is_front(shard, seq) {
                    return false;
                }
                let others = (0..=SINGLE).filter(|other| (*other == SINGLE) != (shard == SINGLE));
                others
                    .filter_map(|other| queue.front_seq(other))
                    .all(|first| first > seq)
            };
            if turn {
                return true;
            }
            // A batch that is dropped from another shard changes no counter: hence the timeout.
            let _ = tokio::time::timeout(MAINTENANCE_INTERVAL, done.changed()).await;
        }
    }

    /// Waits until the gate opens; false if `stop` is cancelled first.
    async fn gate_opened(&self, stop: &CancellationToken) -> bool {
        let Some(mut gate) = self.settings.gate.clone() else {
            return true;
        };
        tokio::select! {
            biased;
            opened = gate.wait_for(|open| *open) => opened.is_ok(),
            () = stop.cancelled() => false,
        }
    }

    /// Waits until the gate closes.
    async fn gate_closed(&self) {
        match self.settings.gate.clone() {
            Some(mut gate) => {
                let _ = gate.wait_for(|open| !*open).await;
            }
            None => std::future::pending().await,
        }
    }

    fn update_highest_sent(&self, timestamp: i64) {
        let sent = real_seconds(timestamp);
        if sent > self.metrics.highest_sent.get() {
            self.metrics.highest_sent.set(sent);
        }
    }

    /// Logs the receiver's error text, at most once per [`WARN_SECONDS`] and class.
    fn warn(&self, response: &WriteResponse) {
        let class = response.class();
        if matches!(class, Class::Stored | Class::Deduplicated) {
            return;
        }
        let now = self.now();
        let mut last_warning = self.last_warning.lock();
        let quiet = last_warning.is_some_and(|(last, at)| last == class && now - at < WARN_SECONDS);
        if quiet {
            return;
        }
        *last_warning = Some((class, now));
        let code = response.code();
        tracing::warn!(
            code,
            class = class.as_str(),
            receiver = response.text(),
            "remote write: receiver rejected samples"
        );
    }

    /// Updates the gauges, and the counters whose totals the queue keeps.
    fn observe(&self) {
        let queue = self.queue.lock();
        let waiting = queue.waiting();
        let metrics = &self.metrics;
        metrics
            .pending_samples
            .set(i64::try_from(waiting.samples).unwrap_or(i64::MAX));
        metrics
            .pending_bytes
            .set(i64::try_from(waiting.bytes).unwrap_or(i64::MAX));
        let oldest = waiting.oldest.map_or(0.0, real_seconds);
        metrics.oldest_pending.set(oldest);
        let wall = seconds(self.clock.wall().0);
        let lag = self.lag.lock().seconds(waiting.first, self.now(), wall);
        metrics.lag.set(lag);
        let isolation = self.isolation.lock();
        let aside = i64::try_from(isolation.aside()).unwrap_or(i64::MAX);
        metrics.series_aside.set(aside);
        let overflowed = isolation.overflowed();
        drop(isolation);
        metrics
            .aside_overflowed
            .inc_by(overflowed.saturating_sub(metrics.aside_overflowed.get()));
        metrics.skew.set(self.receiver.clock_skew());
        for (reason, total) in &queue.totals().dropped {
            let counter = metrics.dropped.get_or_create_owned(&ReasonLabel {
                reason: reason.as_str(),
            });
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        let errors = queue.totals().write_errors;
        metrics
            .disk_errors
            .inc_by(errors.saturating_sub(metrics.disk_errors.get()));
    }

    /// Runs `work`, which may block on the disk, outside the async workers.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let sender = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&sender)).await {
            Ok(done) => Some(done),
            Err(error) => {
                tracing::error!(%error, "remote write: a task on the queue failed");
                None
            }
        }
    }

    /// Monotonic time in seconds.
    fn now(&self) -> f64 {
        seconds(self.clock.now().0)
    }

    /// The receiver's estimated time in Unix milliseconds.
    fn receiver_millis(&self) -> f64 {
        (seconds(self.clock.wall().0) + self.receiver.clock_skew()) * 1e3
    }

    /// Our time or the receiver's, whichever is earlier, in Unix milliseconds: so a clock of ours
    /// that is far ahead drops no samples as too old.
    fn oldest_clock(&self) -> i64 {
        let ours = self.clock.wall();
        let behind = Duration::try_from_secs_f64(-self.receiver.clock_skew());
        signed(ours.before(behind.unwrap_or_default()))
    }
}

/// Counts a shard in the gauge of blocked shards until it is dropped.
struct Blocked<'a> {
    metrics: &'a Metrics,
    is: bool,
}

// === impl Blocked ===

impl<'a> Blocked<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        Self { metrics, is: false }
    }

    fn set(&mut self, is: bool) {
        if is != self.is {
            self.metrics.blocked.inc_by(if is { 1 } else { -1 });
            self.is = is;
        }
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}

fn signed(time: UnixMillis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 fit a double's 53 bits"
)]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1e3
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 fit a double's 53 bits"
)]
fn real_seconds(timestamp: i64) -> f64 {
    timestamp as f64 / 1e3
}
