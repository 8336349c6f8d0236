//! From the queue to the receiver: one task a shard, one request in flight each, in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aggregator_core::time::{Clock, Monotonic, UnixMillis};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Class};
use crate::block::Block;
use crate::metrics::{CodeLabel, Metrics, ReasonLabel, ResultLabel};
use crate::pace::Pace;
use crate::pieces::Piece;
use crate::protocol::{Protocol, Version};
use crate::queue::Queue;
use crate::receiver::Receiver;
use crate::retry::{Next, Retry};

#[cfg(test)]
mod tests;

/// Shards. A constant, so that a series never changes its shard and with that its order: at 60 ms a request this is
/// some 130,000 samples a second.
pub const SHARDS: u16 = 4;

/// How often the queue's limits are kept and what was sent is written down.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// The same complaint of the receiver is logged once in this time.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// How it is sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between flushes: what is older than two of them is caught up.
    pub interval: Duration,
    /// The version of the protocol to begin with.
    pub version: Version,
    /// The timestamp of the last flush that may be sent, in Unix milliseconds; `None`: every one may.
    pub gate: Option<watch::Receiver<i64>>,
}

/// What all shards share.
pub struct Sender<R> {
    queue: Mutex<Queue>,
    receiver: R,
    pace: Mutex<Pace>,
    clock: Clock,
    metrics: Metrics,
    settings: Settings,
    protocol: Protocol,
    /// Timestamp of the newest flush, Unix milliseconds; shards wait for it to change.
    newest: watch::Sender<i64>,
    complained: Mutex<Option<(Class, Monotonic)>>,
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
        let pace = Pace::new(seconds(clock.now().0));
        Arc::new(Self {
            queue: Mutex::new(queue),
            receiver,
            pace: Mutex::new(pace),
            clock,
            metrics,
            protocol: Protocol::new(settings.version),
            settings,
            newest: watch::Sender::new(0),
            complained: Mutex::default(),
            jitter,
        })
    }

    /// The receiver.
    pub fn receiver(&self) -> &R {
        &self.receiver
    }

    /// Puts a flush into the queue. Durable when this returns. Blocks on the disk.
    pub fn push(&self, timestamp: i64, blocks: Vec<Block>) {
        let now = self.clock.both();
        let samples: u64 = blocks.iter().map(|block| u64::from(block.samples)).sum();
        self.pace().pushed(seconds(now.monotonic.0), samples);
        self.queue().push(signed(now.wall), blocks);
        self.metrics.flushes.inc();
        self.metrics.pushed.inc_by(samples);
        self.metrics.highest_pushed.set(real_seconds(timestamp));
        self.observe();
        self.newest.send_replace(timestamp);
    }

    /// Runs `work` on the queue. Blocks on the disk.
    pub fn with_queue<T>(&self, work: impl FnOnce(&mut Queue) -> T) -> T {
        work(&mut self.queue())
    }

    /// Timestamp up to which every flush was answered for good; `None` if there was none.
    pub fn sent_until(&self) -> Option<i64> {
        let queue = self.queue();
        match queue.waiting().oldest {
            Some(oldest) => Some(oldest - 1),
            None => queue.last_flush(),
        }
    }

    /// Sends until `stop` is cancelled and nothing waits, and writes down what was sent. To end it sooner, drop it:
    /// what was not answered is sent again after the next start.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut shards = tokio::task::JoinSet::new();
        for shard in 0..SHARDS {
            shards.spawn(Arc::clone(&self).run_shard(shard, stop.clone()));
        }
        let mut ticks = tokio::time::interval(HOUSEKEEPING);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ended = shards.join_next() => match ended {
                    None => break,
                    Some(Err(error)) => tracing::error!(%error, "remote write: a shard died"),
                    Some(Ok(())) => {}
                },
                _ = ticks.tick() => {
                    self.blocking(Self::keep_house).await;
                }
            }
        }
        self.blocking(Self::keep_house).await;
    }

    /// Keeps the queue's limits and writes down what was sent. Blocks on the disk.
    pub fn keep_house(&self) {
        let now = signed(self.clock.wall());
        let mut queue = self.queue();
        queue.enforce(now);
        if let Err(error) = queue.save_cursor() {
            self.metrics.disk_errors.inc();
            tracing::warn!(%error, "remote write: what was sent cannot be written down; it may be sent again");
        }
        drop(queue);
        self.observe();
    }

    async fn run_shard(self: Arc<Self>, shard: u16, stop: CancellationToken) {
        let mut newest = self.newest.subscribe();
        let mut retry = Retry::default();
        loop {
            let front = self
                .blocking(move |sender| sender.queue().front(shard))
                .await;
            if let Some((seq, block)) = front.flatten() {
                if !self.may_send(block.timestamp, &stop).await {
                    return;
                }
                if self.send_block(shard, seq, block, &mut retry).await {
                    self.blocking(move |sender| sender.queue().acknowledge(shard, seq))
                        .await;
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

    /// Sends a block until it is answered for good (true), or no longer the one to send.
    async fn send_block(&self, shard: u16, seq: u64, block: Block, retry: &mut Retry) -> bool {
        let timestamp = block.timestamp;
        let mut pieces = vec![Piece::from(block)];
        let mut attempt = 0;
        let mut blocked = Blocked::new(&self.metrics);
        while let Some(piece) = pieces.last() {
            // It may have become too old, or have been thinned, while it waited.
            if !self.queue().is_front(shard, seq) {
                return false;
            }
            self.await_turn(piece.samples, timestamp).await;
            let samples = piece.samples;
            let version = self.protocol.version();
            let Some(answer) = self.send_piece(piece, timestamp, version, attempt).await else {
                return false;
            };
            let downgrade = self.protocol.observe(version, answer.class());
            let next = retry.next(&answer, samples, downgrade, (self.jitter)());
            blocked.set(matches!(
                answer.class(),
                Class::Unauthorised | Class::Misdirected
            ));
            self.complain(&answer);
            match next {
                Next::Done(class) => {
                    self.count_done(class, samples);
                    pieces.pop();
                    attempt = 0;
                }
                Next::Again { after, refresh } => {
                    attempt += 1;
                    self.count_retry(answer.class());
                    if refresh {
                        self.receiver.refuse_credentials().await;
                    }
                    tokio::time::sleep(after).await;
                }
                Next::Split(after) => {
                    self.count_retry(answer.class());
                    match pieces.pop().and_then(|piece| piece.split()) {
                        Some((first, second)) => pieces.extend([second, first]),
                        None => self.count_done(answer.class(), samples),
                    }
                    tokio::time::sleep(after).await;
                }
                Next::Downgrade => self.count_retry(answer.class()),
            }
        }
        self.sent_up_to(timestamp);
        true
    }

    async fn await_turn(&self, samples: u32, timestamp: i64) {
        loop {
            let now = self.clock.now();
            let interval = i64::try_from(self.settings.interval.as_millis()).unwrap_or(i64::MAX);
            let behind = *self.newest.borrow() - timestamp > interval.saturating_mul(2);
            let wait = self.pace().admit(seconds(now.0), samples, behind);
            if wait <= 0.0 {
                return;
            }
            tokio::time::sleep(Duration::try_from_secs_f64(wait).unwrap_or(HOUSEKEEPING)).await;
        }
    }

    /// Waits until the flush may be sent; false if this ends before that.
    async fn may_send(&self, timestamp: i64, stop: &CancellationToken) -> bool {
        let Some(mut gate) = self.settings.gate.clone() else {
            return true;
        };
        tokio::select! {
            biased;
            opened = gate.wait_for(|until| timestamp <= *until) => opened.is_ok(),
            () = stop.cancelled() => false,
        }
    }

    /// Waits until the flush may not be sent any more.
    async fn may_not_send(&self, timestamp: i64) {
        match self.settings.gate.clone() {
            Some(mut gate) => {
                let _ = gate.wait_for(|until| *until < timestamp).await;
            }
            None => std::future::pending().await,
        }
    }

    /// `None` if the flush may not be sent any more.
    async fn send_piece(
        &self,
        piece: &Piece,
        timestamp: i64,
        version: Version,
        attempt: u32,
    ) -> Option<Answer> {
        let before = self.clock.now();
        let body = piece.body_in(version);
        let answer = tokio::select! {
            biased;
            () = self.may_not_send(timestamp) => return None,
            answer = self.receiver.send(body, version, attempt) => answer,
        };
        let after = self.clock.now();
        self.metrics
            .seconds
            .observe(after.since(before).as_secs_f64());
        let code = answer.code();
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        self.metrics
            .requests
            .get_or_create(&CodeLabel { code })
            .inc();
        if answer.class() == Class::TooMany {
            self.pace().refused(seconds(after.0));
        }
        Some(answer)
    }

    fn count_done(&self, class: Class, samples: u32) {
        let result = ResultLabel {
            result: class.as_str(),
        };
        self.metrics
            .samples
            .get_or_create(&result)
            .inc_by(u64::from(samples));
    }

    fn count_retry(&self, class: Class) {
        let result = ResultLabel {
            result: class.as_str(),
        };
        self.metrics.retries.get_or_create(&result).inc();
    }

    fn sent_up_to(&self, timestamp: i64) {
        let sent = real_seconds(timestamp);
        if sent > self.metrics.highest_sent.get() {
            self.metrics.highest_sent.set(sent);
        }
    }

    /// Logs what the receiver says, in its own words, not more often than an operator can read.
    fn complain(&self, answer: &Answer) {
        let class = answer.class();
        if matches!(class, Class::Stored | Class::Deduplicated) {
            return;
        }
        let now = self.clock.now();
        let mut complained = self
            .complained
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let quiet =
            complained.is_some_and(|(last, at)| last == class && now.since(at) < COMPLAIN_EVERY);
        if quiet {
            return;
        }
        *complained = Some((class, now));
        let code = answer.code();
        tracing::warn!(
            code,
            class = class.as_str(),
            receiver = answer.text(),
            "remote write: not stored"
        );
    }

    /// Brings the gauges, and the counters that the queue keeps, up to date.
    fn observe(&self) {
        let queue = self.queue();
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
        let lag = waiting
            .oldest
            .map_or(0.0, |_| seconds(self.clock.wall().0) - oldest);
        metrics.lag.set(lag.max(0.0));
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

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
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
