//! A pod's sidecar: streams of the real filter core, and a counter that rises steadily.

use std::collections::BTreeMap;

use aggregator_core::pod::PodKey;
use filter_core::config::{Aggregator, ResponseDetail};
use filter_core::counter::{Counters, SeriesIndex};
use filter_core::host::RootId;
use filter_core::identity::Identity;
use filter_core::report::{Facts, Hello, Reported};
use filter_core::series::{Direction, Role};
use filter_core::stream::Link;
use filter_core::testing::{Call, FakeHost, FakeProcess};
use filter_core::time::{Monotonic, Now, UnixMillis};
use filter_core::view::View;

/// Requests a second of every pod.
pub(super) const RATE: u64 = 20;
/// Interval of reports, in milliseconds.
const FLUSH_MS: u64 = 1000;
const ROOT: RootId = RootId(1);

pub(super) struct Sidecar {
    pub(super) number: u64,
    pub(super) key: PodKey,
    pub(super) links: Vec<Link>,
    /// Which replica each stream that was opened goes to.
    pub(super) tokens: BTreeMap<u32, usize>,
    pub(super) host: FakeHost,
    pub(super) started_ms: u64,
    /// When it ended, in order or not.
    pub(super) ended_ms: Option<u64>,
    counters: Counters,
    series: Option<SeriesIndex>,
    counted: u64,
    view: View,
    hello: Hello,
    /// Its wall clock, less true time.
    offset_ms: u64,
}

// === impl Sidecar ===

impl Sidecar {
    /// The sidecar of pod `number`, which begins now; `random` is its sequence of chance.
    pub(super) fn new(number: u64, replicas: usize, now_ms: u64, random: u64) -> Self {
        let process = FakeProcess::new(random);
        let offset_ms = random % 3_600_000;
        let mut counters = Counters::default();
        let (role, direction) = (Role::AccessLog, Direction::Inbound);
        let series = counters.resolve(role, direction, "", ResponseDetail::Off, 1);
        let mut links = Vec::new();
        for replica in 0..replicas {
            let aggregator = Aggregator {
                cluster: format!("agg-{replica}"),
                authority: String::new(),
            };
            let random = random.rotate_left(7 * u32::try_from(replica).unwrap_or(0) + 13);
            links.push(Link::new(aggregator, steady(now_ms), random));
        }
        let name = format!("pod-{number}");
        Self {
            number,
            key: PodKey::new("sim", &name),
            links,
            tokens: BTreeMap::new(),
            host: process.host(),
            started_ms: now_ms,
            ended_ms: None,
            counters,
            series: series.map(|(series, _)| series),
            counted: 0,
            view: View::default(),
            hello: Hello {
                identity: Identity {
                    namespace: "sim".to_owned(),
                    pod: name,
                    uid: format!("uid-{number}"),
                    ..Identity::default()
                },
                flush_interval_ms: FLUSH_MS,
                counters: Reported {
                    process: number + 1,
                    of_vm: false,
                    instance: number + 1,
                    started_at: UnixMillis(now_ms + offset_ms),
                    hot_restart: false,
                },
            },
            offset_ms,
        }
    }

    /// Requests counted up to `now_ms`.
    pub(super) fn total(&self, now_ms: u64) -> u64 {
        let until = self.ended_ms.map_or(now_ms, |ended| ended.min(now_ms));
        RATE * until.saturating_sub(self.started_ms) / 1000
    }

    /// A tick of its VM; returns what it asked of the network.
    pub(super) fn tick(&mut self, now_ms: u64) -> Vec<Call> {
        let now = steady(now_ms);
        if !self
            .links
            .iter()
            .any(|link| link.is_due(now, &self.hello, true))
        {
            return Vec::new();
        }
        let facts = self.read(now_ms);
        for link in &mut self.links {
            link.tick(&self.host, ROOT, &self.hello, &self.view, &facts, true);
        }
        self.host.take_calls()
    }

    /// It ends in order: each stream gets its last report.
    pub(super) fn end(&mut self, now_ms: u64) -> Vec<Call> {
        self.ended_ms = Some(now_ms);
        let facts = self.read(now_ms);
        let instance = self.hello.counters.instance;
        for link in &mut self.links {
            link.finish(&self.host, instance, &self.view, &facts, true);
        }
        self.host.take_calls()
    }

    pub(super) fn receive(&mut self, replica: usize, now_ms: u64, message: &[u8]) -> Vec<Call> {
        if let Some(link) = self.links.get_mut(replica) {
            link.receive(&self.host, message, steady(now_ms));
        }
        self.host.take_calls()
    }

    pub(super) fn closed(&mut self, replica: usize, now_ms: u64, status: u32, message: &str) {
        self.host.set_close_message(message);
        if let Some(link) = self.links.get_mut(replica) {
            link.closed(&self.host, status, steady(now_ms));
        }
        let _ = self.host.take_calls();
    }

    /// Counts what came until now and reads the totals.
    fn read(&mut self, now_ms: u64) -> Facts {
        let total = self.total(now_ms);
        if let Some(series) = self.series {
            (self.counted..total).for_each(|_| self.counters.event(series));
        }
        self.counted = total;
        let monotonic = steady(now_ms);
        self.view.read_vm(&self.counters, monotonic);
        Facts {
            now: Now {
                unix: UnixMillis(now_ms + self.offset_ms),
                monotonic,
            },
            quiet_at: steady(self.started_ms),
            vms_expected: 1,
            vms_live: 1,
            inflight_lost: true,
        }
    }
}

fn steady(now_ms: u64) -> Monotonic {
    Monotonic(now_ms * 1_000_000)
}
