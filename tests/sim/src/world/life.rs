//! The life of sidecars: start, ticks, requests, new configurations, the end.

use filter_core::host::{ContextId, RootId};
use rand::Rng as _;

use crate::network::Stream;
use crate::oracle::Kind;
use crate::sidecar::Sidecar;
use crate::tally::Fault;
use crate::world::{Event, World, cluster, modules, noted};

/// Time between ticks, in milliseconds.
const TICK_MS: u64 = 100;
/// A tick comes so much late at most, in milliseconds.
const TICK_LATE_MS: u64 = 5;

impl World {
    pub(crate) fn start(&mut self, pod: usize) {
        let mut setup = self.setups[pod].clone();
        if !self.in_trouble() {
            setup.rate = setup.rate.min(10.0);
        }
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        let uid = self.uids[pod];
        self.note(|| format!("pod {pod}: process {epoch}: {setup:?}"));
        if setup.hidden {
            self.tally.note(Fault::HiddenMetrics);
        }
        let (threads, modules) = (0..=setup.workers, modules(&setup));
        let hidden = setup.hidden;
        let mut sidecar = Sidecar::new(setup, uid, epoch, self.now, &mut self.rng);
        sidecar.segment = self.truths[pod].segment(self.now, [0; 3]);
        let roots = sidecar.new_roots();
        for thread in threads {
            for module in modules {
                let segment = if hidden {
                    self.truths[pod].segment(self.now, [0; 3])
                } else {
                    0
                };
                sidecar.add_vm(thread, *module, roots, self.now, segment);
                self.first_tick(&mut sidecar);
            }
        }
        let first = self.sidecars.insert(pod, sidecar).is_none();
        if first {
            self.after(1, Event::Request { pod });
        }
    }

    /// Ticks of the newest VM begin.
    fn first_tick(&mut self, sidecar: &mut Sidecar) {
        let (pod, epoch) = (sidecar.setup.pod, sidecar.epoch);
        if let Some(side) = sidecar.vms.last_mut() {
            side.next_tick = self.now + self.rng.random_range(1..=TICK_MS);
            let (at, serial) = (side.next_tick, side.serial);
            self.at(at, Event::Tick { pod, epoch, serial });
        }
    }

    pub(crate) fn tick(&mut self, pod: usize, epoch: u64, serial: u64) {
        self.with(pod, epoch, |world, sidecar| {
            let Some(index) = sidecar.position(serial) else {
                return;
            };
            let side = &mut sidecar.vms[index];
            if !side.is_alive() {
                return;
            }
            side.ticked = true;
            side.pending = Default::default();
            side.next_tick += TICK_MS;
            let next = side.next_tick + world.rng.random_range(0..=TICK_LATE_MS);
            for root in side.living.clone() {
                sidecar.vms[index].vm.on_tick(root);
                world.calls(sidecar, index, root);
            }
            world.at(next.max(world.now + 1), Event::Tick { pod, epoch, serial });
        });
    }

    pub(crate) fn request(&mut self, pod: usize) {
        if !self.has_traffic() {
            return;
        }
        let rate = self.setups[pod].rate;
        if rate == 0.0 || self.rng.random_bool(0.002) {
            // A quiet time.
            let wait = self.rng.random_range(2000..20_000);
            self.after(wait, Event::Request { pod });
        } else {
            let mean = 1000.0 / rate;
            let wait = -mean * (1.0 - self.rng.random::<f64>()).ln();
            self.after(whole(wait), Event::Request { pod });
        }
        let Some(epoch) = self.sidecars.get(&pod).map(|sidecar| sidecar.epoch) else {
            return;
        };
        if rate == 0.0 {
            return;
        }
        self.with(pod, epoch, |world, sidecar| {
            let thread = world.rng.random_range(1..=sidecar.setup.workers);
            let kind = if world.rng.random_bool(0.7) {
                Kind::Inbound
            } else {
                Kind::Outbound
            };
            let cluster = cluster(&sidecar.setup, &mut world.rng);
            let index = sidecar.on_thread(thread, filter_core::config::Module::Filter);
            let Some(index) = index.filter(|index| sidecar.vms[*index].is_alive()) else {
                return;
            };
            let serial = sidecar.vms[index].serial;
            let Some(context) = sidecar.vms[index].begin(kind, cluster) else {
                return;
            };
            world.count(sidecar, index, kind);
            let truth = &mut world.truths[pod];
            truth.open += 1;
            truth.open_peak = truth.open_peak.max(truth.open);
            let long = world.rng.random_bool(0.05);
            let takes = world.rng.random_range(1..if long { 4000 } else { 200 });
            let context = context.0;
            world.after(
                takes,
                Event::Complete {
                    pod,
                    epoch,
                    serial,
                    context,
                },
            );
        });
    }

    pub(crate) fn complete(&mut self, pod: usize, epoch: u64, serial: u64, context: u32) {
        self.with(pod, epoch, |world, sidecar| {
            let Some(index) = sidecar.position(serial) else {
                return;
            };
            if !sidecar.vms[index].is_alive() {
                return;
            }
            let status = [Some(200), Some(200), Some(404), Some(503), None];
            let status = status[world.rng.random_range(0..status.len())];
            if sidecar.vms[index].end(context, status) {
                world.truths[pod].open -= 1;
            }
            let thread = sidecar.vms[index].thread;
            let log = sidecar.on_thread(thread, filter_core::config::Module::Log);
            let Some(log) = log.filter(|log| sidecar.vms[*log].is_alive()) else {
                return;
            };
            for _ in 0..world.rng.random_range(0..3) {
                let cluster = cluster(&sidecar.setup, &mut world.rng);
                if sidecar.vms[log].attempt(cluster) {
                    world.count(sidecar, log, Kind::Attempt);
                }
            }
        });
    }

    pub(crate) fn configure(&mut self, pod: usize, epoch: u64, serial: u64, roots: u32) {
        self.with(pod, epoch, |world, sidecar| {
            let Some(index) = sidecar.position(serial) else {
                return;
            };
            let mut side = sidecar.vms.remove(index);
            if side.is_alive() {
                for root in side.living.clone() {
                    let wait = world.rng.random_range(200..6000);
                    world.after(
                        wait,
                        Event::RootDone {
                            pod,
                            epoch,
                            serial,
                            root: root.0,
                        },
                    );
                }
                sidecar.configure(&mut side, roots);
            }
            sidecar.vms.insert(index, side);
        });
    }

    pub(crate) fn root_done(&mut self, pod: usize, epoch: u64, serial: u64, root: u32) {
        self.with(pod, epoch, |world, sidecar| {
            let Some(index) = sidecar.position(serial) else {
                return;
            };
            if sidecar.vms[index].is_alive() {
                world.finish_root(sidecar, index, RootId(root));
            }
        });
    }

    fn finish_root(&mut self, sidecar: &mut Sidecar, index: usize, root: RootId) {
        let side = &mut sidecar.vms[index];
        if !side.living.contains(&root) {
            return;
        }
        side.vm.on_done(ContextId(root.0));
        side.pending = Default::default();
        self.calls(sidecar, index, root);
        sidecar.vms[index].living.retain(|living| *living != root);
        // Envoy ends the streams of a context that is gone, after what it sent.
        let (pod, epoch, serial) = (sidecar.setup.pod, sidecar.epoch, sidecar.vms[index].serial);
        self.end_streams(pod, |stream| {
            stream.epoch == epoch && stream.serial == serial && stream.root == root
        });
    }

    /// A worker's VM comes back in place of a dead one.
    pub(crate) fn reload(&mut self, pod: usize, epoch: u64, serial: u64) {
        self.with(pod, epoch, |world, sidecar| {
            let Some(index) = sidecar.position(serial) else {
                return;
            };
            let dead = sidecar.vms.remove(index);
            sidecar.reloads += usize::from(dead.ticked && !dead.living.is_empty());
            world.end_streams(pod, |stream| {
                stream.epoch == epoch && stream.serial == serial
            });
            let segment = if sidecar.setup.hidden {
                world.truths[pod].segment(world.now, [0; 3])
            } else {
                0
            };
            let roots = sidecar.new_roots();
            sidecar.add_vm(dead.thread, dead.module, roots, world.now, segment);
            world.first_tick(sidecar);
            world.note(|| format!("pod {pod}: a VM is back on thread {}", dead.thread));
        });
    }

    /// The process ends in order: workers first, the main thread last.
    pub(crate) fn terminate(&mut self, pod: usize) {
        let Some(epoch) = self.sidecars.get(&pod).map(|sidecar| sidecar.epoch) else {
            return;
        };
        self.with(pod, epoch, |world, sidecar| {
            noted(world, Fault::Terminate, &format!("pod {pod}"));
            let mut order: Vec<usize> = (0..sidecar.vms.len()).collect();
            order.sort_by_key(|index| sidecar.vms[*index].thread == 0);
            let ready = world.ready(sidecar);
            for index in order {
                if !sidecar.vms[index].is_alive() {
                    continue;
                }
                let open: Vec<u32> = sidecar.vms[index].open.iter().copied().collect();
                for context in open {
                    sidecar.vms[index].end(context, None);
                }
                for root in sidecar.vms[index].living.clone().into_iter().rev() {
                    world.finish_root(sidecar, index, root);
                }
            }
            sidecar.alive = false;
            world.truths[pod].open = 0;
            let totals =
                Kind::ALL.map(|kind| world.truths[pod].segments[sidecar.segment].settled(kind));
            for (aggregator, stream) in ready {
                let aggregator_epoch = world.aggregators[aggregator].epoch;
                world.after(
                    2500,
                    Event::Ended {
                        pod,
                        aggregator,
                        aggregator_epoch,
                        stream,
                        totals,
                    },
                );
            }
            world.come_back(pod);
        });
    }

    /// The process is gone at once.
    pub(crate) fn kill(&mut self, pod: usize) {
        let Some(epoch) = self.sidecars.get(&pod).map(|sidecar| sidecar.epoch) else {
            return;
        };
        self.with(pod, epoch, |world, sidecar| {
            noted(world, Fault::Kill, &format!("pod {pod}"));
            sidecar.alive = false;
            world.truths[pod].open = 0;
            world.end_streams(pod, |stream| stream.epoch == epoch);
            world.come_back(pod);
        });
    }

    /// The pod's container begins again, or another pod of the name comes.
    fn come_back(&mut self, pod: usize) {
        if self.rng.random_bool(0.3) {
            self.uids[pod] += 1;
        }
        let wait = self.rng.random_range(3000..8000);
        self.after(wait, Event::Start { pod });
    }

    /// Whether the aggregator at the other end knows the stream for one of the process's counters
    /// as they are now: just after `/reset_counters` it is still one of the counters before.
    fn counts(&self, stream: &Stream, segment: usize) -> bool {
        let linked = stream.link.as_ref();
        linked.is_some_and(|(_, instance)| {
            self.segments
                .get(instance)
                .is_some_and(|(_, counted)| *counted == segment)
        })
    }

    /// Streams of the main thread on which a last report must arrive.
    fn ready(&self, sidecar: &Sidecar) -> Vec<(usize, u64)> {
        if sidecar.setup.hidden || sidecar.vms.iter().any(|side| !side.is_alive()) {
            return Vec::new();
        }
        let now = self.now;
        let main = sidecar.on_thread(0, filter_core::config::Module::Filter);
        let serial = main.map(|index| sidecar.vms[index].serial);
        let streams = self.streams.iter().filter(|(_, stream)| {
            let way = &self.ways[sidecar.setup.pod][stream.aggregator];
            let aggregator = &self.aggregators[stream.aggregator];
            stream.epoch == sidecar.epoch
                && Some(stream.serial) == serial
                && stream.heard
                && stream.served
                && !stream.cut
                && self.counts(stream, sidecar.segment)
                && way.blocked_until <= now
                && way.slow_until <= now
                && aggregator.up
                && aggregator.stalled_until <= now
                && stream.up_at < now + 100
        });
        let main = main.map(|index| &sidecar.vms[index]);
        streams
            .filter(|(_, stream)| {
                main.is_some_and(|main| main.living.first() == Some(&stream.root))
            })
            .map(|(id, stream)| (stream.aggregator, *id))
            .collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time between two requests in milliseconds"
)]
fn whole(millis: f64) -> u64 {
    (millis as u64).clamp(1, 60_000)
}
