//! What all streams share, and what each of them asks of it: a place, who it is, and to hear of a
//! refusal.

use std::net::SocketAddr;
use std::sync::Arc;

use aggregator_core::store::Store;
use aggregator_directory::Directory;
use common_time::Clock;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};
use tracing::info;

use crate::close_reason::{CloseReason, Refusal};
use crate::door::{self, Door};
use crate::identity::Claim;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::refusals::Lines;
use crate::sink_states::SinkStates;
use crate::streams::{StreamSlot, Streams};

pub(crate) struct IngestContext {
    pub(crate) store: Arc<Store>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    /// True if pods are taken from `Hello` into the directory.
    pub(crate) learn_pods: bool,
    /// How sidecars come in, and prove who they are.
    pub(crate) door: Door,
    pub(crate) streams: Arc<Streams>,
    /// Which refusals were logged lately.
    pub(crate) lines: Lines,
    /// What Envoys last told through their own metrics service.
    pub(crate) remembered: SinkStates,
    pub(crate) shutdown: CancellationToken,
}

// === impl Shared ===

impl IngestContext {
    /// Counts a refusal and says it, unless enough of its kind was said lately. Returns what the
    /// sidecar hears.
    pub(crate) fn refuse(
        &self,
        what: &'static str,
        peer: Option<SocketAddr>,
        refusal: &Refusal,
    ) -> Status {
        let reason = refusal.reason();
        self.metrics.count_refused(reason);
        if let Some(left_out) = self.lines.next(reason, self.clock.now()) {
            let peer = peer.map(tracing::field::display);
            let left_out = (left_out > 0).then_some(left_out);
            info!(reason, error = %refusal, peer, lines.left_out = left_out, "{what}");
        }
        refusal.status()
    }

    /// A place for a call, and where it hears that it is over.
    pub(crate) fn open(
        &self,
        extensions: &Extensions,
    ) -> Result<(StreamSlot, oneshot::Receiver<CloseReason>), Refusal> {
        let address = self.door.address(extensions);
        self.streams.open(address, door::is_plain(extensions))
    }

    /// What a call proves, before anything of it is read; or that its stream is over before that is
    /// known.
    pub(crate) async fn claim(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        ended: &mut oneshot::Receiver<CloseReason>,
    ) -> Result<Claim, Refusal> {
        let (directory, metrics) = (&self.directory, &self.metrics);
        let claim = self.door.claim(metadata, extensions, directory, metrics);
        tokio::select! {
            biased;
            ending = ended => Err(match ending {
                Ok(CloseReason::Refused(refusal)) => refusal,
                _ => Refusal::Unreviewed("the stream is over".to_owned()),
            }),
            claim = claim => claim,
        }
    }
}
