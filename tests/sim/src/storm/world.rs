//! The run of a storm: events in the order of time, in microseconds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use aggregator_core::lag::TICK;
use aggregator_ingest::line::Answer;
use common_time::Monotonic;
use filter_core::testing::Call;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::storm::event::{Event, StreamKey, What, Work};
use crate::storm::fleet::Sidecar;
use crate::storm::replica::{Replica, Stage, Stream};
use crate::storm::{Kind, Outcome, Plan};

/// True time at which runs begin, in milliseconds.
const BEGIN_MS: u64 = 1_800_000_000_000;
pub(super) const REPLICAS: usize = 2;
/// When the storm comes, after the beginning.
pub(super) const STORM_MS: u64 = 25_000;
/// How long a run goes on after it.
const AFTER_MS: u64 = 50_000;
/// Sidecars of the beginning start within this time.
const START_MS: u64 = 15_000;
/// A replica that ends is back after this time.
const DOWN_MS: u64 = 2000;
/// Pods of a roll-out are replaced within this time.
const ROLL_OUT_MS: u64 = 20_000;
/// Pods of a lost node begin elsewhere within this time.
const ELSEWHERE_MS: u64 = 2000;
/// The aggregator closes the streams of a lost node after this time, by its pings.
const PONG_MS: u64 = 35_000;
/// Time between ticks of a VM, in milliseconds.
const TICK_MS: u64 = 100;
/// Longest way of a frame, in microseconds.
pub(super) const WAY_US: u64 = 5000;
const UNAVAILABLE: u32 = 14;
const RESOURCE_EXHAUSTED: u32 = 8;
const INVALID: u32 = 3;

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) now_us: u64,
    rng: SmallRng,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    pushed: u64,
    pub(super) pods: BTreeMap<u64, Sidecar>,
    next_pod: u64,
    pub(super) replicas: Vec<Replica>,
    pub(super) outcome: Outcome,
    /// When every pod could stream again.
    pub(super) free_ms: u64,
    pub(super) live_ms: Option<u64>,
}

// === impl World ===

impl World {
    pub(super) fn new(seed: u64, plan: Plan) -> Self {
        let free_ms = STORM_MS
            + match plan.kind {
                Kind::Restart => DOWN_MS,
                Kind::RollOut => ROLL_OUT_MS,
                Kind::NodesLost => ELSEWHERE_MS,
            };
        Self {
            plan,
            now_us: 0,
            rng: SmallRng::seed_from_u64(seed),
            queue: BinaryHeap::new(),
            pushed: 0,
            pods: BTreeMap::new(),
            next_pod: 0,
            replicas: (0..REPLICAS).map(|_| Replica::new()).collect(),
            outcome: Outcome::default(),
            free_ms: BEGIN_MS + free_ms,
            live_ms: None,
        }
    }

    pub(super) fn run(mut self) -> Result<Outcome, String> {
        self.now_us = BEGIN_MS * 1000;
        for _ in 0..self.plan.sidecars {
            let at = self.rng.random_range(0..START_MS * 1000);
            self.after(at, Event::Start);
        }
        for replica in 0..REPLICAS {
            self.after(1 + replica as u64, Event::Beat(replica, 0));
            self.after(1, Event::LookAgain(replica));
        }
        self.after(1_000_000, Event::Second);
        self.after(STORM_MS * 1000, Event::Storm);
        let end = self.now_us + (STORM_MS + AFTER_MS) * 1000;
        while let Some(Reverse((at, _, event))) = self.queue.pop() {
            if at > end {
                break;
            }
            self.now_us = at;
            let done = self.handle(event);
            done.map_err(|broken| format!("at {} ms: {broken}", self.now_ms() - BEGIN_MS))?;
        }
        self.settle()?;
        Ok(self.outcome)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    pub(super) fn now(&self) -> Monotonic {
        Monotonic(self.now_ms())
    }

    fn after(&mut self, micros: u64, event: Event) {
        self.at(self.now_us + micros, event);
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.pushed += 1;
        self.queue.push(Reverse((at_us, self.pushed, event)));
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Start => self.start(),
            Event::Replace(pod) => self.replace(pod),
            Event::Tick(pod) => self.tick(pod),
            Event::Came(work) => self.came(work),
            Event::Done(work) => return self.done(work),
            Event::Back {
                stream,
                epoch,
                what,
            } => self.back(stream, epoch, &what),
            Event::Due(replica, epoch) => {
                // What is in the queue by now is done first.
                let waits = self.replicas[replica].backlog_us(self.now_us);
                self.after(waits, Event::Beat(replica, epoch));
            }
            Event::Beat(replica, epoch) => self.beat(replica, epoch),
            Event::LookAgain(replica) => {
                self.look_again(replica)?;
                self.after(100_000, Event::LookAgain(replica));
            }
            Event::Second => {
                self.after(1_000_000, Event::Second);
                return self.second();
            }
            Event::Storm => self.storm(),
            Event::Up(replica) => {
                self.replicas[replica].up = true;
                let epoch = self.replicas[replica].epoch;
                self.after(1, Event::Beat(replica, epoch));
            }
            Event::Lost(streams) => {
                let now = self.now();
                for stream in streams {
                    self.replicas[stream.replica].close(stream.id(), now);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self) {
        let number = self.next_pod;
        self.next_pod += 1;
        let (now_ms, random) = (self.now_ms(), self.rng.random());
        let sidecar = Sidecar::new(number, REPLICAS, now_ms, random);
        self.pods.insert(number, sidecar);
        self.after(random % (TICK_MS * 1000), Event::Tick(number));
    }

    fn replace(&mut self, pod: u64) {
        let now_ms = self.now_ms();
        if let Some(sidecar) = self.pods.get_mut(&pod) {
            let calls = sidecar.end(now_ms);
            self.calls(pod, calls);
        }
        self.start();
    }

    fn tick(&mut self, pod: u64) {
        let now_ms = self.now_ms();
        let Some(sidecar) = self.pods.get_mut(&pod) else {
            return;
        };
        if sidecar.ended_ms.is_some() {
            return;
        }
        let calls = sidecar.tick(now_ms);
        self.calls(pod, calls);
        self.after(TICK_MS * 1000, Event::Tick(pod));
    }

    /// Brings what a sidecar asked of the network on its way.
    fn calls(&mut self, pod: u64, calls: Vec<Call>) {
        let made_ms = self.now_ms();
        // The last stream that was opened has what follows; a link sends hello and report at once.
        for call in calls {
            let (token, what) = match call {
                Call::Open { token, upstream } => {
                    let is_first = String::from_utf8_lossy(&upstream).contains("agg-0");
                    let replica = usize::from(!is_first);
                    if let Some(sidecar) = self.pods.get_mut(&pod) {
                        sidecar.tokens.insert(token.0, replica);
                    }
                    (token, What::Open)
                }
                Call::Send { token, message } => {
                    let bytes = message;
                    (token, What::Frame { made_ms, bytes })
                }
                Call::Close(token) | Call::Cancel(token) => (token, What::End),
            };
            let Some(sidecar) = self.pods.get(&pod) else {
                return;
            };
            let Some(replica) = sidecar.tokens.get(&token.0).copied() else {
                continue;
            };
            let stream = StreamKey {
                replica,
                pod,
                token: token.0,
            };
            let epoch = self.replicas[replica].epoch;
            // In order on one connection: the same way for all that is sent at one moment.
            let way = 1000 + (pod * 7919 + made_ms) % (WAY_US - 1000);
            let work = Work {
                stream,
                epoch,
                what,
            };
            self.after(way, Event::Came(work));
        }
    }

    fn came(&mut self, work: Work) {
        let replica = &mut self.replicas[work.stream.replica];
        if !replica.up || replica.epoch != work.epoch {
            if work.what == What::Open {
                let text = "connection refused".to_owned();
                self.send_back(work.stream, work.epoch, Err((UNAVAILABLE, text)));
            }
            return;
        }
        let cost = match &work.what {
            What::Open => replica.call_us(work.stream.pod, self.plan.handshake_us),
            What::Frame { .. } => self.plan.report_us,
            What::End => 1,
        };
        let done = replica.work(self.now_us, cost);
        self.outcome.waited_ms = self.outcome.waited_ms.max((done - self.now_us) / 1000);
        self.at(done, Event::Done(work));
    }

    fn done(&mut self, work: Work) -> Result<(), String> {
        let (now, now_ms) = (self.now(), self.now_ms());
        let Work {
            stream,
            epoch,
            what,
        } = work;
        let random = self.rng.random();
        let replica = &mut self.replicas[stream.replica];
        if replica.epoch != epoch {
            return Ok(());
        }
        match what {
            What::Open => match replica.line.arrive(now, None, random) {
                Answer::Enter(ticket) => {
                    let stage = Stage::Inside(ticket);
                    replica
                        .streams
                        .insert(stream.id(), Stream::new(stage, now_ms));
                }
                Answer::Wait(ticket) => {
                    let stage = Stage::Waiting(ticket);
                    replica.in_line.push_back(stream.id());
                    replica
                        .streams
                        .insert(stream.id(), Stream::new(stage, now_ms));
                }
                Answer::ComeBack(after) => self.send_away(stream, epoch, after),
            },
            What::Frame { made_ms, bytes } => {
                if let Some(known) = replica.streams.get_mut(&stream.id())
                    && matches!(known.stage, Stage::Waiting(_))
                {
                    known.held.push_back((made_ms, bytes));
                    return Ok(());
                }
                self.frame(stream, made_ms, &bytes)?;
            }
            What::End => replica.close(stream.id(), now),
        }
        self.look_again(stream.replica)
    }

    fn frame(&mut self, stream: StreamKey, made_ms: u64, bytes: &[u8]) -> Result<(), String> {
        let now = self.now();
        let replica = &mut self.replicas[stream.replica];
        let epoch = replica.epoch;
        self.outcome.reports += 1;
        match replica.frame(stream.id(), stream.pod, now, made_ms, bytes) {
            Ok(answers) => {
                for answer in answers {
                    self.send_back(stream, epoch, Ok(answer));
                }
                Ok(())
            }
            Err(text) => {
                // The last word of a stream that was cancelled may come after its end.
                self.send_back(stream, epoch, Err((INVALID, text.clone())));
                Err(format!("pod {}: a frame is refused: {text}", stream.pod))
            }
        }
    }

    /// Streams in the line that may enter do, and those that waited too long are sent away.
    fn look_again(&mut self, index: usize) -> Result<(), String> {
        let (now, epoch) = (self.now(), self.replicas[index].epoch);
        while let Some(id) = self.replicas[index].in_line.front().copied() {
            let random = self.rng.random();
            let replica = &mut self.replicas[index];
            let stream = replica.streams.get_mut(&id);
            let waits = stream.and_then(|stream| match stream.stage {
                Stage::Waiting(ticket) => Some((ticket, stream)),
                Stage::Inside(_) | Stage::Begun => None,
            });
            // It is over.
            let Some((ticket, stream)) = waits else {
                replica.in_line.pop_front();
                continue;
            };
            let key = StreamKey {
                replica: index,
                pod: id >> 24,
                token: u32::try_from(id & 0xff_ffff).unwrap_or(0),
            };
            match replica.line.ask(now, ticket, random) {
                Answer::Enter(ticket) => {
                    stream.stage = Stage::Inside(ticket);
                    let held = std::mem::take(&mut stream.held);
                    replica.in_line.pop_front();
                    for (made_ms, bytes) in held {
                        self.frame(key, made_ms, &bytes)?;
                    }
                }
                // Those behind it came later.
                Answer::Wait(_) => break,
                Answer::ComeBack(after) => {
                    replica.streams.remove(&id);
                    replica.in_line.pop_front();
                    self.send_away(key, epoch, after);
                }
            }
        }
        Ok(())
    }

    fn send_away(&mut self, stream: StreamKey, epoch: u64, after: std::time::Duration) {
        self.outcome.sent_away += 1;
        let text = format!(
            "other sidecars are taken in first: retry after {} ms",
            after.as_millis()
        );
        self.send_back(stream, epoch, Err((RESOURCE_EXHAUSTED, text)));
    }

    fn send_back(&mut self, stream: StreamKey, epoch: u64, what: Result<Vec<u8>, (u32, String)>) {
        let event = Event::Back {
            stream,
            epoch,
            what,
        };
        self.after(WAY_US, event);
    }

    fn back(&mut self, stream: StreamKey, epoch: u64, what: &Result<Vec<u8>, (u32, String)>) {
        let now_ms = self.now_ms();
        let is_of_before = self.replicas[stream.replica].epoch != epoch;
        let Some(sidecar) = self.pods.get_mut(&stream.pod) else {
            return;
        };
        let is_open = sidecar
            .links
            .get(stream.replica)
            .is_some_and(|link| link.is(filter_core::host::StreamToken(stream.token)));
        if !is_open || sidecar.ended_ms.is_some() {
            return;
        }
        match what {
            Ok(_) if is_of_before => {}
            Ok(bytes) => {
                let calls = sidecar.receive(stream.replica, now_ms, bytes);
                self.calls(stream.pod, calls);
            }
            Err((status, text)) => sidecar.closed(stream.replica, now_ms, *status, text),
        }
    }

    /// The short task runs when the processor gets to it.
    fn beat(&mut self, index: usize, epoch: u64) {
        let now = self.now();
        let replica = &mut self.replicas[index];
        if !replica.up || replica.epoch != epoch {
            return;
        }
        replica.beat(now);
        let tick = u64::try_from(TICK.as_micros()).unwrap_or(0);
        self.after(tick, Event::Due(index, epoch));
    }

    fn storm(&mut self) {
        let running: Vec<u64> = self.running().map(|sidecar| sidecar.number).collect();
        match self.plan.kind {
            Kind::Restart => {
                let streams: Vec<StreamKey> = self.streams_of(&running, 0);
                let epoch = self.replicas[0].epoch;
                self.replicas[0].end();
                for stream in streams {
                    let text = "the aggregator shuts down".to_owned();
                    self.send_back(stream, epoch, Err((UNAVAILABLE, text)));
                }
                self.after(DOWN_MS * 1000, Event::Up(0));
            }
            Kind::RollOut => {
                for pod in running {
                    let at = self.rng.random_range(0..ROLL_OUT_MS * 1000);
                    self.after(at, Event::Replace(pod));
                }
            }
            Kind::NodesLost => {
                let lost: Vec<u64> = running.into_iter().filter(|pod| pod % 3 == 0).collect();
                let now_ms = self.now_ms();
                for replica in 0..REPLICAS {
                    let streams = self.streams_of(&lost, replica);
                    self.after(PONG_MS * 1000, Event::Lost(streams));
                }
                for pod in lost {
                    if let Some(sidecar) = self.pods.get_mut(&pod) {
                        sidecar.ended_ms = Some(now_ms);
                    }
                    let at = self.rng.random_range(0..ELSEWHERE_MS * 1000);
                    self.after(at, Event::Start);
                }
            }
        }
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &Sidecar> {
        self.pods
            .values()
            .filter(|sidecar| sidecar.ended_ms.is_none())
    }

    fn streams_of(&self, pods: &[u64], replica: usize) -> Vec<StreamKey> {
        let sidecars = pods.iter().filter_map(|pod| self.pods.get(pod));
        let mut streams = Vec::new();
        for sidecar in sidecars {
            for (token, of) in &sidecar.tokens {
                if *of == replica {
                    streams.push(StreamKey {
                        replica,
                        pod: sidecar.number,
                        token: *token,
                    });
                }
            }
        }
        streams
    }
}
