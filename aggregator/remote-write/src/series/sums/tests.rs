//! One replica against a plain count: whatever happens to it, Prometheus sees every request once;
//! or, if the replica lost its checkpoint, at most once.

use aggregator_core::series::Direction;
use aggregator_core::status::{PodState, PodStatus};
use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::series::naming::SeriesMetadata;

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
    /// It goes on from its checkpoint, and may know less of the pods than before.
    Restart,
    /// The same, and what was flushed last reached nobody.
    Crash,
    /// It begins anew, without its checkpoint, and hears of all pods.
    Lose,
    /// A process hears nothing of the pods any more, or hears of them again.
    Deaf(usize, bool),
}

fn happens() -> impl Strategy<Value = Vec<Happens>> {
    let one = prop_oneof![
        4 => (0_usize..4, 0_u64..50).prop_map(|(pod, count)| Happens::Requests(pod, count)),
        1 => (0_u64..50).prop_map(Happens::Born),
        1 => (0_usize..4).prop_map(Happens::Gone),
        1 => (0_usize..4, 0_u64..50).prop_map(|(pod, count)| Happens::Replaced(pod, count)),
        4 => prop::strategy::Just(Happens::Flush),
        1 => prop::strategy::Just(Happens::Restart),
        1 => prop::strategy::Just(Happens::Crash),
        1 => prop::strategy::Just(Happens::Lose),
        2 => (0_usize..2, prop::bool::ANY).prop_map(|(process, deaf)| Happens::Deaf(process, deaf)),
    ];
    prop::collection::vec(one, 1..60)
}

#[derive(Clone)]
struct Counter {
    name: u64,
    instance: u64,
    began: u64,
    total: u64,
}

struct World {
    sums: Sums,
    /// Which of two processes runs: a restart is a change to the other one.
    process: usize,
    /// What each knows of the pods, and whether it hears of them.
    heard: [Vec<Counter>; 2],
    deaf: [bool; 2],
    pods: Vec<Counter>,
    names: u64,
    now: i64,
    /// What Prometheus has: the last value, and all increases.
    last: u64,
    increase: u64,
    made: u64,
}

fn owner() -> Owner {
    Owner::Group {
        namespace: "prod".to_owned(),
        metadata: SeriesMetadata::default(),
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
        Self {
            process: 0,
            sums: Sums::new(unix(START)),
            heard: Default::default(),
            deaf: [false; 2],
            pods: Vec::new(),
            names: 0,
            now: START,
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
            started_at: None,
            last_report_age: None,
            vms_expected: 1,
            vms_live: 1,
            series: Vec::new(),
        }
    }

    /// Everybody who is not deaf hears of all pods.
    fn hear(&mut self) {
        for (heard, deaf) in self.heard.iter_mut().zip(self.deaf) {
            if !deaf {
                heard.clone_from(&self.pods);
            }
        }
    }

    /// The next flush, which may get lost.
    fn flush(&mut self, arrives: bool) {
        self.now += INTERVAL;
        self.hear();
        for pod in &self.heard[self.process] {
            let total = std::iter::once((key(), Part::Attempts, pod.total));
            let began = Some(UnixMillis(pod.began));
            self.sums
                .add(self.now, &Self::status(pod), began, &owner(), total);
        }
        let told: Vec<_> = self
            .sums
            .of_flush(self.now)
            .map(|(_, total, _)| total)
            .collect();
        self.sums.end_flush(self.now);
        for total in told.into_iter().filter(|_| arrives) {
            self.increase += total.checked_sub(self.last).unwrap_or(total);
            self.last = total;
        }
    }

    /// What a pod counts after the last flush of its life that has it is told by nobody.
    fn told_by_all(&mut self) {
        self.deaf = [false; 2];
        self.flush(true);
    }

    fn take_up(&mut self) {
        if let Some(saved) = self.sums.checkpoint() {
            self.sums = Sums::restore(&saved).unwrap();
        }
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
                self.told_by_all();
                if pod < self.pods.len() {
                    self.pods.remove(pod);
                }
            }
            Happens::Replaced(pod, total) => {
                self.told_by_all();
                if let Some(pod) = self.pods.get_mut(pod) {
                    self.names += 1;
                    pod.instance = self.names;
                    pod.began = unix(self.now + 1).0;
                    pod.total = total;
                    self.made += total;
                }
            }
            Happens::Flush => self.flush(true),
            Happens::Restart => {
                self.take_up();
                self.process = 1 - self.process;
            }
            Happens::Crash => {
                self.flush(false);
                self.happen(&Happens::Restart);
            }
            Happens::Lose => {
                self.sums = Sums::new(unix(self.now));
                self.told_by_all();
            }
            Happens::Deaf(replica, deaf) => self.deaf[replica] = deaf,
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
        world.told_by_all();
        if all.iter().any(|what| matches!(what, Happens::Lose)) {
            prop_assert!(world.increase <= world.made, "{} of {}", world.increase, world.made);
        } else {
            prop_assert_eq!(world.increase, world.made);
        }
    }
}
