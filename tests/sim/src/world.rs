//! The run of a seed: events in the order of time, and what each does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use aggregator_core::limits::StoreLimits;
use filter_core::config::Module;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::aggregator::Aggregator;
use crate::network::{Stream, Way};
use crate::oracle::{Kind, Truth};
use crate::plan::{HEALING_MS, Plan, TRAFFIC_AFTER_MS};
use crate::sidecar::{CLUSTERS, Setup, Sidecar};
use crate::tally::{Fault, Tally};
use crate::{Failure, Plant};

mod faults;
mod life;
mod wire;

/// True time at which runs begin, in Unix milliseconds.
const BEGIN_MS: u64 = 1_800_000_000_000;
/// Events kept to be shown with a failure.
const EVENTS_MAX: usize = 400;
/// Events shown with a failure: the last ones of the pod it is about, if it names one.
const SHOWN_MAX: usize = 25;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Event {
    Start {
        pod: usize,
    },
    Tick {
        pod: usize,
        epoch: u64,
        serial: u64,
    },
    Request {
        pod: usize,
    },
    Complete {
        pod: usize,
        epoch: u64,
        serial: u64,
        context: u32,
    },
    Up {
        stream: u64,
    },
    Down {
        stream: u64,
    },
    /// The aggregator hears that a stream broke.
    Lost {
        stream: u64,
    },
    Configure {
        pod: usize,
        epoch: u64,
        serial: u64,
        roots: u32,
    },
    RootDone {
        pod: usize,
        epoch: u64,
        serial: u64,
        root: u32,
    },
    Reload {
        pod: usize,
        epoch: u64,
        serial: u64,
    },
    AggregatorUp {
        aggregator: usize,
    },
    Fault,
    Look,
    /// The last report of an ended sidecar has arrived.
    Ended {
        pod: usize,
        aggregator: usize,
        aggregator_epoch: u64,
        stream: u64,
        totals: [u64; 3],
    },
}

/// All there is in a run.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    pub(crate) rng: SmallRng,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    pushed: u64,
    pub(crate) setups: Vec<Setup>,
    pub(crate) sidecars: BTreeMap<usize, Sidecar>,
    pub(crate) truths: Vec<Truth>,
    pub(crate) aggregators: Vec<Aggregator>,
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) ways: Vec<Vec<Way>>,
    next_stream: u64,
    next_epoch: u64,
    uids: Vec<u64>,
    /// Segment of each instance seen on the wire.
    pub(crate) segments: BTreeMap<u64, (usize, usize)>,
    pub(crate) tally: Tally,
    events: VecDeque<(u64, String)>,
}

impl World {
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let plan = Plan::of(seed, &mut rng);
        let limits = StoreLimits {
            pods: plan.pods_max.unwrap_or(StoreLimits::default().pods),
            ..StoreLimits::default()
        };
        let aggregators = (0..plan.aggregators)
            .map(|_| Aggregator::new(limits, rng.random_range(0..100_000), plant))
            .collect();
        let setups: Vec<Setup> = (0..plan.pods)
            .map(|pod| setup(pod, &plan, &mut rng))
            .collect();
        let ways = (0..plan.pods)
            .map(|_| {
                let way = |rng: &mut SmallRng| Way {
                    latency_ms: rng.random_range(0..=40),
                    ..Way::default()
                };
                (0..plan.aggregators).map(|_| way(&mut rng)).collect()
            })
            .collect();
        Self {
            seed,
            plan,
            now: BEGIN_MS,
            rng,
            queue: BinaryHeap::new(),
            pushed: 0,
            truths: (0..plan.pods).map(|_| Truth::default()).collect(),
            uids: vec![0; plan.pods],
            setups,
            sidecars: BTreeMap::new(),
            aggregators,
            streams: BTreeMap::new(),
            ways,
            next_stream: 1,
            next_epoch: 1,
            segments: BTreeMap::new(),
            tally: Tally::default(),
            events: VecDeque::new(),
        }
    }

    pub(crate) fn run(mut self) -> Result<Tally, Box<Failure>> {
        for pod in 0..self.plan.pods {
            let wait = self.rng.random_range(0..5000);
            self.after(wait, Event::Start { pod });
        }
        self.after(100, Event::Fault);
        self.after(1000, Event::Look);
        let end = BEGIN_MS + self.plan.trouble_ms + HEALING_MS;
        while let Some(Reverse((at, _, event))) = self.queue.pop() {
            if at > end {
                break;
            }
            self.now = at;
            let done = self.happen(event);
            done.map_err(|broken| Box::new(self.failure(broken)))?;
        }
        self.now = end;
        self.settle()
            .map_err(|broken| Box::new(self.failure(broken)))?;
        self.tally.seeds = 1;
        self.tally.simulated_ms = end - BEGIN_MS;
        let lists = self.truths.iter().flat_map(|truth| &truth.all);
        self.tally.requests = lists.map(|list| list.len() as u64).sum();
        Ok(self.tally)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Start { pod } => self.start(pod),
            Event::Tick { pod, epoch, serial } => self.tick(pod, epoch, serial),
            Event::Request { pod } => self.request(pod),
            Event::Complete {
                pod,
                epoch,
                serial,
                context,
            } => {
                self.complete(pod, epoch, serial, context);
            }
            Event::Up { stream } => self.up(stream)?,
            Event::Down { stream } => self.down(stream),
            Event::Lost { stream } => self.lose(stream),
            Event::Configure {
                pod,
                epoch,
                serial,
                roots,
            } => {
                self.configure(pod, epoch, serial, roots);
            }
            Event::RootDone {
                pod,
                epoch,
                serial,
                root,
            } => {
                self.root_done(pod, epoch, serial, root);
            }
            Event::Reload { pod, epoch, serial } => self.reload(pod, epoch, serial),
            Event::AggregatorUp { aggregator } => {
                self.note(|| format!("aggregator {aggregator} is back"));
                self.aggregators[aggregator].up = true;
            }
            Event::Fault => self.fault(),
            Event::Look => {
                self.look()?;
                let wait = self.rng.random_range(200..800);
                self.after(wait, Event::Look);
            }
            Event::Ended {
                pod,
                aggregator,
                aggregator_epoch,
                stream,
                totals,
            } => {
                self.ended(pod, aggregator, aggregator_epoch, stream, totals)?;
            }
        }
        Ok(())
    }

    pub(crate) fn after(&mut self, millis: u64, event: Event) {
        self.at(self.now + millis, event);
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.pushed += 1;
        self.queue.push(Reverse((at, self.pushed, event)));
    }

    pub(crate) fn in_trouble(&self) -> bool {
        self.now < BEGIN_MS + self.plan.trouble_ms
    }

    pub(crate) fn has_traffic(&self) -> bool {
        self.now < BEGIN_MS + self.plan.trouble_ms + TRAFFIC_AFTER_MS
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back((self.now - BEGIN_MS, text()));
    }

    fn failure(&self, broken: String) -> Failure {
        let pod = broken.split_once("pod-").map(|(_, rest)| {
            let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
            format!("pod {number},")
        });
        // Every line counts that names the pod, or no pod at all.
        let about = |line: &str| {
            let line = format!("{line},").replace(':', ",");
            pod.as_ref()
                .is_none_or(|pod| line.contains(pod) || !line.contains("pod "))
        };
        let mut lines: Vec<_> = self.events.iter().filter(|(_, line)| about(line)).collect();
        let lines = lines
            .split_off(lines.len().saturating_sub(SHOWN_MAX))
            .into_iter();
        Failure {
            seed: self.seed,
            at_ms: self.now - BEGIN_MS,
            broken,
            events: lines.fold(String::new(), |all, (at, line)| {
                format!("{all}    {at} ms: {line}\n")
            }),
        }
    }

    /// Takes a living process out of the map, works on it and puts it back.
    pub(crate) fn with(
        &mut self,
        pod: usize,
        epoch: u64,
        work: impl FnOnce(&mut Self, &mut Sidecar),
    ) {
        let Some(mut sidecar) = self.sidecars.remove(&pod) else {
            return;
        };
        if sidecar.epoch == epoch && sidecar.alive {
            sidecar.advance(self.now);
            work(self, &mut sidecar);
        }
        self.sidecars.insert(pod, sidecar);
    }

    pub(crate) fn count(&mut self, sidecar: &mut Sidecar, index: usize, kind: Kind) {
        let pod = sidecar.setup.pod;
        let side = &mut sidecar.vms[index];
        let segment = if sidecar.setup.hidden {
            side.segment
        } else {
            sidecar.segment
        };
        self.truths[pod].count(segment, kind, self.now);
        side.pending[kind as usize].push(self.now);
    }
}

fn setup(pod: usize, plan: &Plan, rng: &mut SmallRng) -> Setup {
    let rates = [0.0, 0.3, 2.0, 10.0, 40.0];
    let top = if plan.pods > 100 { 3 } else { rates.len() };
    Setup {
        pod,
        workers: rng.random_range(1..=3),
        hidden: rng.random_bool(0.15),
        attempts: rng.random_bool(0.5),
        by_cluster: rng.random_bool(0.25),
        aggregators: plan.aggregators,
        flush_ms: [1000, 1000, 1000, 500, 2000][rng.random_range(0..5)],
        offset_ms: rng.random_range(-300_000..=300_000),
        rate: rates[rng.random_range(0..top)],
    }
}

/// The cluster of the next request of a pod that tells clusters apart.
pub(crate) fn cluster(setup: &Setup, rng: &mut SmallRng) -> Option<&'static str> {
    setup.by_cluster.then(|| CLUSTERS[rng.random_range(0..4)])
}

/// The modules of a thread.
pub(crate) fn modules(setup: &Setup) -> &'static [Module] {
    if setup.attempts {
        &[Module::Filter, Module::Log]
    } else {
        &[Module::Filter]
    }
}

/// Names a fault that came about.
pub(crate) fn noted(world: &mut World, fault: Fault, what: &str) {
    world.tally.note(fault);
    world.note(|| format!("{fault:?}: {what}"));
}
