//! Network calls of the VMs, and deliveries at both ends.

use std::collections::VecDeque;

use aggregator_core::report::StreamId;
use filter_core::host::RootId;
use filter_core::testing::Call;
use prost::Message as _;
use proto::v1;
use rand::Rng as _;

use crate::network::{Down, Stream, Up};
use crate::sidecar::Sidecar;
use crate::tally::Fault;
use crate::world::{Event, World};

/// gRPC status `UNAVAILABLE`.
const UNAVAILABLE: u32 = 14;
/// gRPC status `ABORTED`.
const ABORTED: u32 = 10;

impl World {
    /// Does what a VM asked of the network in the callback that was just made for `root`.
    pub(crate) fn calls(&mut self, sidecar: &mut Sidecar, index: usize, root: RootId) {
        let (pod, epoch, serial) = (sidecar.setup.pod, sidecar.epoch, sidecar.vms[index].serial);
        for call in sidecar.vms[index].host.take_calls() {
            let find = |world: &Self, token| {
                let mut streams = world.streams.iter();
                let is = |stream: &Stream| {
                    stream.epoch == epoch && stream.serial == serial && stream.token == token
                };
                streams.find(|(_, stream)| is(stream)).map(|(id, _)| *id)
            };
            match call {
                Call::Open { token, upstream } => {
                    let text = String::from_utf8_lossy(&upstream).into_owned();
                    let aggregator = (0..self.aggregators.len())
                        .find(|index| text.contains(&format!("agg-{index}")))
                        .unwrap_or(0);
                    self.next_stream += 1;
                    let id = self.next_stream;
                    let stream = Stream {
                        pod,
                        epoch,
                        serial,
                        token,
                        root,
                        aggregator,
                        aggregator_epoch: self.aggregators[aggregator].epoch,
                        up: VecDeque::new(),
                        up_at: self.now,
                        down: VecDeque::new(),
                        down_at: self.now,
                        heard: true,
                        served: true,
                        cut: !self.aggregators[aggregator].up,
                        link: None,
                    };
                    self.streams.insert(id, stream);
                    if !self.aggregators[aggregator].up {
                        self.send_down(id, Down::Close(UNAVAILABLE));
                    }
                }
                Call::Send { token, message } => {
                    if let Some(id) = find(self, token) {
                        self.name(sidecar, index, &message);
                        let sent = self.now;
                        self.send_up(
                            id,
                            Up::Frame {
                                sent,
                                bytes: message,
                            },
                        );
                    }
                }
                Call::Close(token) | Call::Cancel(token) => {
                    if let Some(id) = find(self, token) {
                        if matches!(call, Call::Cancel(_))
                            && let Some(stream) = self.streams.get_mut(&id)
                        {
                            stream.heard = false;
                        }
                        self.send_up(id, Up::End);
                    }
                }
            }
        }
    }

    /// Learns from a hello which instance counts which segment.
    fn name(&mut self, sidecar: &Sidecar, index: usize, message: &[u8]) {
        let frame = v1::SidecarFrame::decode(message)
            .ok()
            .and_then(|frame| frame.frame);
        if let Some(v1::sidecar_frame::Frame::Hello(hello)) = frame {
            let segment = if sidecar.setup.hidden {
                sidecar.vms[index].segment
            } else {
                sidecar.segment
            };
            let place = (sidecar.setup.pod, segment);
            self.segments.entry(hello.instance).or_insert(place);
        }
    }

    fn latency(&mut self, id: u64) -> u64 {
        let Some(stream) = self.streams.get(&id) else {
            return 0;
        };
        let way = &self.ways[stream.pod][stream.aggregator];
        let slow = if way.slow_until > self.now {
            way.slow_ms
        } else {
            0
        };
        way.latency_ms + slow + self.rng.random_range(0..=10)
    }

    fn send_up(&mut self, id: u64, up: Up) {
        let latency = self.latency(id);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.cut {
            return;
        }
        stream.up_at = stream.up_at.max(self.now + latency);
        let at = stream.up_at;
        let way = &mut self.ways[stream.pod][stream.aggregator];
        let doubles = way.doubles_until > self.now && self.rng.random_bool(0.3);
        if doubles && matches!(&up, Up::Frame { .. }) && stream.link.is_some() {
            stream.up.push_back(up.clone());
            self.tally.note(Fault::Duplicate);
            self.at(at, Event::Up { stream: id });
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.up.push_back(up);
        }
        self.at(at, Event::Up { stream: id });
    }

    fn send_down(&mut self, id: u64, down: Down) {
        let latency = self.latency(id);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.down_at = stream.down_at.max(self.now + latency);
        stream.down.push_back(down);
        let at = stream.down_at;
        self.at(at, Event::Down { stream: id });
    }

    pub(crate) fn up(&mut self, id: u64) -> Result<(), String> {
        let Some(stream) = self.streams.get(&id) else {
            return Ok(());
        };
        let aggregator = &self.aggregators[stream.aggregator];
        if stream.cut || !stream.served || !aggregator.up {
            return Ok(());
        }
        let blocked = self.ways[stream.pod][stream.aggregator].blocked_until;
        let until = blocked.max(aggregator.stalled_until);
        if until > self.now {
            self.at(until, Event::Up { stream: id });
            return Ok(());
        }
        let stream = self.streams.get_mut(&id);
        match stream.and_then(|stream| stream.up.pop_front()) {
            Some(Up::Frame { sent, bytes }) => self.frame(id, sent, &bytes),
            Some(Up::End) => {
                self.lose(id);
                self.send_down(id, Down::Close(0));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn frame(&mut self, id: u64, sent: u64, bytes: &[u8]) -> Result<(), String> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let (pod, index) = (stream.pod, stream.aggregator);
        let link = stream
            .link
            .as_ref()
            .map(|(link, instance)| (link, *instance));
        let said_hello = link.is_some();
        let aggregator = &mut self.aggregators[index];
        let outcome = aggregator.receive(self.now, StreamId(id), link, pod, sent, bytes);
        self.tally.frames += 1;
        if outcome.answer == Err(3) && !self.plan.clocks_step {
            let known = stream.link.is_some();
            return Err(format!(
                "pod {pod}: aggregator {index} finds fault with a frame (hello seen: {known})"
            ));
        }
        if let Some(link) = outcome.link {
            let instance = outcome.instance.unwrap_or(0);
            stream.link = Some((link, instance));
            self.replay(id, instance);
        } else if said_hello && let Some((_, instance)) = &stream.link {
            // The first numbers could pass for the next ones of a new stream, which the contract
            // excludes.
            if is_later(bytes) {
                self.ways[pod][index].remember(*instance, sent, bytes);
            }
        }
        match outcome.answer {
            Ok(answer) => self.send_down(id, Down::Frame(answer)),
            Err(status) => {
                self.note(|| format!("pod {pod}: aggregator {index} refuses with status {status}"));
                self.lose(id);
                self.send_down(id, Down::Close(status));
            }
        }
        for ended in outcome.ended {
            // What it had received already is still read now and then.
            if self.rng.random_bool(0.5) {
                self.lose(ended.0);
            } else {
                self.after(30, Event::Lost { stream: ended.0 });
            }
            self.send_down(ended.0, Down::Close(ABORTED));
        }
        Ok(())
    }

    /// Frames of an earlier stream of the same instance arrive on its new one. Of one earlier
    /// stream: the numbers of several, mixed, could follow each other, and pass for a clock that
    /// was set back.
    fn replay(&mut self, id: u64, instance: u64) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let way = &self.ways[stream.pod][stream.aggregator];
        if way.replays_until <= self.now {
            return;
        }
        let old: Vec<_> = way
            .old
            .iter()
            .filter(|(of, ..)| *of == instance)
            .cloned()
            .collect();
        let mut last = 0;
        for (_, sent, bytes) in old {
            let number = seq(&bytes);
            if number <= last {
                break;
            }
            last = number;
            if self.rng.random_bool(0.5) {
                self.tally.note(Fault::Replay);
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.up.push_back(Up::Frame { sent, bytes });
                    let at = stream.up_at.max(self.now);
                    self.at(at, Event::Up { stream: id });
                }
            }
        }
    }

    pub(crate) fn down(&mut self, id: u64) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let blocked = self.ways[stream.pod][stream.aggregator].blocked_until;
        if blocked > self.now && !stream.cut {
            self.at(blocked, Event::Down { stream: id });
            return;
        }
        let (pod, epoch, serial, token, root) = (
            stream.pod,
            stream.epoch,
            stream.serial,
            stream.token,
            stream.root,
        );
        let heard = stream.heard;
        let stream = self.streams.get_mut(&id);
        let Some(down) = stream.and_then(|stream| stream.down.pop_front()) else {
            return;
        };
        if matches!(down, Down::Close(_))
            && let Some(stream) = self.streams.get_mut(&id)
        {
            stream.heard = false;
        }
        if !heard {
            return;
        }
        self.with(pod, epoch, |world, sidecar| {
            let Some(index) = sidecar.position(serial) else {
                return;
            };
            let side = &mut sidecar.vms[index];
            if !side.is_alive() || !side.living.contains(&root) {
                return;
            }
            match down {
                Down::Frame(bytes) => side.vm.on_grpc_receive(token, &bytes),
                Down::Close(status) => side.vm.on_grpc_close(token, status),
            }
            world.calls(sidecar, index, root);
        });
    }

    /// The aggregator's end of a stream is over.
    pub(crate) fn lose(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let aggregator = &self.aggregators[stream.aggregator];
        if !std::mem::replace(&mut stream.served, false) {
            return;
        }
        if let Some((link, _)) = &stream.link
            && stream.aggregator_epoch == aggregator.epoch
        {
            aggregator
                .store
                .disconnect(aggregator.clock(self.now), link);
        }
    }

    /// Breaks a stream: what is under way is lost, both sides hear of it sooner or later.
    pub(crate) fn cut(&mut self, id: u64) {
        let server_hears = self.rng.random_range(0..8000);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.cut = true;
        stream.up.clear();
        stream.down.clear();
        self.send_down(id, Down::Close(UNAVAILABLE));
        self.after(server_hears, Event::Lost { stream: id });
    }

    /// The sidecar's end of some streams is over; what was sent still arrives.
    pub(crate) fn end_streams(&mut self, pod: usize, which: impl Fn(&Stream) -> bool) {
        let ids: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.pod == pod && stream.heard && which(stream))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.send_up(id, Up::End);
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.heard = false;
            }
        }
        self.sweep();
    }

    /// Forgets streams that are over at both ends.
    fn sweep(&mut self) {
        self.streams
            .retain(|_, stream| stream.heard || stream.served || !stream.down.is_empty());
    }
}

/// Whether a frame's number lies beyond the first ones of a stream.
fn is_later(bytes: &[u8]) -> bool {
    seq(bytes) > 3
}

/// The number of a report; 0 for other frames.
fn seq(bytes: &[u8]) -> u64 {
    let frame = v1::SidecarFrame::decode(bytes)
        .ok()
        .and_then(|frame| frame.frame);
    match frame {
        Some(v1::sidecar_frame::Frame::Report(report)) => report.seq,
        _ => 0,
    }
}
