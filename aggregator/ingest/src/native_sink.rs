//! Server for Envoy's `envoy.stat_sinks.metrics_service`, cumulative, without Wasm.
//!
//! Each message holds all of Envoy's totals, applied to the store as reports of one instance. A
//! total that falls begins a new instance: Envoy restarted. Nothing is acknowledged; TCP slows down
//! an Envoy that is too fast, and Envoy drops messages beyond its buffer, which running totals make
//! up for.

mod message;
mod node;
mod timeline;
mod totals;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aggregator_core::pod::PodInfo;
use aggregator_core::report::{CounterScope, Hello, InstanceId, ProcessId, Report};
use aggregator_core::store::Link;
use bytes::Bytes;
use common_http::Peer;
use common_time::{Monotonic, UnixMillis};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::close_reason::{CloseReason, Refusal, close_reason_of};
use crate::context::IngestContext;
use crate::identity::Claim;
use crate::limits::SILENCE_MAX;
use crate::sink_states::{FLUSH_DEFAULT, SinkState};
use crate::streams::StreamSlot;
pub(crate) use message::{Codec, StreamMetricsMessage as Message, StreamMetricsResponse};
use node::Sidecar;
use timeline::Timeline;
use totals::Totals;

pub(crate) const PATH: &str = "/envoy.service.metrics.v3.MetricsService/StreamMetrics";
/// Longest time within which the next message is expected.
const PROMISE_MAX: Duration = Duration::from_mins(2);

/// Messages of more bytes are decoded one at a time: decoded, they may take
/// [`crate::limits::GROWTH_MAX`] times as much memory.
const ALONE_BYTES: usize = 64 * 1024;

struct Session {
    context: Arc<IngestContext>,
    slot: StreamSlot,
    claim: Claim,
    peer: Option<SocketAddr>,
    sidecar: Option<Sidecar>,
    timeline: Timeline,
    instance: Option<SinkInstance>,
}

/// The instance whose totals the stream reports.
struct SinkInstance {
    generation: u64,
    link: Link,
    seq: u64,
    end: UnixMillis,
}

pub(crate) async fn serve(
    context: Arc<IngestContext>,
    request: Request<Streaming<Bytes>>,
) -> Result<Response<StreamMetricsResponse>, Status> {
    let peer = request.extensions().get::<Arc<Peer>>();
    let peer = peer.and_then(|peer| peer.address);
    let refused = |refusal| context.refuse("metrics stream refused", peer, &refusal);
    let opened = context.open(request.extensions());
    let (slot, mut closed) = opened.map_err(refused)?;
    let claim = context.claim(request.metadata(), request.extensions(), &mut closed);
    let claim = claim.await.map_err(refused)?;
    let guard = context.metrics.open(slot.is_plain);
    let mut session = Session {
        context: Arc::clone(&context),
        slot,
        claim,
        peer,
        sidecar: None,
        timeline: Timeline::default(),
        instance: None,
    };
    let reason = session.read(request.into_inner(), closed).await;
    session.close();
    drop(guard);
    if let CloseReason::Refused(refusal) = &reason {
        return Err(context.refuse("metrics stream refused", peer, refusal));
    }
    reason
        .status()
        .map_or(Ok(Response::new(StreamMetricsResponse {})), Err)
}

// === impl Session ===

impl Session {
    async fn read(
        &mut self,
        mut inbound: Streaming<Bytes>,
        mut closed: oneshot::Receiver<CloseReason>,
    ) -> CloseReason {
        let shutdown = self.context.shutdown.clone();
        loop {
            let read_timeout = self.read_timeout();
            let next = tokio::select! {
                // A stream that was closed must not apply another message, even if one is ready.
                biased;
                reason = &mut closed => return reason.unwrap_or(CloseReason::Closed),
                () = shutdown.cancelled() => return CloseReason::ShutDown,
                next = timeout(read_timeout, inbound.message()) => next,
            };
            let message = match next {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return CloseReason::Closed,
                Ok(Err(status)) => return close_reason_of(&status),
                Err(_) => return CloseReason::Refused(self.timeout_refusal(read_timeout)),
            };
            let context = Arc::clone(&self.context);
            let _permit = if message.len() > ALONE_BYTES {
                context.sink_states.decoding.acquire().await.ok()
            } else {
                None
            };
            let result = Message::from_bytes(&message).and_then(|message| self.process(&message));
            if let Err(refusal) = result {
                return CloseReason::Refused(refusal);
            }
        }
    }

    fn read_timeout(&self) -> Duration {
        match self.sidecar {
            None => self.context.limits.hello_within,
            Some(_) => SILENCE_MAX,
        }
    }

    fn timeout_refusal(&self, within: Duration) -> Refusal {
        match self.sidecar {
            None => Refusal::HelloLate { within },
            Some(_) => Refusal::Silent { within },
        }
    }

    fn process(&mut self, message: &Message) -> Result<(), Refusal> {
        let sidecar = if let Some(sidecar) = self.sidecar.take() {
            sidecar
        } else {
            let node = message.identifier.as_ref().and_then(|id| id.node.as_ref());
            let sidecar = Sidecar::of(node)?;
            let directory = &self.context.directory;
            self.claim.check(&sidecar.pod, &sidecar.uid, directory)?;
            self.slot.hello_received(&sidecar.pod);
            self.context.note_accepted(self.peer);
            sidecar
        };
        let totals = Totals::of(&sidecar, &message.envoy_metrics);
        let result = totals
            .map_err(Refusal::from)
            .and_then(|totals| self.apply(&sidecar, totals));
        self.sidecar = Some(sidecar);
        result
    }

    fn apply(&mut self, sidecar: &Sidecar, totals: Totals) -> Result<(), Refusal> {
        let now = self.context.clock.now();
        let date = (totals.at_ms != 0).then_some(UnixMillis(totals.at_ms));
        let at = self.timeline.next(now, date);
        let sink_states = &self.context.sink_states;
        let state = sink_states.update(&sidecar.pod, &sidecar.uid, at, &totals.series);
        // A restarted Envoy or another uid needs an instance of its own: a total may not fall.
        if self
            .instance
            .as_ref()
            .is_none_or(|instance| instance.generation != state.generation)
        {
            self.close();
            self.instance = Some(self.connect(now, at, sidecar, &state)?);
        }
        let Some(instance) = &mut self.instance else {
            return Ok(());
        };
        let elapsed = at.since(instance.end);
        // The sink does not say how long its interval is: the first message takes the default.
        let interval = if instance.seq == 0 {
            FLUSH_DEFAULT
        } else {
            elapsed
        };
        instance.seq += 1;
        instance.end = instance.end.max(at);
        let report = Report {
            seq: instance.seq,
            interval_end: at,
            interval,
            series: totals.series.into_iter().collect(),
            vms_expected: 1,
            vms_live: 1,
            next_report_within: (2 * interval.max(FLUSH_DEFAULT / 5)).min(PROMISE_MAX),
            snapshot: true,
            is_final: false,
        };
        let applied = self.context.store.apply(now, &instance.link, &report)?;
        self.context.metrics.reports.inc();
        self.context
            .metrics
            .series_refused
            .inc_by((applied.series_refused + totals.refused) as u64);
        for stream in applied.replaced {
            self.context.metrics.replaced.inc();
            self.context.streams.end(stream, CloseReason::Replaced);
        }
        Ok(())
    }

    fn connect(
        &self,
        now: Monotonic,
        at: UnixMillis,
        sidecar: &Sidecar,
        state: &SinkState,
    ) -> Result<SinkInstance, Refusal> {
        // Derived, not random: a stream that reconnects continues its instance.
        let mut name = DefaultHasher::new();
        (
            &*sidecar.pod.namespace,
            &*sidecar.pod.name,
            &sidecar.uid,
            state.generation,
        )
            .hash(&mut name);
        let id = name.finish();
        let hello = Hello {
            pod: sidecar.pod.clone(),
            uid: sidecar.uid.as_str().into(),
            node: "".into(),
            labels: sidecar.labels.clone(),
            instance: InstanceId(id),
            process: ProcessId(id),
            scope: CounterScope::Process,
            started_at: state.started_at,
            clock: at,
            hot_restart: false,
        };
        let connected = self.context.store.connect(now, self.slot.id, &hello)?;
        for (stream, reason) in connected
            .superseded
            .map(|stream| (stream, CloseReason::Superseded))
            .into_iter()
            .chain(
                connected
                    .replaced
                    .into_iter()
                    .map(|stream| (stream, CloseReason::Replaced)),
            )
        {
            self.context.streams.end(stream, reason);
        }
        if self.context.learn_pods {
            let pod = PodInfo::new(hello.pod, hello.uid, hello.labels);
            self.context.directory.upsert(pod)?;
        }
        Ok(SinkInstance {
            generation: state.generation,
            link: connected.link,
            seq: 0,
            end: at,
        })
    }

    fn close(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.context
                .store
                .disconnect(self.context.clock.now(), &instance.link);
        }
    }
}
