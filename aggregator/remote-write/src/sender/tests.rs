//! The sender against a scripted receiver, on simulated time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common_time::{Clock, Monotonic, UnixMillis};
use parking_lot::Mutex;
use prost::Message;
use snap::raw::Decoder;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Sender, Settings};
use crate::batch::{Batch, Kind, SHARDS, SINGLE};
use crate::encoder::{Encoder, SeriesLabels};
use crate::metrics::{Metrics, Outcome, ResultLabel};
use crate::protocol::Version;
use crate::queue::{DropReason, Limits, Queue};
use crate::receiver::Receiver;
use crate::write_request::{TimeSeries, WriteRequest};
use crate::write_response::WriteResponse;

/// Begins far from the epoch, so that nothing is by chance the oldest.
const START: u64 = 1_700_000_000_000;
const INTERVAL: Duration = Duration::from_secs(15);

#[expect(
    clippy::disallowed_methods,
    reason = "tokio's time is the simulated clock here"
)]
fn simulated_clock() -> Clock {
    let begun = Instant::now();
    let passed = move || u64::try_from(begun.elapsed().as_millis()).unwrap();
    Clock::new(
        move || Monotonic(passed()),
        move || UnixMillis(START + passed()),
    )
}

/// What the receiver says from a time on, in milliseconds since the start.
type Script = VecDeque<(u64, u16)>;

/// Stores what it is sent, as Prometheus does: in order, each timestamp once.
struct Scripted {
    clock: Clock,
    script: Mutex<Script>,
    /// Samples a request may have; more is 413.
    samples_max: usize,
    stored: Mutex<BTreeMap<String, Vec<(i64, f64)>>>,
    times: Mutex<Vec<(u64, u16)>>,
    refreshed: Mutex<u32>,
    /// Active series that it takes; a request with more is refused whole, as AMP does it.
    series_max: Mutex<usize>,
    /// A value of the label `i` on which it fails.
    poison: Mutex<Option<&'static str>>,
    /// It says what it wrote of each request, and refuses what is out of order.
    tells: bool,
}

impl Scripted {
    fn new(clock: &Clock, script: &[(u64, u16)]) -> Self {
        Self {
            clock: clock.clone(),
            script: Mutex::new(script.iter().copied().collect()),
            samples_max: usize::MAX,
            stored: Mutex::default(),
            times: Mutex::default(),
            refreshed: Mutex::default(),
            series_max: Mutex::new(usize::MAX),
            poison: Mutex::default(),
            tells: false,
        }
    }

    /// The status of a request by what is in it, and what was written of it.
    fn judge(&self, request: &WriteRequest) -> (u16, &'static str, Option<u32>) {
        let stored = self.stored.lock();
        let name = |series: &TimeSeries| format!("{:?}", series.labels);
        let poison = *self.poison.lock();
        let is_poison = |series: &TimeSeries| {
            series
                .labels
                .iter()
                .any(|label| label.name == "i" && Some(label.value.as_str()) == poison)
        };
        if request.timeseries.iter().any(is_poison) {
            return (500, "duplicate label names", None);
        }
        let new = request
            .timeseries
            .iter()
            .filter(|series| !stored.contains_key(&name(series)));
        if stored.len() + new.count() > *self.series_max.lock() && !stored.is_empty() {
            let unknown = request
                .timeseries
                .iter()
                .any(|series| !stored.contains_key(&name(series)));
            if unknown {
                return (429, "per-user series limit of 20 exceeded", None);
            }
        }
        let late = |series: &&TimeSeries| {
            let last = stored.get(&name(series)).and_then(|samples| samples.last());
            last.is_some_and(|(last, _)| {
                series.samples.iter().any(|sample| sample.timestamp < *last)
            })
        };
        let late = request.timeseries.iter().filter(late).count();
        if self.tells && late > 0 {
            let written = u32::try_from(request.timeseries.len() - late).unwrap();
            return (400, "out of order sample", Some(written));
        }
        (
            204,
            "",
            self.tells
                .then_some(u32::try_from(request.timeseries.len()).unwrap()),
        )
    }

    fn now(&self) -> u64 {
        self.clock.wall().0 - START
    }

    fn store(&self, request: WriteRequest) {
        let mut stored = self.stored.lock();
        for series in request.timeseries {
            let name = format!("{:?}", series.labels);
            let samples: &mut Vec<_> = stored.entry(name).or_default();
            for sample in series.samples {
                if self.tells
                    && samples
                        .last()
                        .is_some_and(|(last, _)| *last > sample.timestamp)
                {
                    continue;
                }
                match samples.last() {
                    Some((last, value)) if *last == sample.timestamp => {
                        assert_eq!(value.to_bits(), sample.value.to_bits());
                    }
                    Some((last, _)) => assert!(*last < sample.timestamp, "out of order"),
                    None => {}
                }
                if samples
                    .last()
                    .is_none_or(|(last, _)| *last < sample.timestamp)
                {
                    samples.push((sample.timestamp, sample.value));
                }
            }
        }
    }
}

impl Receiver for Scripted {
    async fn send(&self, body: Bytes, version: Version, _: u32) -> WriteResponse {
        if version == Version::V2 {
            return WriteResponse::NotUnderstood;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = self.now();
        let raw = Decoder::new().decompress_vec(&body).unwrap();
        let request = WriteRequest::decode(&raw[..]).unwrap();
        let mut script = self.script.lock();
        while script.get(1).is_some_and(|(from, _)| *from <= now) {
            script.pop_front();
        }
        let code = script
            .front()
            .filter(|(from, _)| *from <= now)
            .map_or(204, |(_, code)| *code);
        let code = if code == 204 && request.timeseries.len() > self.samples_max {
            413
        } else {
            code
        };
        let (code, body, written) = match code {
            204 => self.judge(&request),
            code => (code, "said the receiver", None),
        };
        if matches!(code, 204 | 400) {
            self.store(request);
        }
        self.times.lock().push((now, code));
        WriteResponse::Status {
            code,
            retry_after: None,
            body: body.to_owned(),
            written,
        }
    }

    fn clock_skew(&self) -> f64 {
        0.0
    }

    async fn invalidate_credentials(&self) {
        *self.refreshed.lock() += 1;
    }
}

fn flush(timestamp: i64, series: u32, value: f64) -> Vec<Batch> {
    let mut encoders: Vec<_> = (0..SHARDS)
        .map(|shard| Encoder::new(shard, Kind::Plain, timestamp))
        .collect();
    for i in 0..series {
        let labels = SeriesLabels::new("m", [("i", i.to_string().as_str())]).unwrap();
        encoders[usize::from(labels.shard(SHARDS))]
            .push(&labels, value)
            .unwrap();
    }
    encoders
        .into_iter()
        .flat_map(|encoder| encoder.finish().unwrap())
        .collect()
}

fn sender(receiver: Scripted, clock: &Clock, limits: Limits) -> Arc<Sender<Scripted>> {
    let settings = Settings {
        interval: INTERVAL,
        version: Version::V1,
        gate: None,
    };
    sender_with(receiver, clock, limits, settings)
}

fn sender_with(
    receiver: Scripted,
    clock: &Clock,
    limits: Limits,
    settings: Settings,
) -> Arc<Sender<Scripted>> {
    let queue = Queue::in_memory(limits);
    Sender::new(
        queue,
        receiver,
        clock.clone(),
        Metrics::default(),
        settings,
        || 0.5,
    )
}

/// Flushes `series` series every 15 s, `flushes` times, waits until all is sent, and ends.
async fn run(sender: &Arc<Sender<Scripted>>, series: u32, flushes: u32) {
    let stop = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(sender).run(stop.clone()));
    for nth in 0..flushes {
        let timestamp = i64::try_from(sender.clock.wall().0).unwrap();
        sender.push(timestamp, flush(timestamp, series, f64::from(nth)));
        tokio::time::sleep(INTERVAL).await;
    }
    stop.cancel();
    task.await.unwrap();
}

/// Each series' stored values, which must be the same for all.
fn values(sender: &Sender<Scripted>) -> Vec<f64> {
    let stored = sender.receiver().stored.lock();
    let mut all = stored
        .values()
        .map(|samples| samples.iter().map(|(_, value)| *value).collect::<Vec<_>>());
    let first = all.next().unwrap_or_default();
    assert!(all.all(|values| values == first));
    first
}

fn whole(flushes: u32) -> Vec<f64> {
    (0..flushes).map(f64::from).collect()
}

#[tokio::test(start_paused = true)]
async fn everything_arrives_in_order() {
    let clock = simulated_clock();
    let sender = sender(Scripted::new(&clock, &[]), &clock, Limits::MEMORY);
    run(&sender, 50, 20).await;
    assert_eq!(values(&sender), whole(20));
    assert_eq!(sender.receiver().stored.lock().len(), 50);
}

/// Whatever goes wrong for some minutes, nothing is lost and nothing is out of order.
#[tokio::test(start_paused = true)]
async fn an_outage_of_any_kind_loses_nothing() {
    for code in [500, 503, 429, 401, 403, 404, 405, 410, 415, 451, 407, 302] {
        let clock = simulated_clock();
        let receiver = Scripted::new(&clock, &[(40_000, code), (400_000, 204)]);
        let sender = sender(receiver, &clock, Limits::MEMORY);
        run(&sender, 30, 60).await;
        assert_eq!(values(&sender), whole(60), "{code}");
        let refreshed = *sender.receiver().refreshed.lock();
        assert_eq!(refreshed > 0, matches!(code, 401 | 403 | 407), "{code}");
    }
}

/// Half an hour without a receiver, then everything, at no more than a few requests at once.
#[tokio::test(start_paused = true)]
async fn half_an_hour_without_a_receiver_is_caught_up() {
    let clock = simulated_clock();
    let receiver = Scripted::new(&clock, &[(60_000, 503), (1_860_000, 204)]);
    let sender = sender(receiver, &clock, Limits::MEMORY);
    run(&sender, 100, 240).await;
    assert_eq!(values(&sender), whole(240));
    assert_eq!(sender.queue.lock().totals().dropped(), 0);
    let times = sender.receiver().times.lock();
    let tried = times.iter().filter(|(_, code)| *code == 503).count();
    assert!(tried < 400, "{tried} requests to a receiver that was down");
}

/// An outage beyond AMP's limit of age: what is too old is dropped and counted, the rest arrives.
#[tokio::test(start_paused = true)]
async fn what_the_receiver_would_refuse_for_its_age_is_dropped_and_counted() {
    let clock = simulated_clock();
    let receiver = Scripted::new(&clock, &[(0, 503), (5_400_000, 204)]);
    let sender = sender(receiver, &clock, Limits::MEMORY);
    run(&sender, 10, 400).await;
    let dropped = sender
        .queue
        .lock()
        .totals()
        .dropped
        .get(&DropReason::TooOld)
        .copied()
        .unwrap();
    // Each series lacks its oldest samples and no others; at the limit of age one shard may be a
    // flush behind another.
    let all = whole(400);
    let stored = sender.receiver().stored.lock();
    let mut arrived = 0;
    for samples in stored.values() {
        let values: Vec<_> = samples.iter().map(|(_, value)| *value).collect();
        assert!(values.len() > 200 && all.ends_with(&values), "{values:?}");
        arrived += values.len() as u64;
    }
    // What is dropped at the moment when it arrives counts as both.
    assert!((4000..=4010).contains(&(dropped + arrived)));
    assert!(
        (130..=145).contains(&(dropped / 10)),
        "{} flushes were dropped",
        dropped / 10
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_arrives_in_sub_batches() {
    let clock = simulated_clock();
    let receiver = Scripted {
        samples_max: 7,
        ..Scripted::new(&clock, &[])
    };
    let sender = sender(receiver, &clock, Limits::MEMORY);
    run(&sender, 500, 3).await;
    assert_eq!(values(&sender), whole(3));
    assert_eq!(sender.receiver().stored.lock().len(), 500);
}

/// 400 means that the good part is stored: the queue goes on with the next batch.
#[tokio::test(start_paused = true)]
async fn a_partial_refusal_does_not_stop_the_queue() {
    let clock = simulated_clock();
    let receiver = Scripted::new(&clock, &[(30_000, 400), (60_000, 204)]);
    let sender = sender(receiver, &clock, Limits::MEMORY);
    run(&sender, 20, 8).await;
    assert_eq!(values(&sender), whole(8));
    let times = sender.receiver().times.lock();
    let refused = times.iter().filter(|(_, code)| *code == 400).count();
    assert_eq!(refused, 2 * usize::from(SHARDS), "each batch once");
}

/// A wrong key does not turn into a storm of requests.
#[tokio::test(start_paused = true)]
async fn refused_credentials_are_tried_rarely() {
    let clock = simulated_clock();
    let receiver = Scripted::new(&clock, &[(0, 403), (600_000, 204)]);
    let sender = sender(receiver, &clock, Limits::MEMORY);
    run(&sender, 1, 50).await;
    let times = sender.receiver().times.lock();
    let tried = times.iter().filter(|(_, code)| *code == 403).count();
    assert!((8..=20).contains(&tried), "{tried} requests in ten minutes");
}

/// A receiver of 1.0 takes a request of 2.0 for nothing: it is sent again as 1.0, and so is
/// everything after it.
#[tokio::test(start_paused = true)]
async fn a_receiver_of_1_0_is_written_to_in_1_0() {
    let clock = simulated_clock();
    let settings = Settings {
        interval: INTERVAL,
        version: Version::V2,
        gate: None,
    };
    let receiver = Scripted::new(&clock, &[]);
    let sender = sender_with(receiver, &clock, Limits::MEMORY, settings);
    run(&sender, 20, 6).await;
    assert_eq!(values(&sender), whole(6));
}

/// A flush goes out when it may, and what waits with it.
#[tokio::test(start_paused = true)]
async fn only_the_one_writer_sends() {
    let clock = simulated_clock();
    let (may, gate) = watch::channel(false);
    let settings = Settings {
        interval: INTERVAL,
        version: Version::V1,
        gate: Some(gate),
    };
    let receiver = Scripted::new(&clock, &[]);
    let sender = sender_with(receiver, &clock, Limits::MEMORY, settings);
    let stop = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(&sender).run(stop.clone()));
    for (nth, open) in [false, true, false, true].into_iter().enumerate() {
        let timestamp = i64::try_from(clock.wall().0).unwrap();
        may.send_replace(open);
        sender.push(
            timestamp,
            flush(timestamp, 9, f64::from(u32::try_from(nth).unwrap())),
        );
        tokio::time::sleep(INTERVAL).await;
        let waits = sender.with_queue(|queue| queue.waiting().oldest);
        assert_eq!(
            waits,
            (!open).then_some(timestamp),
            "all of it, or this one"
        );
    }
    stop.cancel();
    task.await.unwrap();
    assert_eq!(values(&sender), whole(4));
}

fn counted(sender: &Sender<Scripted>, outcome: Outcome) -> u64 {
    let result = outcome.as_str();
    sender
        .metrics
        .samples
        .get_or_create(&ResultLabel { result })
        .get()
}

/// The values stored of the series `i`.
fn stored_of(sender: &Sender<Scripted>, i: u32) -> Vec<f64> {
    let stored = sender.receiver().stored.lock();
    let found = stored
        .iter()
        .find(|(name, _)| name.contains(&format!("value: \"{i}\"")));
    let samples = found.map(|(_, samples)| samples.iter().map(|(_, value)| *value).collect());
    samples.unwrap_or_default()
}

/// As [`run`] over one shard, `begun` flushes of `known` series and then `flushes` of `all`.
async fn run_single(
    sender: &Arc<Sender<Scripted>>,
    known: u32,
    begun: u32,
    all: u32,
    flushes: u32,
) {
    let stop = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(sender).run(stop.clone()));
    for nth in 0..begun + flushes {
        let timestamp = i64::try_from(sender.clock.wall().0).unwrap();
        let series = if nth < begun { known } else { all };
        sender.push(timestamp, single(timestamp, series, f64::from(nth)));
        tokio::time::sleep(INTERVAL).await;
    }
    stop.cancel();
    task.await.unwrap();
}

fn single(timestamp: i64, series: u32, value: f64) -> Vec<Batch> {
    let mut encoder = Encoder::new(SINGLE, Kind::Plain, timestamp);
    for i in 0..series {
        let labels = SeriesLabels::new("m", [("i", i.to_string().as_str())]).unwrap();
        encoder.push(&labels, value).unwrap();
    }
    encoder.finish().unwrap()
}

/// The receiver is full: what it knows goes on without a gap, what is new is found, counted and set
/// aside, and taken once the limit is raised.
#[tokio::test(start_paused = true)]
async fn a_limit_of_series_holds_up_no_known_series() {
    for new in [1, 40] {
        let clock = simulated_clock();
        let sender = sender(Scripted::new(&clock, &[]), &clock, Limits::MEMORY);
        *sender.receiver().series_max.lock() = 300;
        run_single(&sender, 300, 3, 300 + new, 30).await;
        assert_eq!(stored_of(&sender, 7), whole(33), "{new} new series");
        assert!(stored_of(&sender, 300).is_empty());
        assert_eq!(counted(&sender, Outcome::SeriesLimit), u64::from(new) * 30);
        assert_eq!(sender.queue.lock().totals().dropped(), 0);
        let times = sender.receiver().times.lock().clone();
        let refused = times.iter().filter(|(_, code)| *code == 429).count();
        assert!(
            refused < 8 + 4 * new as usize,
            "{refused} requests for {new} series"
        );
        // It does not slow down either.
        assert_eq!(sender.rate_limiter.lock().rate(false), None);
        *sender.receiver().series_max.lock() = usize::MAX;
        run_single(&sender, 300 + new, 25, 0, 0).await;
        assert!(!stored_of(&sender, 300).is_empty(), "a raised limit heals");
    }
}

/// One series on which the receiver fails each time holds up the others for some seconds, once in
/// some minutes.
#[tokio::test(start_paused = true)]
async fn a_series_that_fails_for_good_holds_up_no_other() {
    let clock = simulated_clock();
    let sender = sender(Scripted::new(&clock, &[]), &clock, Limits::MEMORY);
    *sender.receiver().poison.lock() = Some("1234");
    run_single(&sender, 1000, 2, 1300, 30).await;
    assert_eq!(stored_of(&sender, 7), whole(32));
    let new: Vec<f64> = (2..32).map(f64::from).collect();
    assert_eq!(stored_of(&sender, 1233), new);
    assert_eq!(counted(&sender, Outcome::Failing), 30);
    let times = sender.receiver().times.lock();
    let failed = times.iter().filter(|(_, code)| *code == 500).count();
    assert!(failed < 80, "{failed} requests failed");
}

/// A receiver that fails on everything is down: nothing is set aside, all of it arrives later.
#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_down_refuses_no_series() {
    let clock = simulated_clock();
    let receiver = Scripted::new(&clock, &[(40_000, 500), (900_000, 204)]);
    let sender = sender(receiver, &clock, Limits::MEMORY);
    run_single(&sender, 100, 90, 0, 0).await;
    assert_eq!(values(&sender), whole(90));
    assert_eq!(counted(&sender, Outcome::Failing), 0);
}

/// A request that is refused in part: what was written counts as stored, and the rest as refused.
#[tokio::test(start_paused = true)]
async fn what_was_written_is_counted_as_stored() {
    let clock = simulated_clock();
    let receiver = Scripted {
        tells: true,
        ..Scripted::new(&clock, &[])
    };
    let sender = sender(receiver, &clock, Limits::MEMORY);
    let stop = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(&sender).run(stop.clone()));
    let at = i64::try_from(START).unwrap();
    for (timestamp, series) in [(at + 30_000, 4), (at + 45_000, 10), (at + 60_000, 10)] {
        sender.push(timestamp, single(timestamp, series, 1.0));
    }
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(counted(&sender, Outcome::Stored), 24);
    // The clock is set back; six of ten are new.
    let back = at + 15_000;
    sender.push(back, single(back, 16, 1.0));
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(counted(&sender, Outcome::Stored), 30);
    assert_eq!(counted(&sender, Outcome::ClockStep), 10);
    assert_eq!(counted(&sender, Outcome::Rejected), 0);
    stop.cancel();
    task.await.unwrap();
}

/// While the receiver refuses what a clock that was set back makes, nothing waits, and yet the lag
/// grows.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_shows() {
    let clock = simulated_clock();
    let receiver = Scripted {
        tells: true,
        ..Scripted::new(&clock, &[])
    };
    let sender = sender(receiver, &clock, Limits::MEMORY);
    let stop = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(&sender).run(stop.clone()));
    let at = i64::try_from(START).unwrap();
    let ahead = at + 3_600_000;
    sender.push(ahead, single(ahead, 5, 1.0));
    tokio::time::sleep(INTERVAL).await;
    for nth in 1..=4 {
        let timestamp = at + nth * 15_000;
        sender.push(timestamp, single(timestamp, 5, 2.0));
        tokio::time::sleep(INTERVAL).await;
    }
    sender.maintain();
    // The one that is a minute ahead of the receiver was stored, long ago.
    assert_eq!(counted(&sender, Outcome::ClockStep), 20);
    let lag = sender.metrics.lag.get();
    assert!((70.0..80.0).contains(&lag), "{lag}");
    let later = ahead + 15_000;
    sender.push(later, single(later, 5, 3.0));
    tokio::time::sleep(INTERVAL).await;
    sender.maintain();
    let lag = sender.metrics.lag.get();
    assert!(lag.abs() < f64::EPSILON, "{lag}");
    stop.cancel();
    task.await.unwrap();
}

/// Small and large flushes in turn, which go over one shard or all: each series in order.
#[tokio::test(start_paused = true)]
async fn a_change_of_shards_keeps_the_order() {
    let clock = simulated_clock();
    let receiver = Scripted::new(&clock, &[(40_000, 503), (160_000, 204)]);
    let sender = sender(receiver, &clock, Limits::MEMORY);
    let stop = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(&sender).run(stop.clone()));
    for nth in 0..20_u32 {
        let timestamp = i64::try_from(sender.clock.wall().0).unwrap();
        let value = f64::from(nth);
        let batches = match nth % 3 {
            0 => single(timestamp, 50, value),
            _ => flush(timestamp, 50, value),
        };
        sender.push(timestamp, batches);
        tokio::time::sleep(INTERVAL).await;
    }
    stop.cancel();
    task.await.unwrap();
    assert_eq!(values(&sender), whole(20));
}

/// A small flush needs one shard, a large one or a backlog all of them.
#[tokio::test(start_paused = true)]
async fn shards_follow_the_load() {
    let clock = simulated_clock();
    let sender = sender(Scripted::new(&clock, &[]), &clock, Limits::MEMORY);
    let at = i64::try_from(START).unwrap();
    assert!(!sender.wants_parallel());
    sender.push(at, single(at, 6, 1.0));
    assert!(!sender.wants_parallel());
    sender.push(at + 1, single(at + 1, 20_000, 1.0));
    assert!(sender.wants_parallel(), "large");
    for nth in 2..40 {
        sender.push(at + nth, single(at + nth, 6, 1.0));
    }
    assert!(sender.wants_parallel(), "a backlog");
}
