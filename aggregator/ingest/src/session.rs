//! One stream, from hello to its end, in a task of its own.
//!
//! The task reads whatever the sidecar sent even after the answers have nowhere to go: a sidecar
//! that ends sends its last report and resets the stream at once, and that report counts.

use std::sync::Arc;
use std::time::Duration;

use aggregator_core::pod::PodInfo;
use aggregator_core::store::Link;
use prost::Message as _;
use proto::v1::{self, AggregatorFrame, SidecarFrame, aggregator_frame, sidecar_frame};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{error::Elapsed, sleep, timeout};
use tonic::{Status, Streaming};
use tracing::{Span, debug, trace};

use crate::builds::BuildGuard;
use crate::close_reason::{CloseReason, Refusal, ending_of};
use crate::context::IngestContext;
use crate::identity::Claim;
use crate::limits::{DRAIN_MAX, DRAINED_AFTER, SILENCE_MAX, STATUS_WITHIN};
use crate::parse;
use crate::streams::StreamSlot;

/// Answers to the sidecar, and at last the status.
pub(crate) type Answers = mpsc::Sender<Result<AggregatorFrame, Status>>;

pub(crate) struct Session {
    shared: Arc<IngestContext>,
    place: StreamSlot,
    /// What it proved when it began.
    claim: Claim,
    answers: Answers,
    /// There once the sidecar said hello.
    link: Option<Link>,
    build: Option<BuildGuard>,
}

// === impl Session ===

impl Session {
    pub(crate) fn new(
        shared: Arc<IngestContext>,
        place: StreamSlot,
        claim: Claim,
        answers: Answers,
    ) -> Self {
        Self {
            shared,
            place,
            claim,
            answers,
            link: None,
            build: None,
        }
    }

    /// Reads the stream to its end; `ended` tells when it is over before that.
    pub(crate) async fn run(
        mut self,
        mut inbound: Streaming<SidecarFrame>,
        ended: oneshot::Receiver<CloseReason>,
    ) {
        let _open = self.shared.metrics.open(self.place.is_plain);
        let ending = self.read(&mut inbound, ended).await;
        self.finish(&ending).await;
    }

    async fn read(
        &mut self,
        inbound: &mut Streaming<SidecarFrame>,
        mut ended: oneshot::Receiver<CloseReason>,
    ) -> CloseReason {
        let shutdown = self.shared.shutdown.clone();
        loop {
            let patience = self.patience();
            let next = tokio::select! {
                biased;
                ending = &mut ended => return ending.unwrap_or(CloseReason::Closed),
                () = shutdown.cancelled() => return self.drain(inbound).await,
                next = timeout(patience, inbound.message()) => next,
            };
            if let Err(ending) = self.take(next).await {
                return ending;
            }
        }
    }

    /// Takes in what was received before the shutdown.
    async fn drain(&mut self, inbound: &mut Streaming<SidecarFrame>) -> CloseReason {
        let mut cut_off = std::pin::pin!(sleep(DRAIN_MAX));
        loop {
            let next = tokio::select! {
                () = &mut cut_off => return CloseReason::ShutDown,
                next = timeout(DRAINED_AFTER, inbound.message()) => next,
            };
            if next.is_err() {
                return CloseReason::ShutDown;
            }
            match self.take(next).await {
                Ok(()) => {}
                Err(CloseReason::Closed) => return CloseReason::ShutDown,
                Err(ending) => return ending,
            }
        }
    }

    /// How long the next frame may take.
    fn patience(&self) -> Duration {
        match self.link {
            None => self.shared.limits.hello_within,
            Some(_) => SILENCE_MAX,
        }
    }

    /// Takes in what came and answers it.
    async fn take(
        &mut self,
        next: Result<Result<Option<SidecarFrame>, Status>, Elapsed>,
    ) -> Result<(), CloseReason> {
        let frame = match next {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return Err(CloseReason::Closed),
            Ok(Err(status)) => return Err(ending_of(&status)),
            Err(_) => return Err(CloseReason::Refused(self.late())),
        };
        let answer = self.on_frame(frame).map_err(CloseReason::Refused)?;
        let answer = AggregatorFrame {
            frame: Some(answer),
        };
        let within = self.shared.limits.answer_within;
        match timeout(within, self.answers.send(Ok(answer))).await {
            // An error: nobody reads the answers any more; what was sent before still counts.
            Ok(Ok(()) | Err(_)) => Ok(()),
            Err(_) => Err(CloseReason::Refused(Refusal::AnswersUnread { within })),
        }
    }

    fn late(&self) -> Refusal {
        let within = self.patience();
        match self.link {
            None => Refusal::HelloLate { within },
            Some(_) => Refusal::Silent { within },
        }
    }

    fn on_frame(&mut self, frame: SidecarFrame) -> Result<aggregator_frame::Frame, Refusal> {
        let bytes = frame.encoded_len();
        match frame.frame {
            Some(sidecar_frame::Frame::Hello(hello)) => {
                self.shared.metrics.count_frame("hello", bytes);
                self.on_hello(hello).map(aggregator_frame::Frame::Settings)
            }
            Some(sidecar_frame::Frame::Report(report)) => {
                self.shared.metrics.count_frame("report", bytes);
                self.on_report(report).map(aggregator_frame::Frame::Ack)
            }
            None => Err(Refusal::Empty),
        }
    }

    fn on_hello(&mut self, hello: v1::Hello) -> Result<v1::Settings, Refusal> {
        if self.link.is_some() {
            return Err(Refusal::SecondHello);
        }
        let shared = &self.shared;
        let build = hello.build.clone();
        let hello = parse::hello(hello)?;
        Span::current().record("pod", tracing::field::display(&hello.pod));
        self.claim
            .check(&hello.pod, &hello.uid, &shared.directory)?;
        let connected = shared
            .store
            .connect(shared.clock.now(), self.place.id, &hello)?;
        self.link = Some(connected.link);
        self.place.greeted(&hello.pod);
        self.build = Some(shared.metrics.builds.count(&build));
        if let Some(older) = connected.superseded {
            shared.metrics.superseded.inc();
            shared.streams.end(older, CloseReason::Superseded);
        }
        self.end_replaced(connected.replaced);
        if shared.learn_pods {
            let pod = PodInfo::new(hello.pod, hello.uid, hello.labels);
            shared.directory.upsert(pod)?;
        }
        debug!(instance.id = %hello.instance, "sidecar connected");
        Ok(v1::Settings {
            flush_interval_ms: 0,
            protocol: proto::PROTOCOL,
        })
    }

    fn on_report(&self, report: v1::Report) -> Result<v1::Ack, Refusal> {
        let link = self.link.as_ref().ok_or(Refusal::ReportBeforeHello)?;
        let shared = &self.shared;
        let report = parse::report(report)?;
        let applied = shared.store.apply(shared.clock.now(), link, &report)?;
        shared.metrics.reports.inc();
        if applied.series_refused > 0 {
            let refused = applied.series_refused as u64;
            shared.metrics.series_refused.inc_by(refused);
        }
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
            self.shared.metrics.replaced.inc();
            self.shared.streams.end(stream, CloseReason::Replaced);
        }
    }

    async fn finish(&mut self, ending: &CloseReason) {
        if let Some(link) = self.link.take() {
            self.shared.store.disconnect(self.shared.clock.now(), &link);
        }
        self.build = None;
        match ending {
            CloseReason::Refused(refusal) => {
                self.shared.refuse("stream refused", None, refusal);
            }
            CloseReason::Closed
            | CloseReason::Superseded
            | CloseReason::Replaced
            | CloseReason::ShutDown => {
                debug!(?ending, "stream ended");
            }
        }
        if let Some(status) = ending.status() {
            // An error or no room in time: the sidecar is gone or does not listen.
            let _ = timeout(STATUS_WITHIN, self.answers.send(Err(status))).await;
        }
    }
}
