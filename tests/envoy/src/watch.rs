//! What the API says while something goes wrong, held against what was sent: each value is right or
//! not there.
//!
//! A value is the rate in a window that the answer names. What was sent and what was answered is
//! sampled all the time. Envoy saw each request between the two, so the least and the highest rate
//! that can be true in that window are known, however busy the machine is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use common_time::UnixMillis;
use parking_lot::Mutex;
use tests_support::aggregator::{Aggregator, MetricList};
use tests_support::clock;
use tests_support::load::{Load, Phase, Tally};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{NAMESPACE, POD};

/// Pause between two samples of what was sent.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
/// Pause between two reads of the API.
const READ_EVERY: Duration = Duration::from_millis(50);
/// An answer that takes longer is none.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How much later than it came a request may be counted: a tick of its worker and one of the VM
/// that streams, on a busy machine.
const LAG_MAX: Duration = Duration::from_secs(1);
/// The API gives the length of a window in whole seconds.
const ROUNDING: Duration = Duration::from_millis(500);
/// Largest error of an age towards less than the truth: the shortest way of a frame, and what
/// timestamps are rounded by.
const AGE_SLACK: Duration = Duration::from_millis(300);
/// What a value may be off beyond that.
const SHARE_MAX: f64 = 0.02;

/// The metric that is watched.
const METRIC: &str = "appmesh_requests_per_second";

/// Traffic of which it is known at each moment how much was sent.
#[derive(Debug)]
pub struct Traffic {
    tally: Arc<Tally>,
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: CancellationToken,
    load: JoinHandle<Result<()>>,
    recorder: JoinHandle<()>,
}

/// How much was sent and answered at a moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    sent: u64,
    ended: u64,
}

#[derive(Debug, Default)]
pub struct Watch {
    values: Vec<Value>,
    /// Answers without a value of the pod, and answers that did not come.
    pub unknown: usize,
    /// Every reason why there was no value.
    pub reasons: BTreeSet<String>,
    /// Values may be too low, but not too high.
    pub may_be_low: bool,
    /// By how many seconds the aggregator's wall clock is off.
    pub wall_off: i64,
    /// Since when the sidecar stands still: no value can be newer than that.
    pub silent_since: Option<Instant>,
    /// The oldest value while it did not.
    pub worst_age: Duration,
    /// Ages and timestamps that are wrong, in words.
    wrong: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Value {
    asked: Instant,
    answered: Instant,
    age: Duration,
    window: Duration,
    rate: f64,
}

/// How the values compare with what was sent.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub values: usize,
    /// Answers without one.
    pub unknown: usize,
    /// Largest distance of a value from what is possible, as a share of it.
    pub worst: f64,
    /// Values that are wrong, in words.
    pub wrong: Vec<String>,
}

// === impl Traffic ===

impl Traffic {
    /// Sends what `load` says until it is stopped.
    pub fn start(load: Load) -> Self {
        let (tally, stop) = (Arc::<Tally>::default(), CancellationToken::new());
        let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
        let load = tokio::spawn(load.run(Arc::clone(&tally), stop.clone()));
        let (counted, kept) = (Arc::clone(&tally), Arc::clone(&samples));
        let recorder = tokio::spawn(async move {
            loop {
                let ended = counted.answers().values().sum::<u64>() + counted.broken();
                let sample = Sample {
                    at: clock::now(),
                    sent: counted.written(),
                    ended,
                };
                kept.lock().push(sample);
                tokio::time::sleep(SAMPLE_EVERY).await;
            }
        });
        Self {
            tally,
            samples,
            stop,
            load,
            recorder,
        }
    }

    /// An even load of `rate` requests per second for as long as any test takes.
    pub fn even(target: std::net::SocketAddr, rate: f64) -> Self {
        let phase = Phase {
            rate,
            duration: Duration::from_mins(8),
        };
        Self::start(Load::new(target, vec![phase]))
    }

    /// What was sent and answered so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Ends it and waits for the answers.
    pub async fn stop(mut self) -> Result<Arc<Tally>> {
        self.stop.cancel();
        let ended = (&mut self.load).await.context("the load died")?;
        self.recorder.abort();
        ended.map(|()| Arc::clone(&self.tally))
    }

    /// Compares what was read with what was sent.
    pub fn judge(&self, watch: &Watch) -> Verdict {
        let samples = self.samples.lock();
        let mut verdict = Verdict {
            values: watch.values.len(),
            unknown: watch.unknown,
            wrong: watch.wrong.clone(),
            ..Verdict::default()
        };
        for value in &watch.values {
            let (least, most) = possible(&samples, value);
            let off = (least - value.rate).max(value.rate - most).max(0.0);
            verdict.worst = verdict.worst.max(off / most.max(1.0));
            let is_high = value.rate > most;
            if off > most * SHARE_MAX && (is_high || !watch.may_be_low) {
                verdict.wrong.push(format!(
                    "{:.1}/s over {} s, {} ms old, where {least:.1} to {most:.1} were sent",
                    value.rate,
                    value.window.as_secs(),
                    value.age.as_millis()
                ));
            }
        }
        verdict
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.load.abort();
        self.recorder.abort();
    }
}

/// The least and the highest rate that can be true of `value`.
#[expect(clippy::cast_precision_loss, reason = "a count of requests")]
fn possible(samples: &[Sample], value: &Value) -> (f64, f64) {
    let at = |at: Instant| {
        let after = samples.partition_point(|sample| sample.at <= at);
        let sample = samples.get(after.saturating_sub(1));
        sample.map_or((0, 0), |sample| (sample.sent, sample.ended))
    };
    let back = |at: Instant, by: Duration| at.checked_sub(by).unwrap_or(at);
    let shortest = value
        .window
        .saturating_sub(ROUNDING)
        .max(Duration::from_secs(1));
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    let mut length = shortest;
    while length <= value.window + ROUNDING {
        // The end is known as well as the moment of the answer is.
        let (first_end, last_end) = (
            back(value.asked, value.age),
            back(value.answered, value.age),
        );
        let (first_start, last_start) = (back(first_end, length), back(last_end, length));
        let fewest = at(back(first_end, LAG_MAX))
            .1
            .saturating_sub(at(last_start).0);
        let highest = at(last_end + SAMPLE_EVERY * 2)
            .0
            .saturating_sub(at(back(first_start, LAG_MAX)).1);
        least = least.min(fewest as f64 / length.as_secs_f64());
        most = most.max(highest as f64 / length.as_secs_f64());
        length += SAMPLE_EVERY * 5;
    }
    (least, most)
}

// === impl Watch ===

impl Watch {
    /// Reads the API until `until` says that it is enough.
    pub async fn read(
        &mut self,
        aggregator: &Aggregator,
        mut until: impl AsyncFnMut() -> Result<bool>,
    ) -> Result<()> {
        while !until().await? {
            self.read_once(aggregator).await;
            tokio::time::sleep(READ_EVERY).await;
        }
        Ok(())
    }

    /// How many values were read.
    pub fn values(&self) -> usize {
        self.values.len()
    }

    /// Reads the API for a while.
    pub async fn read_for(&mut self, aggregator: &Aggregator, time: Duration) -> Result<()> {
        let start = clock::now();
        self.read(aggregator, async || Ok(start.elapsed() >= time))
            .await
    }

    async fn read_once(&mut self, aggregator: &Aggregator) {
        let (asked, wall) = (clock::now(), clock::unix());
        let list = aggregator.api().pods_metric(NAMESPACE, "app=app", METRIC);
        let list = match tokio::time::timeout(ANSWER_MAX, list).await {
            Ok(Ok(list)) => list,
            failed => {
                self.unknown += 1;
                if let Ok(Err(error)) = failed {
                    self.reasons.insert(format!("{error:#}"));
                }
                return;
            }
        };
        match value(&list, asked) {
            Some(value) => {
                self.check_age(&value);
                self.check_timestamp(&list, &value, wall);
                self.values.push(value);
            }
            None => self.unknown += 1,
        }
    }

    fn check_age(&mut self, value: &Value) {
        let Some(since) = self.silent_since else {
            self.worst_age = self.worst_age.max(value.age);
            return;
        };
        let least = value.asked.saturating_duration_since(since);
        if value.age + AGE_SLACK < least {
            self.wrong.push(format!(
                "{} ms old, where nothing was heard for {} ms",
                value.age.as_millis(),
                least.as_millis()
            ));
        }
    }

    /// A timestamp is the end of the window by the aggregator's clock, cut to whole seconds. It was
    /// asked when the clock of this process showed `wall`.
    fn check_timestamp(&mut self, list: &MetricList, value: &Value, wall: UnixMillis) {
        let Some(text) = list.item(POD).map(|item| item.timestamp.as_str()) else {
            return;
        };
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let asked = i64::try_from(wall.0).unwrap_or(0) + self.wall_off * 1000 - millis(value.age);
        let answered = asked + millis(value.answered.duration_since(value.asked));
        let slack = millis(AGE_SLACK);
        let timestamp = OffsetDateTime::parse(text, &Rfc3339)
            .map(|timestamp| timestamp.unix_timestamp() * 1000);
        if !timestamp
            .is_ok_and(|timestamp| (asked - 1000 - slack..=answered + slack).contains(&timestamp))
        {
            let age = value.age.as_millis();
            let off = self.wall_off;
            self.wrong.push(format!(
                "{text}, {age} ms old, of a clock that is {off} s off"
            ));
        }
    }
}

fn value(list: &MetricList, asked: Instant) -> Option<Value> {
    let item = list.item(POD)?;
    Some(Value {
        asked,
        answered: clock::now(),
        age: Duration::from_millis(list.signal_age_ms?),
        window: Duration::from_secs(item.window_seconds?),
        rate: item.number()?,
    })
}
