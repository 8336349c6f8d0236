//! Delivery of one batch: sent, resent, split, without the series that the receiver refuses.

use std::time::Duration;

use super::{Blocked, MAINTENANCE_INTERVAL, Sender};
use crate::batch::Batch;
use crate::isolation::Refusal;
use crate::metrics::{CodeLabel, Outcome, ResultLabel};
use crate::protocol::Version;
use crate::receiver::Receiver;
use crate::retry::{Next, Retry};
use crate::sub_batch::SubBatch;
use crate::write_response::{Class, WriteResponse};

/// Samples further ahead of the receiver's clock than this, in milliseconds, show that our clock
/// was set.
const AHEAD_MAX: f64 = 60_000.0;

/// A batch being sent. The last of its sub-batches is the next to send.
struct Delivery {
    shard: u16,
    timestamp: i64,
    sub_batches: Vec<SubBatch>,
    attempt: u32,
}

impl<R: Receiver> Sender<R> {
    /// Sends a batch until it is finished (true), or was dropped from the queue (false).
    pub(super) async fn send_batch(
        &self,
        shard: u16,
        seq: u64,
        batch: Batch,
        retry: &mut Retry,
    ) -> bool {
        let mut delivery = Delivery {
            shard,
            timestamp: batch.timestamp,
            sub_batches: self
                .without_refused(SubBatch::from(batch))
                .into_iter()
                .collect(),
            attempt: 0,
        };
        retry.begin();
        let mut blocked = Blocked::new(&self.metrics);
        while let Some(sub_batch) = delivery.sub_batches.last() {
            // The queue may have dropped it as too old, or thinned it, meanwhile.
            if !self.queue.lock().is_front(shard, seq) {
                return false;
            }
            let (samples, timestamp) = (sub_batch.samples, delivery.timestamp);
            self.await_turn(samples, timestamp).await;
            let version = self.protocol.version(self.now());
            let attempt = delivery.attempt;
            let Some(response) = self.send_sub_batch(sub_batch, version, attempt).await else {
                return false;
            };
            let downgrade = self.protocol.observe(version, &response, self.now());
            let next = retry.next(&response, samples, downgrade, (self.jitter)());
            blocked.set(
                matches!(next, Next::Resend { .. })
                    && matches!(
                        response.class(),
                        Class::Unauthorised | Class::Misdirected | Class::Unsupported
                    ),
            );
            self.warn(&response);
            if !matches!(next, Next::Done(_)) {
                self.count_retry(response.class());
            }
            match next {
                Next::Done(_) => self.complete(&mut delivery, &response),
                Next::Resend { after, refresh } => {
                    delivery.attempt += 1;
                    if refresh {
                        self.receiver.invalidate_credentials().await;
                    }
                    tokio::time::sleep(after).await;
                }
                Next::Split(after) => {
                    self.halve(&mut delivery);
                    tokio::time::sleep(after).await;
                }
                Next::Downgrade => {}
                Next::Isolate => self.isolate(&mut delivery, Refusal::Limit),
                Next::Probe(after) => {
                    delivery.attempt += 1;
                    tokio::time::sleep(after).await;
                    if self.stores_other_series().await == Some(true) {
                        retry.suspect();
                        self.isolate(&mut delivery, Refusal::Failing);
                    }
                }
            }
        }
        self.update_highest_sent(delivery.timestamp);
        true
    }

    async fn await_turn(&self, samples: u32, timestamp: i64) {
        let _turn = self.turn.lock().await;
        loop {
            let interval = i64::try_from(self.settings.interval.as_millis()).unwrap_or(i64::MAX);
            let behind = *self.newest.borrow() - timestamp > interval.saturating_mul(2);
            let wait = self.rate_limiter.lock().admit(self.now(), samples, behind);
            if wait <= 0.0 {
                return;
            }
            tokio::time::sleep(Duration::try_from_secs_f64(wait).unwrap_or(MAINTENANCE_INTERVAL))
                .await;
        }
    }

    /// `None` if the gate closed.
    async fn send_sub_batch(
        &self,
        sub_batch: &SubBatch,
        version: Version,
        attempt: u32,
    ) -> Option<WriteResponse> {
        let before = self.now();
        let body = sub_batch.body_in(version);
        // A replica that lost the Lease must not send another sample.
        let response = tokio::select! {
            biased;
            () = self.gate_closed() => return None,
            response = self.receiver.send(body, version, attempt) => response,
        };
        let after = self.now();
        self.metrics.seconds.observe(after - before);
        let code = response.code();
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        self.metrics
            .requests
            .get_or_create(&CodeLabel { code })
            .inc();
        if response.class() == Class::TooMany {
            self.rate_limiter.lock().refused(after);
        }
        Some(response)
    }

    /// Counts the samples of a finished sub-batch, by the receiver's count if it sends one.
    fn complete(&self, delivery: &mut Delivery, response: &WriteResponse) {
        let Some(sub_batch) = delivery.sub_batches.pop() else {
            return;
        };
        delivery.attempt = 0;
        let all = sub_batch.samples;
        let outcome = match response.class() {
            Class::Deduplicated => Outcome::Deduplicated,
            Class::TooLarge => Outcome::TooLarge,
            Class::Stored => Outcome::Stored,
            _ => Outcome::Rejected,
        };
        let written = response.written().map(|written| written.min(all));
        let stored = match outcome {
            Outcome::Stored => written.unwrap_or(all),
            Outcome::Rejected => written.unwrap_or(0),
            other => {
                self.count_done(other, all);
                return;
            }
        };
        self.count_done(Outcome::Stored, stored);
        if stored > 0 {
            self.lag.lock().stored(self.now());
        }
        if stored == all {
            self.learn(delivery, sub_batch);
        } else {
            let outcome = self.why_refused(delivery.timestamp);
            if outcome == Outcome::ClockStep && stored == 0 {
                self.lag.lock().refused();
            }
            self.count_done(outcome, all - stored);
        }
    }

    /// Rejected samples with an older timestamp than earlier ones, or one in the future, come from
    /// a clock that was set.
    fn why_refused(&self, timestamp: i64) -> Outcome {
        let ahead = super::real_seconds(timestamp) * 1e3 - self.receiver_millis();
        if self.lag.lock().is_set_back(timestamp) || ahead > AHEAD_MAX {
            Outcome::ClockStep
        } else {
            Outcome::Rejected
        }
    }

    fn halve(&self, delivery: &mut Delivery) {
        let Some(sub_batch) = delivery.sub_batches.pop() else {
            return;
        };
        match sub_batch.split() {
            Some((first, second)) => delivery.sub_batches.extend([second, first]),
            None => self.count_done(Outcome::TooLarge, sub_batch.samples),
        }
    }

    /// Handles a sub-batch with refused series: sets a single series aside; splits several, those
    /// known to be stored first, else in halves.
    fn isolate(&self, delivery: &mut Delivery, refusal: Refusal) {
        let Some(sub_batch) = delivery.sub_batches.pop() else {
            return;
        };
        delivery.attempt = 0;
        let set_back = self.lag.lock().is_set_back(delivery.timestamp);
        if refusal == Refusal::Failing && set_back {
            // Some receivers respond with 500 to samples that are too old.
            self.lag.lock().refused();
            self.count_done(Outcome::ClockStep, sub_batch.samples);
            return;
        }
        let now = self.now();
        let mut isolation = self.isolation.lock();
        let series = sub_batch.series();
        if let [only] = series[..] {
            isolation.set_aside(only, refusal, now);
        } else if isolation.may_split(now) {
            // A receiver at its limit still stores series it has, so they need no halving.
            let stored = match refusal {
                Refusal::Limit => sub_batch.partition(|series| isolation.is_stored(series)),
                Refusal::Failing => (None, None),
            };
            let parts = match stored {
                (Some(stored), Some(others)) => Some((stored, others)),
                _ => sub_batch.split(),
            };
            if let Some((first, second)) = parts {
                delivery.sub_batches.extend([second, first]);
                return;
            }
        }
        drop(isolation);
        self.count_done(refusal.outcome(), sub_batch.samples);
    }

    /// Removes the series that are set aside from the batch, and counts their samples.
    fn without_refused(&self, sub_batch: SubBatch) -> Option<SubBatch> {
        let mut isolation = self.isolation.lock();
        isolation.expire(self.now());
        if isolation.aside() == 0 {
            return Some(sub_batch);
        }
        let mut rest = Some(sub_batch);
        for refusal in Refusal::ALL {
            let Some(sub_batch) = rest else {
                break;
            };
            let refused = |series| isolation.refusal(series) == Some(refusal);
            let (aside, others) = sub_batch.partition(refused);
            if let Some(aside) = aside {
                self.count_done(refusal.outcome(), aside.samples);
            }
            rest = others;
        }
        rest
    }

    /// Sends a sample that was stored before. True if the receiver handles it, false if it fails on
    /// it as well; `None` if nothing was stored yet, or the gate closed.
    async fn stores_other_series(&self) -> Option<bool> {
        // The same sample twice is stored once, so the probe changes no series.
        let good = self.last_stored.lock().clone()?.first()?;
        let version = self.protocol.version(self.now());
        let response = self.send_sub_batch(&good, version, 0).await?;
        let judged = [Class::Stored, Class::Deduplicated, Class::Rejected];
        Some(judged.contains(&response.class()))
    }

    fn learn(&self, delivery: &Delivery, sub_batch: SubBatch) {
        let now = self.now();
        let should_learn = self.isolation.lock().should_learn(delivery.shard, now);
        if should_learn {
            let series = sub_batch.series().into_iter();
            self.isolation.lock().learn(delivery.shard, series, now);
        }
        *self.last_stored.lock() = Some(sub_batch);
    }

    fn count_done(&self, outcome: Outcome, samples: u32) {
        let result = outcome.as_str();
        let counter = self.metrics.samples.get_or_create(&ResultLabel { result });
        counter.inc_by(u64::from(samples));
    }

    fn count_retry(&self, class: Class) {
        let result = class.as_str();
        let counter = self.metrics.retries.get_or_create(&ResultLabel { result });
        counter.inc();
    }
}

// === impl Refusal ===

impl Refusal {
    fn outcome(self) -> Outcome {
        match self {
            Self::Limit => Outcome::SeriesLimit,
            Self::Failing => Outcome::Failing,
        }
    }
}
