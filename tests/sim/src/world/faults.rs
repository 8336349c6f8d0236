//! Injected faults.

use aggregator_core::limits::AHEAD_MAX;
use filter_core::config::Module;
use rand::Rng as _;

use crate::oracle::Kind;
use crate::tally::Fault;
use crate::world::{Event, World, noted};

impl World {
    pub(crate) fn fault(&mut self) {
        if !self.in_trouble() {
            return;
        }
        let wait = self.rng.random_range(1..=2 * self.plan.fault_every_ms);
        self.after(wait, Event::Fault);
        let pod = self.rng.random_range(0..self.plan.pods);
        let aggregator = self.rng.random_range(0..self.plan.aggregators);
        let steps = self.plan.clocks_step && self.rng.random_bool(0.1);
        if steps {
            self.step_clock(pod);
            return;
        }
        // A restart of an aggregator or of a sidecar hides what comes after it: they are rarer.
        match Fault::SUDDEN[self.rng.random_range(0..Fault::SUDDEN.len())] {
            Fault::Stall if self.rng.random_bool(0.3) => self.stall(aggregator),
            Fault::AggregatorRestart if self.rng.random_bool(0.2) => self.restart(aggregator),
            Fault::Terminate if self.rng.random_bool(0.4) => self.terminate(pod),
            Fault::Kill if self.rng.random_bool(0.4) => self.kill(pod),
            Fault::Reconfigure => self.reconfigure(pod),
            Fault::Trap => self.trap(pod),
            Fault::ResetCounters => self.reset_counters(pod),
            Fault::Cut => {
                let streams = self.streams.iter().filter(|(_, stream)| {
                    stream.pod == pod && stream.aggregator == aggregator && !stream.cut
                });
                let ids: Vec<u64> = streams.map(|(id, _)| *id).collect();
                noted(
                    self,
                    Fault::Cut,
                    &format!("pod {pod}, aggregator {aggregator}"),
                );
                for id in ids {
                    self.cut(id);
                }
            }
            fault => self.trouble_way(fault, pod, aggregator),
        }
    }

    /// A way between a sidecar and an aggregator behaves badly for a while.
    fn trouble_way(&mut self, fault: Fault, pod: usize, aggregator: usize) {
        let until = self.now + self.rng.random_range(500..15_000);
        let slow_ms = self.rng.random_range(100..3000);
        let way = &mut self.ways[pod][aggregator];
        match fault {
            Fault::Partition => way.blocked_until = until,
            Fault::Slow => (way.slow_until, way.slow_ms) = (until, slow_ms),
            Fault::Duplicate => way.doubles_until = until,
            Fault::Replay => way.replays_until = until,
            _ => return,
        }
        if matches!(fault, Fault::Partition | Fault::Slow) {
            self.tally.note(fault);
        }
        let seconds = (until - self.now) / 1000;
        self.note(|| format!("{fault:?}: pod {pod}, aggregator {aggregator}, {seconds} s"));
    }

    fn stall(&mut self, aggregator: usize) {
        let until = self.now + self.rng.random_range(500..10_000);
        noted(self, Fault::Stall, &format!("aggregator {aggregator}"));
        self.aggregators[aggregator].stalled_until = until;
    }

    fn restart(&mut self, aggregator: usize) {
        if !self.aggregators[aggregator].up {
            return;
        }
        noted(
            self,
            Fault::AggregatorRestart,
            &format!("aggregator {aggregator}"),
        );
        self.aggregators[aggregator].restart();
        let streams = self.streams.iter();
        let ids: Vec<u64> = streams
            .filter(|(_, stream)| stream.aggregator == aggregator)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.cut(id);
        }
        let wait = self.rng.random_range(200..5000);
        self.after(wait, Event::AggregatorUp { aggregator });
    }

    fn step_clock(&mut self, pod: usize) {
        let size = [300, 2000, 20_000, 80_000][self.rng.random_range(0..4)];
        let millis: i64 = self.rng.random_range(-size..=size);
        if let Some(sidecar) = self.sidecars.get(&pod) {
            sidecar.process.step_unix_ms(millis);
            self.setups[pod].offset_ms += millis;
            self.truths[pod].stepped_ms += millis.unsigned_abs();
            self.truths[pod].stepped_back |= millis < 0;
            if i128::from(millis) > AHEAD_MAX.as_millis().cast_signed() {
                self.truths[pod].leapt_at = Some(self.now);
            }
            noted(self, Fault::ClockStep, &format!("pod {pod}, {millis} ms"));
        }
    }

    fn reconfigure(&mut self, pod: usize) {
        let Some(epoch) = self.sidecars.get(&pod).map(|sidecar| sidecar.epoch) else {
            return;
        };
        self.with(pod, epoch, |world, sidecar| {
            noted(world, Fault::Reconfigure, &format!("pod {pod}"));
            sidecar.setup.flush_ms = [1000, 500][world.rng.random_range(0..2)];
            let roots = sidecar.new_roots();
            for side in &sidecar.vms {
                let wait = if side.thread == 0 {
                    0
                } else {
                    world.rng.random_range(0..200)
                };
                let serial = side.serial;
                world.after(
                    wait,
                    Event::Configure {
                        pod,
                        epoch,
                        serial,
                        roots,
                    },
                );
            }
        });
    }

    fn trap(&mut self, pod: usize) {
        let Some(epoch) = self.sidecars.get(&pod).map(|sidecar| sidecar.epoch) else {
            return;
        };
        self.with(pod, epoch, |world, sidecar| {
            let thread = world.rng.random_range(1..=sidecar.setup.workers);
            let module = if world.rng.random_bool(0.7) {
                Module::Filter
            } else {
                Module::Log
            };
            let Some(index) = sidecar.on_thread(thread, module) else {
                return;
            };
            if !sidecar.vms[index].is_alive() {
                return;
            }
            noted(
                world,
                Fault::Trap,
                &format!("pod {pod}, thread {thread}, {module:?}"),
            );
            let side = &mut sidecar.vms[index];
            side.dead_since = Some(world.now);
            if side.ticked && !side.living.is_empty() {
                sidecar.deaths.push(world.now);
            }
            let side = &mut sidecar.vms[index];
            let truth = &mut world.truths[pod];
            truth.trapped = true;
            truth.open -= side.open.len() as u64;
            if sidecar.setup.hidden {
                truth.segments[side.segment].broken = true;
            } else {
                for kind in Kind::ALL {
                    truth.segments[sidecar.segment].lose(kind, &side.pending[kind as usize]);
                }
            }
            let serial = side.serial;
            if world.rng.random_bool(0.7) {
                let wait = world.rng.random_range(500..9000);
                world.after(wait, Event::Reload { pod, epoch, serial });
            }
        });
    }

    fn reset_counters(&mut self, pod: usize) {
        let Some(epoch) = self.sidecars.get(&pod).map(|sidecar| sidecar.epoch) else {
            return;
        };
        self.with(pod, epoch, |world, sidecar| {
            if sidecar.setup.hidden {
                return;
            }
            noted(world, Fault::ResetCounters, &format!("pod {pod}"));
            let values = Kind::ALL.map(|kind| sidecar.metric(kind));
            let truth = &mut world.truths[pod];
            let segment = &mut truth.segments[sidecar.segment];
            let carried = Kind::ALL.map(|kind| segment.settled(kind) - values[kind as usize]);
            segment.closed = Some(values);
            sidecar.process.reset_counters();
            sidecar.segment = truth.segment(world.now, carried);
        });
    }
}
