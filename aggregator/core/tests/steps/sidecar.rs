//! A sidecar under a load that is known: arrivals, ticks and reports as the filter makes them.

use std::time::Duration;

use aggregator_core::pod::{Labels, PodKey};
use aggregator_core::report::{
    CounterScope, Hello, InstanceId, ProcessId, Report, SeriesTotals, StreamId,
};
use aggregator_core::series::{Direction, SeriesKey};
use aggregator_core::store::{Link, Store};
use common_time::{Monotonic, UnixMillis};

/// Time 0 of each case.
pub(crate) const START: Monotonic = Monotonic(1_800_000_000_000);

/// The filter looks at its counters so often.
pub(crate) const TICK_MS: u64 = 100;
/// And reports so often for [`ACTIVE_MS`] after a change, then each [`HEARTBEAT_MS`] or at the next
/// change.
const FLUSH_MS: u64 = 1000;
const ACTIVE_MS: u64 = 60_000;
const HEARTBEAT_MS: u64 = 10_000;

/// How requests follow one another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Arrivals {
    /// At equal distances, as load generators send them.
    Even,
    /// Each at its own time, as many users send them.
    Poisson,
    /// As [`Arrivals::Poisson`], but so many at once.
    Pages(u32),
}

/// A load for some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Phase {
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
    pub(crate) state: State,
}

/// What the sidecar does meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Up,
    /// It is not there, and no request is.
    Down,
    /// It counts, but its stream is cut.
    Cut,
}

pub(crate) struct Sidecar {
    pub(crate) key: PodKey,
    number: u64,
    /// When requests come, in milliseconds, ascending.
    arrivals: Vec<u64>,
    next: usize,
    /// When each state begins, in milliseconds.
    states: Vec<(u64, State)>,
    offset: u64,
    running: Option<Running>,
    streams: u64,
}

struct Running {
    link: Option<Link>,
    started: u64,
    total: u64,
    last_reported: u64,
    seq: u64,
    /// Last tick without news.
    quiet: u64,
    sent: u64,
    changed: u64,
    due: u64,
    resting: bool,
}

/// Numbers that look random, the same for the same seed: xorshift64*.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

// === impl Random ===

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % end
    }

    /// Between 0 and 1, never either.
    fn unit(&mut self) -> f64 {
        (real(self.below(1 << 40)) + 0.5) / real(1 << 40)
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).expect("small")]
    }
}

// === impl Sidecar ===

impl Sidecar {
    pub(crate) fn new(
        number: u64,
        phases: &[Phase],
        arrivals: Arrivals,
        random: &mut Random,
    ) -> Self {
        Self {
            key: PodKey::new("prod", &format!("jazz-{number}")),
            number,
            arrivals: times(phases, arrivals, random),
            next: 0,
            states: states(phases),
            offset: random.below(TICK_MS),
            running: None,
            streams: 0,
        }
    }

    /// Requests that came until `ms`.
    pub(crate) fn arrived(&self, ms: u64) -> usize {
        self.arrivals.partition_point(|at| *at < ms)
    }

    /// The tick in the tenth of a second that begins at `ms`.
    pub(crate) fn tick(&mut self, store: &Store, ms: u64) {
        let now = ms + self.offset;
        let arrived = self.arrived(now);
        let more = (arrived - self.next) as u64;
        self.next = arrived;
        let state = self.states.iter().rfind(|(begin, _)| *begin <= now);
        if state.is_some_and(|(_, state)| *state == State::Down) {
            if let Some(link) = self.running.take().and_then(|running| running.link) {
                store.disconnect(at(now), &link);
            }
            return;
        }
        let cut = state.is_some_and(|(_, state)| *state == State::Cut);
        let mut running = self.running.take().unwrap_or_else(|| Running::new(now));
        match running.link.take() {
            Some(link) if cut => store.disconnect(at(now), &link),
            None if !cut => {
                running.link = Some(self.connect(store, now, running.started));
                running.seq = 0;
            }
            link => running.link = link,
        }
        running.count(now, more);
        running.report(store, now);
        self.running = Some(running);
    }

    /// Opens a stream; the counters, and so the instance, began at `started`.
    fn connect(&mut self, store: &Store, now: u64, started: u64) -> Link {
        self.streams += 1;
        let hello = Hello {
            pod: self.key.clone(),
            uid: "uid".into(),
            node: "".into(),
            labels: Labels::default(),
            instance: InstanceId(1_000_000 * (self.number + 1) + started),
            process: ProcessId(1_000_000 * (self.number + 1) + started),
            scope: CounterScope::Process,
            started_at: UnixMillis(at(started).0),
            clock: UnixMillis(at(now).0),
            hot_restart: false,
        };
        let stream = StreamId(1000 * self.number + self.streams);
        let connected = store.connect(at(now), stream, &hello);
        connected.expect("the store has room").link
    }
}

// === impl Running ===

impl Running {
    fn new(now: u64) -> Self {
        Self {
            link: None,
            started: now,
            total: 0,
            last_reported: 0,
            seq: 0,
            quiet: now,
            sent: now,
            changed: now,
            due: now + 300,
            resting: false,
        }
    }

    fn count(&mut self, now: u64, more: u64) {
        self.total += more;
        if more > 0 {
            self.changed = now;
        }
        if self.total == self.last_reported {
            self.quiet = now;
        }
    }

    fn report(&mut self, store: &Store, now: u64) {
        let Some(link) = &self.link else { return };
        if now < self.due && !(self.resting && self.total > self.last_reported) {
            return;
        }
        self.resting = now - self.changed >= ACTIVE_MS;
        let within = if self.resting { HEARTBEAT_MS } else { FLUSH_MS };
        self.seq += 1;
        let begin = self.quiet.max(self.sent).min(now - 1).max(self.started);
        let totals = SeriesTotals {
            requests: Some(self.total),
            ..SeriesTotals::default()
        };
        let report = Report {
            seq: self.seq,
            interval_end: UnixMillis(at(now).0),
            interval: Duration::from_millis(now - begin),
            series: vec![(inbound(), totals)],
            vms_expected: 1,
            vms_live: 1,
            next_report_within: Duration::from_millis(within),
            snapshot: self.seq == 1,
            is_final: false,
        };
        store
            .apply(at(now), link, &report)
            .expect("the report is sound");
        self.last_reported = self.total;
        self.sent = now;
        self.due = now + within;
    }
}

/// When requests come under `phases`.
fn times(phases: &[Phase], arrivals: Arrivals, random: &mut Random) -> Vec<u64> {
    let mut times = Vec::new();
    let mut begin = 0.0;
    for phase in phases {
        let end = begin + 1000.0 * phase.seconds;
        let at_once = match arrivals {
            Arrivals::Pages(requests) => requests,
            Arrivals::Even | Arrivals::Poisson => 1,
        };
        let pause = 1000.0 * f64::from(at_once) / phase.rate;
        let mut now = begin;
        loop {
            now += match arrivals {
                Arrivals::Even => pause,
                Arrivals::Poisson | Arrivals::Pages(_) => -random.unit().ln() * pause,
            };
            // Without a rate the first one would come never.
            if now.is_nan() || now >= end {
                break;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "minutes"
            )]
            times.extend(std::iter::repeat_n(now as u64, at_once as usize));
        }
        begin = end;
    }
    times
}

fn states(phases: &[Phase]) -> Vec<(u64, State)> {
    let mut begin = 0;
    let mut states = Vec::new();
    for phase in phases {
        states.push((begin, phase.state));
        begin += millis(phase.seconds);
    }
    states
}

pub(crate) fn at(ms: u64) -> Monotonic {
    START + Duration::from_millis(ms)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "minutes"
)]
pub(crate) fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

fn inbound() -> SeriesKey {
    SeriesKey {
        direction: Direction::Inbound,
        cluster: "".into(),
    }
}
