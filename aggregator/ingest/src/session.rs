//! One stream, from hello to its end, in its own task.
//!
//! The task reads on after the response side is closed: a sidecar that ends sends its last report
//! and resets the stream at once, and that report counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aggregator_core::pod::PodInfo;
use aggregator_core::store::Link;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use prost::Message as _;
use proto::v1::{self, AggregatorFrame, SidecarFrame, aggregator_frame, sidecar_frame};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};
use tracing::{Span, debug, trace};

use crate::admission::Place;
use crate::builds::BuildGuard;
use crate::close_reason::{CloseReason, Refusal, close_reason_of};
use crate::context::IngestContext;
use crate::identity::Claim;
use crate::limits::{DRAIN_MAX, DRAINED_AFTER, SILENCE_MAX, STATUS_WITHIN};
use crate::parse;
use crate::silence::Silence;
use crate::streams::StreamSlot;

/// Responses to the sidecar, at last the status.
pub(crate) type Responses = mpsc::Sender<Result<AggregatorFrame, Status>>;

pub(crate) struct Session {
    context: Arc<IngestContext>,
    /// Until the first report is in the store.
    place: Option<Place>,
    /// How long hello and first report waited, since the stream was not let in.
    waited: Duration,
    slot: StreamSlot,
    claim: Claim,
    peer: Option<SocketAddr>,
    responses: Responses,
    /// `None` before the hello.
    link: Option<Link>,
    build: Option<BuildGuard>,
    /// The flush interval in its hello, and the one it was asked for, in milliseconds.
    own_flush_ms: u32,
    asked_flush_ms: u32,
}

// === impl Session ===

impl Session {
    pub(crate) fn new(
        context: Arc<IngestContext>,
        (place, waited): (Place, Duration),
        slot: StreamSlot,
        claim: Claim,
        peer: Option<SocketAddr>,
        responses: Responses,
    ) -> Self {
        Self {
            context,
            place: Some(place),
            waited,
            slot,
            claim,
            peer,
            responses,
            link: None,
            build: None,
            own_flush_ms: 0,
            asked_flush_ms: 0,
        }
    }

    /// Reads the stream to its end, or until `closed` receives a reason.
    pub(crate) async fn run(
        mut self,
        mut inbound: Streaming<SidecarFrame>,
        closed: oneshot::Receiver<CloseReason>,
    ) {
        let _open = self.context.metrics.open(self.slot.is_plain);
        let reason = self.read(&mut inbound, closed).await;
        self.finish(&reason).await;
    }

    async fn read(
        &mut self,
        inbound: &mut Streaming<SidecarFrame>,
        closed: oneshot::Receiver<CloseReason>,
    ) -> CloseReason {
        let shutdown = self.context.shutdown.clone();
        // Polled when it was woken itself, not for each frame. `None` is the shutdown.
        let mut ends = FuturesUnordered::from_iter([Box::pin(async {
            tokio::select! {
                biased;
                reason = closed => Some(reason.unwrap_or(CloseReason::Closed)),
                () = shutdown.cancelled() => None,
            }
        })]);
        let mut silence = Silence::new(self.read_timeout());
        loop {
            let next = tokio::select! {
                // A superseded stream must not apply another frame, even if one is ready.
                biased;
                Some(end) = ends.next() => match end {
                    Some(reason) => return reason,
                    None => return self.drain(inbound).await,
                },
                next = inbound.message() => Some(next),
                () = silence.over() => None,
            };
            if let Err(reason) = self.take(next).await {
                return reason;
            }
            silence.heard(self.read_timeout());
        }
    }

    /// Applies the frames received before the shutdown.
    async fn drain(&mut self, inbound: &mut Streaming<SidecarFrame>) -> CloseReason {
        let mut cut_off = std::pin::pin!(sleep(DRAIN_MAX));
        loop {
            let next = tokio::select! {
                () = &mut cut_off => return CloseReason::ShutDown,
                next = timeout(DRAINED_AFTER, inbound.message()) => next.ok(),
            };
            if next.is_none() {
                return CloseReason::ShutDown;
            }
            match self.take(next).await {
                Ok(()) => {}
                // The sidecar must hear UNAVAILABLE, even if its own half is closed.
                Err(CloseReason::Closed) => return CloseReason::ShutDown,
                Err(reason) => return reason,
            }
        }
    }

    fn read_timeout(&self) -> Duration {
        match self.link {
            None => self.context.limits.hello_within,
            Some(_) => SILENCE_MAX,
        }
    }

    /// Applies a frame and sends its response; `None` where none came in time.
    async fn take(
        &mut self,
        next: Option<Result<Option<SidecarFrame>, Status>>,
    ) -> Result<(), CloseReason> {
        let frame = match next {
            Some(Ok(Some(frame))) => frame,
            Some(Ok(None)) => return Err(CloseReason::Closed),
            Some(Err(status)) => return Err(close_reason_of(&status)),
            None => return Err(CloseReason::Refused(self.timeout_refusal())),
        };
        let response = self.on_frame(frame).map_err(CloseReason::Refused)?;
        self.respond(response).await?;
        match self.changed_settings() {
            Some(settings) => self.respond(settings).await,
            None => Ok(()),
        }
    }

    async fn respond(&self, response: aggregator_frame::Frame) -> Result<(), CloseReason> {
        let response = AggregatorFrame {
            frame: Some(response),
        };
        let within = self.context.limits.response_within;
        match timeout(within, self.responses.send(Ok(response))).await {
            // An error: the response side is closed; reports sent before still count.
            Ok(Ok(()) | Err(_)) => Ok(()),
            Err(_) => Err(CloseReason::Refused(Refusal::AnswersUnread { within })),
        }
    }

    /// Settings for a sidecar that was asked for another flush interval than it would be now. They
    /// follow an acknowledgement, so that a change wakes no stream.
    fn changed_settings(&mut self) -> Option<aggregator_frame::Frame> {
        let flush_interval_ms = self.context.asked.of(self.own_flush_ms);
        if self.link.is_none() || flush_interval_ms == self.asked_flush_ms {
            return None;
        }
        self.asked_flush_ms = flush_interval_ms;
        Some(aggregator_frame::Frame::Settings(settings_of(
            flush_interval_ms,
        )))
    }

    fn timeout_refusal(&self) -> Refusal {
        let within = self.read_timeout();
        match self.link {
            None => Refusal::HelloLate { within },
            Some(_) => Refusal::Silent { within },
        }
    }

    fn on_frame(&mut self, frame: SidecarFrame) -> Result<aggregator_frame::Frame, Refusal> {
        let bytes = frame.encoded_len();
        match frame.frame {
            Some(sidecar_frame::Frame::Hello(hello)) => {
                self.context.metrics.count_frame("hello", bytes);
                self.on_hello(hello).map(aggregator_frame::Frame::Settings)
            }
            Some(sidecar_frame::Frame::Report(report)) => {
                self.context.metrics.count_frame("report", bytes);
                self.on_report(report).map(aggregator_frame::Frame::Ack)
            }
            None => Err(Refusal::Empty),
        }
    }

    fn on_hello(&mut self, hello: v1::Hello) -> Result<v1::Settings, Refusal> {
        if self.link.is_some() {
            return Err(Refusal::SecondHello);
        }
        let context = &self.context;
        let build = hello.build.clone();
        self.own_flush_ms = hello.flush_interval_ms;
        let hello = parse::hello(hello)?;
        Span::current().record("pod", tracing::field::display(&hello.pod));
        // Before the store: a stream without the right to this pod must not touch its record.
        self.claim
            .check(&hello.pod, &hello.uid, &context.directory)?;
        let connected =
            context
                .store
                .connect_late(context.clock.now(), self.slot.id, &hello, self.waited)?;
        self.link = Some(connected.link);
        context.note_accepted(self.peer);
        context.store.note_build(&hello.pod, &build);
        self.slot.hello_received(&hello.pod);
        self.build = Some(context.metrics.builds.count(&build));
        if let Some(older) = connected.superseded {
            context.metrics.superseded.inc();
            context.streams.end(older, CloseReason::Superseded);
        }
        self.end_replaced(connected.replaced);
        if context.learn_pods {
            let pod = PodInfo::new(hello.pod, hello.uid, hello.labels);
            context.directory.upsert(pod)?;
        }
        debug!(instance.id = %hello.instance, "sidecar connected");
        self.asked_flush_ms = self.context.asked.of(self.own_flush_ms);
        Ok(settings_of(self.asked_flush_ms))
    }

    fn on_report(&mut self, report: v1::Report) -> Result<v1::Ack, Refusal> {
        let link = self.link.as_ref().ok_or(Refusal::ReportBeforeHello)?;
        let context = &self.context;
        let report = parse::report(report)?;
        let applied = context
            .store
            .apply_late(context.clock.now(), link, &report, self.waited)?;
        context.metrics.reports.inc();
        if applied.series_refused > 0 {
            let refused = applied.series_refused as u64;
            context.metrics.series_refused.inc_by(refused);
        }
        self.place = None;
        self.waited = Duration::ZERO;
        self.end_replaced(applied.replaced);
        trace!(
            seq = report.seq,
            series.count = report.series.len(),
            "report applied"
        );
        Ok(v1::Ack { seq: report.seq })
    }

    fn end_replaced(&self, replaced: Vec<aggregator_core::report::StreamId>) {
        for stream in replaced {
            self.context.metrics.replaced.inc();
            self.context.streams.end(stream, CloseReason::Replaced);
        }
    }

    async fn finish(&mut self, reason: &CloseReason) {
        // First of all: the pod is held from now on, not from when the status was sent.
        if let Some(link) = self.link.take() {
            self.context
                .store
                .disconnect(self.context.clock.now(), &link);
        }
        self.build = None;
        match reason {
            CloseReason::Refused(refusal) => {
                self.context.note_refused(self.peer, refusal);
                // The span has the peer.
                self.context.refuse("stream refused", None, refusal);
            }
            CloseReason::Closed
            | CloseReason::Superseded
            | CloseReason::Replaced
            | CloseReason::ShutDown => {
                debug!(?reason, "stream closed");
            }
        }
        if let Some(status) = reason.status() {
            // An error or a timeout: the sidecar is gone or does not read.
            let _ = timeout(STATUS_WITHIN, self.responses.send(Err(status))).await;
        }
    }
}

fn settings_of(flush_interval_ms: u32) -> v1::Settings {
    v1::Settings {
        flush_interval_ms,
        protocol: proto::PROTOCOL,
    }
}
