//! An aggregator: wire bytes in, the real checks, the real store.

use std::collections::{BTreeMap, VecDeque};

use aggregator_core::limits::StoreLimits;
use aggregator_core::report::{InstanceId, StreamId};
use aggregator_core::status::{RefusedReason, SeriesStatus};
use aggregator_core::store::{Link, Store, StoreRefusal};
use common_time::Monotonic;
use prost::Message as _;
use proto::v1;

use crate::Plant;

/// For how long the store's clock surely keeps the least offset, in milliseconds.
const CLOCK_SPAN_MS: u64 = 30_000;

/// One replica. Its clock is off true time by `offset_ms`.
#[derive(Debug)]
pub(crate) struct Aggregator {
    pub(crate) store: Store,
    pub(crate) epoch: u64,
    pub(crate) up: bool,
    pub(crate) offset_ms: u64,
    pub(crate) stalled_until: u64,
    pub(crate) limits: StoreLimits,
    pub(crate) refused: BTreeMap<RefusedReason, u64>,
    pub(crate) received: BTreeMap<usize, Received>,
    plant: Option<Plant>,
    sums: BTreeMap<(u64, String), u64>,
    frames: u64,
}

/// The reports that an aggregator received from a pod.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) uid: String,
    /// True times of the reports taken in, ascending, by instance.
    pub(crate) ends: BTreeMap<u64, Vec<u64>>,
    /// When the next report is due by the latest promise.
    pub(crate) due: u64,
    /// Largest error of a mapped time, in milliseconds: it may only be late.
    pub(crate) shift_ms: u64,
    /// The longest way of any frame.
    pub(crate) longest_ms: u64,
    /// When frames arrived and how long they took, by instance: each has a clock of its own.
    ways: BTreeMap<u64, VecDeque<(u64, u64)>>,
    /// The state at the last check.
    pub(crate) shown: Option<(Vec<InstanceId>, Vec<SeriesStatus>)>,
}

/// Result of a frame.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The answer's bytes, or the status that ends the stream.
    pub(crate) answer: Result<Vec<u8>, u32>,
    pub(crate) link: Option<Link>,
    pub(crate) instance: Option<u64>,
    /// Streams that end with ABORTED.
    pub(crate) ended: Vec<StreamId>,
}

impl Outcome {
    fn status(status: u32) -> Self {
        Self {
            answer: Err(status),
            link: None,
            instance: None,
            ended: Vec::new(),
        }
    }

    fn answer(frame: v1::aggregator_frame::Frame) -> Self {
        Self {
            answer: Ok(v1::AggregatorFrame { frame: Some(frame) }.encode_to_vec()),
            ..Self::status(0)
        }
    }
}

impl Aggregator {
    pub(crate) fn new(limits: StoreLimits, offset_ms: u64, plant: Option<Plant>) -> Self {
        Self {
            store: Store::new(limits),
            epoch: 0,
            up: true,
            offset_ms,
            stalled_until: 0,
            limits,
            refused: BTreeMap::new(),
            received: BTreeMap::new(),
            plant,
            sums: BTreeMap::new(),
            frames: 0,
        }
    }

    pub(crate) fn restart(&mut self) {
        *self = Self {
            epoch: self.epoch + 1,
            up: false,
            ..Self::new(self.limits, self.offset_ms, self.plant)
        };
    }

    pub(crate) fn clock(&self, now: u64) -> Monotonic {
        Monotonic(now + self.offset_ms)
    }

    /// Takes in a frame of `pod` that was made at `sent`.
    pub(crate) fn receive(
        &mut self,
        now: u64,
        stream: StreamId,
        link: Option<(&Link, u64)>,
        pod: usize,
        sent: u64,
        bytes: &[u8],
    ) -> Outcome {
        self.frames += 1;
        if proto::known::check::<v1::SidecarFrame>(bytes).is_err() {
            return Outcome::status(3);
        }
        let frame = v1::SidecarFrame::decode(bytes)
            .ok()
            .and_then(|frame| frame.frame);
        match (frame, link) {
            (Some(v1::sidecar_frame::Frame::Hello(hello)), None) => {
                self.hello(now, stream, pod, sent, hello)
            }
            (Some(v1::sidecar_frame::Frame::Report(report)), Some((link, instance))) => {
                self.report(now, link, instance, pod, sent, report)
            }
            _ => Outcome::status(3),
        }
    }

    fn hello(
        &mut self,
        now: u64,
        stream: StreamId,
        pod: usize,
        sent: u64,
        hello: v1::Hello,
    ) -> Outcome {
        let Ok(hello) = aggregator_ingest::parse::hello(hello) else {
            return Outcome::status(3);
        };
        match self.store.connect(self.clock(now), stream, &hello) {
            Ok(connected) => {
                let received = self.received.entry(pod).or_default();
                if received.uid != *hello.uid {
                    *received = Received {
                        uid: hello.uid.to_string(),
                        ..Received::default()
                    };
                }
                received.saw(now, sent, hello.instance.0);
                let mut outcome =
                    Outcome::answer(v1::aggregator_frame::Frame::Settings(v1::Settings {
                        flush_interval_ms: 0,
                        protocol: proto::PROTOCOL,
                    }));
                outcome.link = Some(connected.link);
                outcome.instance = Some(hello.instance.0);
                outcome.ended = connected.replaced;
                outcome.ended.extend(connected.superseded);
                outcome
            }
            Err(refused) => self.refuse(&refused),
        }
    }

    fn report(
        &mut self,
        now: u64,
        link: &Link,
        instance: u64,
        pod: usize,
        sent: u64,
        mut report: v1::Report,
    ) -> Outcome {
        let ack = v1::aggregator_frame::Frame::Ack(v1::Ack { seq: report.seq });
        match self.plant {
            Some(Plant::AddsTotals) => self.add_up(instance, &mut report),
            Some(Plant::AcksWithoutStoring) if self.frames.is_multiple_of(5) => {
                return Outcome::answer(ack);
            }
            Some(Plant::HidesDeadVms) => report.vms_live = report.vms_expected,
            Some(Plant::AcksWithoutStoring) | None => {}
        }
        let promise = u64::from(report.next_report_within_ms);
        let Ok(report) = aggregator_ingest::parse::report(report) else {
            return Outcome::status(3);
        };
        match self.store.apply(self.clock(now), link, &report) {
            Ok(applied) => {
                let received = self.received.entry(pod).or_default();
                received.saw(now, sent, instance);
                received.due = received.due.max(sent + promise);
                let ends = received.ends.entry(instance).or_default();
                // An older one that comes late tells nothing more of when the total rose.
                if ends.last().is_none_or(|newest| *newest < sent) {
                    ends.push(sent);
                }
                let mut outcome = Outcome::answer(ack);
                outcome.ended = applied.replaced;
                outcome
            }
            Err(refused) => self.refuse(&refused),
        }
    }

    fn refuse(&mut self, refused: &StoreRefusal) -> Outcome {
        *self.refused.entry(refused.reason()).or_default() += 1;
        Outcome::status(match refused.reason() {
            RefusedReason::ImpossibleTotal | RefusedReason::AheadOfClock => 3,
            RefusedReason::OlderInstance | RefusedReason::UnknownStream => 10,
            _ => 8,
        })
    }

    /// The planted bug: what is a running total is taken for an addition.
    fn add_up(&mut self, instance: u64, report: &mut v1::Report) {
        for series in &mut report.series {
            let key = (instance, format!("{} {}", series.direction, series.cluster));
            let sum = self.sums.entry(key).or_default();
            if let Some(requests) = &mut series.requests {
                *sum += *requests;
                *requests = *sum;
            }
        }
    }
}

impl Received {
    /// A frame of `instance` made at `sent` arrived.
    fn saw(&mut self, now: u64, sent: u64, instance: u64) {
        let way = now - sent;
        let ways = self.ways.entry(instance).or_default();
        ways.push_back((now, way));
        while ways.front().is_some_and(|(at, _)| now - at > CLOCK_SPAN_MS) {
            ways.pop_front();
        }
        let least = ways.iter().map(|(_, way)| *way).min().unwrap_or(way);
        self.shift_ms = self.shift_ms.max(least);
        self.longest_ms = self.longest_ms.max(way);
    }
}
