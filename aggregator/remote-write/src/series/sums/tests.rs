//! Two replicas against a plain count: whatever happens to them, Prometheus sees every request once.

use aggregator_core::status::{PodState, PodStatus};
use proptest::prelude::{Strategy, prop, prop_assert_eq, prop_oneof, proptest};

use super::*;

const START: i64 = 1_000_000;
const INTERVAL: i64 = 15_000;

/// What happens between two flushes.
#[derive(Clone, Debug)]
enum Happens {
    Requests(usize, u64),
    Born(u64),
    Gone(usize),
    /// A pod of the same name begins again.
    Replaced(usize, u64),
    Flush,
    /// The writer goes on from its checkpoint.
    Restart,
    /// The other one writes from now on.
    HandOver,
}

fn happens() -> impl Strategy<Value = Vec<Happens>> {
    let one = prop_oneof![
        4 => (0_usize..4, 0_u64..50).prop_map(|(pod, count)| Happens::Requests(pod, count)),
        1 => (0_u64..50).prop_map(Happens::Born),
        1 => (0_usize..4).prop_map(Happens::Gone),
        1 => (0_usize..4, 0_u64..50).prop_map(|(pod, count)| Happens::Replaced(pod, count)),
        4 => prop::strategy::Just(Happens::Flush),
        1 => prop::strategy::Just(Happens::Restart),
        1 => prop::strategy::Just(Happens::HandOver),
    ];
    prop::collection::vec(one, 1..60)
}

struct Counter {
    name: u64,
    instance: u64,
    began: u64,
    total: u64,
}

struct World {
    replicas: [Sums; 2],
    since: [UnixMillis; 2],
    writer: usize,
    pods: Vec<Counter>,
    names: u64,
    now: i64,
    flushed: i64,
    /// What Prometheus has: the last value, and all increases.
    last: u64,
    increase: u64,
    /// All requests.
    made: u64,
}

fn owner() -> Owner {
    Owner::Group {
        namespace: "prod".to_owned(),
        about: About::default(),
    }
}

fn key() -> SeriesKey {
    SeriesKey {
        direction: Direction::Inbound,
        cluster: "c".into(),
    }
}

fn unix(at: i64) -> UnixMillis {
    UnixMillis(u64::try_from(at).unwrap())
}

impl World {
    fn new() -> Self {
        let mut replicas: [Sums; 2] = Default::default();
        replicas[1].follow(i64::MIN);
        Self {
            replicas,
            since: [unix(START); 2],
            writer: 0,
            pods: Vec::new(),
            names: 0,
            now: START,
            flushed: START,
            last: 0,
            increase: 0,
            made: 0,
        }
    }

    fn born(&mut self, total: u64) {
        self.names += 1;
        let began = unix(self.now + 1).0;
        let (name, instance) = (self.names, self.names);
        self.pods.push(Counter {
            name,
            instance,
            began,
            total,
        });
        self.made += total;
    }

    fn status(pod: &Counter) -> PodStatus {
        PodStatus {
            key: PodKey::new("prod", format!("pod-{}", pod.name).as_str()),
            uid: "".into(),
            state: PodState::Live,
            streams: 1,
            instances: vec![InstanceId(pod.instance)],
            started_at: Some(UnixMillis(pod.began)),
            last_report_age: None,
            vms_expected: 1,
            vms_live: 1,
            series: Vec::new(),
        }
    }

    fn flush(&mut self) {
        self.now += INTERVAL;
        for (index, sums) in self.replicas.iter_mut().enumerate() {
            if index != self.writer {
                sums.follow(self.flushed);
            }
            for pod in &self.pods {
                let total = std::iter::once((key(), Part::Total, pod.total));
                sums.add(
                    self.now,
                    self.since[index],
                    &Self::status(pod),
                    &owner(),
                    total,
                );
            }
        }
        let told: Vec<_> = self.replicas[self.writer]
            .of_flush(self.now)
            .map(|(_, total, _)| total)
            .collect();
        for total in told {
            self.increase += total.checked_sub(self.last).unwrap_or(total);
            self.last = total;
        }
        self.flushed = self.now;
    }

    fn happen(&mut self, what: &Happens) {
        match *what {
            Happens::Requests(pod, count) => {
                if let Some(pod) = self.pods.get_mut(pod) {
                    pod.total += count;
                    self.made += count;
                }
            }
            Happens::Born(total) => self.born(total),
            Happens::Gone(pod) => {
                // What a pod counts after the last flush of its life is told by nobody.
                self.flush();
                if pod < self.pods.len() {
                    self.pods.remove(pod);
                }
            }
            Happens::Replaced(pod, total) => {
                self.flush();
                if let Some(pod) = self.pods.get_mut(pod) {
                    self.names += 1;
                    pod.instance = self.names;
                    pod.began = unix(self.now + 1).0;
                    pod.total = total;
                    self.made += total;
                }
            }
            Happens::Flush => self.flush(),
            Happens::Restart => {
                let saved = self.replicas[self.writer].checkpoint();
                self.replicas[self.writer] = Sums::restore(&saved).unwrap();
                self.since[self.writer] = unix(self.flushed);
            }
            Happens::HandOver => {
                self.replicas[self.writer].follow(self.flushed);
                self.writer = 1 - self.writer;
                self.replicas[self.writer].follow(self.flushed);
                self.replicas[self.writer].lead();
                // It begins with a 0.
                self.last = 0;
            }
        }
    }
}

proptest! {
    #[test]
    fn every_request_is_told_once(all in happens()) {
        let mut world = World::new();
        for what in &all {
            world.happen(what);
        }
        world.flush();
        prop_assert_eq!(world.increase, world.made);
    }
}
