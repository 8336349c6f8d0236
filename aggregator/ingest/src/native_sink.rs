//! The second way in: Envoy's own `envoy.stat_sinks.metrics_service`, cumulative, without Wasm.
//!
//! Each message holds all of Envoy's totals. They are told to the store as reports of one instance,
//! which a fall of a total ends: the Envoy was started anew. Nothing is acknowledged; TCP holds an
//! Envoy back that is too fast, and Envoy drops what its buffer does not take, which running totals
//! make good.

mod message;
mod node;
mod timeline;
mod totals;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
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

use crate::close_reason::{CloseReason, Refusal, ending_of};
use crate::context::IngestContext;
use crate::identity::Claim;
use crate::limits::SILENCE_MAX;
use crate::sink_states::{FLUSH_DEFAULT, SinkState};
use crate::streams::StreamSlot;
pub(crate) use message::{Codec, StreamMetricsMessage as Message, StreamMetricsResponse as Answer};
use node::Sidecar;
use timeline::Timeline;
use totals::Totals;

pub(crate) const PATH: &str = "/envoy.service.metrics.v3.MetricsService/StreamMetrics";
/// The longest that Envoy's time between messages can be.
const PROMISE_MAX: Duration = Duration::from_mins(2);

/// A message of more bytes is decoded alone: it may take [`crate::limits::GROWTH_MAX`] times as
/// many once it is.
const ALONE_BYTES: usize = 64 * 1024;

struct Session {
    shared: Arc<IngestContext>,
    place: StreamSlot,
    /// What it proved when it began.
    claim: Claim,
    sidecar: Option<Sidecar>,
    timeline: Timeline,
    open: Option<Open>,
}

/// The instance that the stream tells of.
struct Open {
    generation: u64,
    link: Link,
    seq: u64,
    end: UnixMillis,
}

pub(crate) async fn serve(
    shared: Arc<IngestContext>,
    request: Request<Streaming<Bytes>>,
) -> Result<Response<Answer>, Status> {
    let peer = request.extensions().get::<Arc<Peer>>();
    let peer = peer.and_then(|peer| peer.address);
    let refused = |refusal| shared.refuse("metrics stream refused", peer, &refusal);
    let opened = shared.open(request.extensions());
    let (place, mut ended) = opened.map_err(refused)?;
    let claim = shared.claim(request.metadata(), request.extensions(), &mut ended);
    let claim = claim.await.map_err(refused)?;
    let open = shared.metrics.open(place.is_plain);
    let mut session = Session {
        shared: Arc::clone(&shared),
        place,
        claim,
        sidecar: None,
        timeline: Timeline::default(),
        open: None,
    };
    let ending = session.read(request.into_inner(), ended).await;
    session.close();
    drop(open);
    if let CloseReason::Refused(refusal) = &ending {
        return Err(shared.refuse("metrics stream refused", peer, refusal));
    }
    ending.status().map_or(Ok(Response::new(Answer {})), Err)
}

// === impl Session ===

impl Session {
    async fn read(
        &mut self,
        mut inbound: Streaming<Bytes>,
        mut ended: oneshot::Receiver<CloseReason>,
    ) -> CloseReason {
        let shutdown = self.shared.shutdown.clone();
        loop {
            let patience = self.patience();
            let next = tokio::select! {
                biased;
                ending = &mut ended => return ending.unwrap_or(CloseReason::Closed),
                () = shutdown.cancelled() => return CloseReason::ShutDown,
                next = timeout(patience, inbound.message()) => next,
            };
            let message = match next {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return CloseReason::Closed,
                Ok(Err(status)) => return ending_of(&status),
                Err(_) => return CloseReason::Refused(self.late(patience)),
            };
            let shared = Arc::clone(&self.shared);
            let _decodes = if message.len() > ALONE_BYTES {
                shared.remembered.decoding.acquire().await.ok()
            } else {
                None
            };
            let taken = Message::from_bytes(&message).and_then(|message| self.take(&message));
            if let Err(refusal) = taken {
                return CloseReason::Refused(refusal);
            }
        }
    }

    /// How long the next message may take.
    fn patience(&self) -> Duration {
        match self.sidecar {
            None => self.shared.limits.hello_within,
            Some(_) => SILENCE_MAX,
        }
    }

    fn late(&self, within: Duration) -> Refusal {
        match self.sidecar {
            None => Refusal::HelloLate { within },
            Some(_) => Refusal::Silent { within },
        }
    }

    fn take(&mut self, message: &Message) -> Result<(), Refusal> {
        let sidecar = if let Some(sidecar) = self.sidecar.take() {
            sidecar
        } else {
            let node = message.identifier.as_ref().and_then(|id| id.node.as_ref());
            let sidecar = Sidecar::of(node)?;
            let directory = &self.shared.directory;
            self.claim.check(&sidecar.pod, &sidecar.uid, directory)?;
            self.place.greeted(&sidecar.pod);
            sidecar
        };
        let totals = Totals::of(&sidecar, &message.envoy_metrics);
        let told = totals
            .map_err(Refusal::from)
            .and_then(|totals| self.tell(&sidecar, totals));
        self.sidecar = Some(sidecar);
        told
    }

    fn tell(&mut self, sidecar: &Sidecar, totals: Totals) -> Result<(), Refusal> {
        let now = self.shared.clock.now();
        let told = (totals.at_ms != 0).then_some(UnixMillis(totals.at_ms));
        let at = self.timeline.next(now, told);
        let remembered = &self.shared.remembered;
        let known = remembered.note(&sidecar.pod, &sidecar.uid, at, &totals.series);
        if self
            .open
            .as_ref()
            .is_none_or(|open| open.generation != known.generation)
        {
            self.close();
            self.open = Some(self.connect(now, at, sidecar, &known)?);
        }
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let elapsed = at.since(open.end);
        let interval = if open.seq == 0 {
            FLUSH_DEFAULT
        } else {
            elapsed
        };
        open.seq += 1;
        open.end = open.end.max(at);
        let report = Report {
            seq: open.seq,
            interval_end: at,
            interval,
            series: totals.series.into_iter().collect(),
            vms_expected: 1,
            vms_live: 1,
            next_report_within: (2 * interval.max(FLUSH_DEFAULT / 5)).min(PROMISE_MAX),
            snapshot: true,
            is_final: false,
        };
        let applied = self.shared.store.apply(now, &open.link, &report)?;
        self.shared.metrics.reports.inc();
        self.shared
            .metrics
            .series_refused
            .inc_by((applied.series_refused + totals.refused) as u64);
        for stream in applied.replaced {
            self.shared.metrics.replaced.inc();
            self.shared.streams.end(stream, CloseReason::Replaced);
        }
        Ok(())
    }

    fn connect(
        &self,
        now: Monotonic,
        at: UnixMillis,
        sidecar: &Sidecar,
        known: &SinkState,
    ) -> Result<Open, Refusal> {
        let mut name = DefaultHasher::new();
        (
            &*sidecar.pod.namespace,
            &*sidecar.pod.name,
            &sidecar.uid,
            known.generation,
        )
            .hash(&mut name);
        let instance = name.finish();
        let hello = Hello {
            pod: sidecar.pod.clone(),
            uid: sidecar.uid.as_str().into(),
            node: "".into(),
            labels: sidecar.labels.clone(),
            instance: InstanceId(instance),
            process: ProcessId(instance),
            scope: CounterScope::Process,
            started_at: known.started_at,
            clock: at,
            hot_restart: false,
        };
        let connected = self.shared.store.connect(now, self.place.id, &hello)?;
        for (stream, ending) in connected
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
            self.shared.streams.end(stream, ending);
        }
        if self.shared.learn_pods {
            let pod = PodInfo::new(hello.pod, hello.uid, hello.labels);
            self.shared.directory.upsert(pod)?;
        }
        Ok(Open {
            generation: known.generation,
            link: connected.link,
            seq: 0,
            end: at,
        })
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.shared
                .store
                .disconnect(self.shared.clock.now(), &open.link);
        }
    }
}
