//! From the queue to the receiver: one task a shard, one request in flight each, in order.

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

/// Samples of a flush that one shard sends in eight requests: half a second, at 60 ms each.
const SINGLE_SAMPLES_MAX: u64 = 16_000;

/// Batches that wait while one shard sends; with more it does not keep up.
const SINGLE_BATCHES_MAX: usize = 32;

/// How often the queue's limits are kept and what was sent is written down.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

/// The same complaint of the receiver is logged once in so many seconds.
const COMPLAIN_SECONDS: f64 = 30.0;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between flushes: what is older than two of them is caught up.
    pub interval: Duration,
    /// The version of the protocol to begin with.
    pub version: Version,
    /// Whether anything may be sent at the moment; `None`: always.
    pub gate: Option<watch::Receiver<bool>>,
}

pub struct Sender<R> {
    queue: Mutex<Queue>,
    receiver: R,
    rate_limiter: Mutex<RateLimiter>,
    /// Who has it waits for the rate limiter; the others wait in a row, so that no shard is left
    /// behind.
    turn: tokio::sync::Mutex<()>,
    clock: Clock,
    metrics: Metrics,
    settings: Settings,
    protocol: Protocol,
    /// Timestamp of the newest flush, Unix milliseconds; shards wait for it to change.
    newest: watch::Sender<i64>,
    /// Batches that were answered for good; who waits for another shard waits for it to change.
    done: watch::Sender<u64>,
    /// What is refused while others are stored.
    isolation: Mutex<Isolation>,
    /// What was stored last, to see whether the receiver stores anything.
    good: Mutex<Option<SubBatch>>,
    lag: Mutex<Lag>,
    /// Samples of the last flush.
    flushed: AtomicU64,
    complained: Mutex<Option<(Class, f64)>>,
    jitter: fn() -> f64,
}

impl<R> std::fmt::Debug for Sender<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

// === impl Sender ===

impl<R: Receiver> Sender<R> {
    /// Sends what is and comes into `queue`. `jitter` draws from 0..1.
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
            done: watch::Sender::new(0),
            isolation: Mutex::new(Isolation::new(now)),
            good: Mutex::default(),
            lag: Mutex::new(lag),
            flushed: AtomicU64::new(0),
            complained: Mutex::default(),
            jitter,
        })
    }

    pub fn receiver(&self) -> &R {
        &self.receiver
    }

    /// Puts a flush into the queue. Durable when this returns. Blocks on the disk.
    pub fn push(&self, timestamp: i64, batches: Vec<Batch>) {
        let samples: u64 = batches.iter().map(|batch| u64::from(batch.samples)).sum();
        self.rate_limiter.lock().pushed(self.now(), samples);
        self.lag.lock().flushed(timestamp, self.now());
        self.flushed.store(samples, Ordering::Relaxed);
        let now = self.oldest_clock();
        self.queue.lock().push(now, batches);
        self.metrics.flushes.inc();
        self.metrics.pushed.inc_by(samples);
        self.metrics.highest_pushed.set(real_seconds(timestamp));
        self.observe();
        self.newest.send_replace(timestamp);
    }

    /// Whether the next flush is worth several requests at once: the last one was large, or what
    /// waits piles up. A small one goes out whole.
    pub fn wants_parallel(&self) -> bool {
        self.flushed.load(Ordering::Relaxed) > SINGLE_SAMPLES_MAX
            || self.queue.lock().waiting().batches > SINGLE_BATCHES_MAX
    }

    /// Runs `work` on the queue. Blocks on the disk.
    pub fn with_queue<T>(&self, work: impl FnOnce(&mut Queue) -> T) -> T {
        work(&mut self.queue.lock())
    }

    /// Sends until `stop` is cancelled and nothing waits, and writes down what was sent. To end it
    /// sooner, drop it: what was not answered is sent again after the next start.
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

    /// Keeps the queue's limits and writes down what was sent. Blocks on the disk.
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
                if !self.may_send(&stop).await {
                    return;
                }
                if !self.await_others(shard, seq).await {
                    continue;
                }
                if self.send_batch(shard, seq, batch, &mut retry).await {
                    self.blocking(move |sender| sender.queue.lock().acknowledge(shard, seq))
                        .await;
                    self.done.send_modify(|done| *done += 1);
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

    /// Waits until what was flushed before over other shards is sent: a series is in one of them at
    /// a time. False if the batch is no longer the one to send.
    async fn await_others(&self, shard: u16, seq: u64) -> bool {
        let mut done = self.done.subscribe();
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
            // What is dropped of another shard is noticed with the next look.
            let _ = tokio::time::timeout(MAINTENANCE_INTERVAL, done.changed()).await;
        }
    }

    /// Waits until something may be sent; false if this ends before that.
    async fn may_send(&self, stop: &CancellationToken) -> bool {
        let Some(mut gate) = self.settings.gate.clone() else {
            return true;
        };
        tokio::select! {
            biased;
            opened = gate.wait_for(|open| *open) => opened.is_ok(),
            () = stop.cancelled() => false,
        }
    }

    /// Waits until nothing may be sent any more.
    async fn may_not_send(&self) {
        match self.settings.gate.clone() {
            Some(mut gate) => {
                let _ = gate.wait_for(|open| !*open).await;
            }
            None => std::future::pending().await,
        }
    }

    fn sent_up_to(&self, timestamp: i64) {
        let sent = real_seconds(timestamp);
        if sent > self.metrics.highest_sent.get() {
            self.metrics.highest_sent.set(sent);
        }
    }

    /// Logs what the receiver says, in its own words, not more often than an operator can read.
    fn complain(&self, answer: &WriteResponse) {
        let class = answer.class();
        if matches!(class, Class::Stored | Class::Deduplicated) {
            return;
        }
        let now = self.now();
        let mut complained = self.complained.lock();
        let quiet =
            complained.is_some_and(|(last, at)| last == class && now - at < COMPLAIN_SECONDS);
        if quiet {
            return;
        }
        *complained = Some((class, now));
        let code = answer.code();
        tracing::warn!(
            code,
            class = class.as_str(),
            receiver = answer.text(),
            "remote write: receiver rejected samples"
        );
    }

    /// Brings the gauges, and the counters that the queue keeps, up to date.
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

    /// Runs `work`, which may wait for the disk, where that holds up nobody.
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

    /// Seconds on the clock that nobody sets.
    fn now(&self) -> f64 {
        seconds(self.clock.now().0)
    }

    /// The receiver's time in Unix milliseconds, as far as it is known.
    fn receiver_millis(&self) -> f64 {
        (seconds(self.clock.wall().0) + self.receiver.clock_skew()) * 1e3
    }

    /// The time by which samples are too old, in Unix milliseconds: ours or the receiver's,
    /// whichever is earlier. A clock of ours that is far ahead drops nothing.
    fn oldest_clock(&self) -> i64 {
        let ours = self.clock.wall();
        let behind = Duration::try_from_secs_f64(-self.receiver.clock_skew());
        signed(ours.before(behind.unwrap_or_default()))
    }
}

/// Counts a shard as blocked as long as it is.
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
