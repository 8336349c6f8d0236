//! State that all streams share, with admission, authentication and refusal of a stream.

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

use crate::admission::{Admission, Place};
use crate::authenticator::{self, Authenticator};
use crate::close_reason::{CloseReason, Refusal};
use crate::identity::Claim;
use crate::limits::Limits;
use crate::log_limiter::LogLimiter;
use crate::metrics::Metrics;
use crate::pulse::AskedInterval;
use crate::sink_states::SinkStates;
use crate::streams::{StreamSlot, Streams};

pub(crate) struct IngestContext {
    pub(crate) store: Arc<Store>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    /// True if pods are added to the directory from `Hello`.
    pub(crate) learn_pods: bool,
    pub(crate) admission: Arc<Admission>,
    pub(crate) asked: Arc<AskedInterval>,
    pub(crate) authenticator: Authenticator,
    pub(crate) streams: Arc<Streams>,
    pub(crate) log_limiter: LogLimiter,
    pub(crate) sink_states: SinkStates,
    pub(crate) shutdown: CancellationToken,
}

// === impl IngestContext ===

impl IngestContext {
    /// Counts a refusal and logs it, within the limit of lines per reason. Returns the status for
    /// the sidecar.
    pub(crate) fn refuse(
        &self,
        what: &'static str,
        peer: Option<SocketAddr>,
        refusal: &Refusal,
    ) -> Status {
        let reason = refusal.reason();
        self.metrics.count_refused(reason);
        self.note_refused(peer, refusal);
        if let Some(left_out) = self.log_limiter.next(reason, self.clock.now()) {
            let peer = peer.map(tracing::field::display);
            let left_out = (left_out > 0).then_some(left_out);
            info!(reason, error = %refusal, peer, lines.left_out = left_out, "{what}");
        }
        refusal.status()
    }

    /// Notes why a pod at the address of `peer` does not report.
    pub(crate) fn note_refused(&self, peer: Option<SocketAddr>, refusal: &Refusal) {
        if let (Some(peer), Some(why)) = (peer, refusal.no_value()) {
            self.store.stream_refused(self.clock.now(), peer.ip(), why);
        }
    }

    /// Notes that a hello from `peer` was accepted.
    pub(crate) fn note_accepted(&self, peer: Option<SocketAddr>) {
        if let Some(peer) = peer {
            self.store.stream_accepted(peer.ip());
        }
    }

    /// A place among those that begin, which a call may have to wait for.
    pub(crate) async fn admit(&self, extensions: &Extensions) -> Result<Place, Refusal> {
        let address = self.authenticator.address(extensions);
        let entered = self.admission.enter(address, &self.clock, &self.metrics);
        entered.await
    }

    /// A slot for a call, and the receiver of its close reason.
    pub(crate) fn open(
        &self,
        extensions: &Extensions,
    ) -> Result<(StreamSlot, oneshot::Receiver<CloseReason>), Refusal> {
        let address = self.authenticator.address(extensions);
        self.streams
            .open(address, authenticator::is_plain(extensions))
    }

    /// Authenticates a call before its first message is read. An error if it fails, or if the
    /// stream is closed meanwhile.
    pub(crate) async fn claim(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        closed: &mut oneshot::Receiver<CloseReason>,
    ) -> Result<Claim, Refusal> {
        let (directory, metrics) = (&self.directory, &self.metrics);
        let claim = self
            .authenticator
            .claim(metadata, extensions, directory, metrics);
        tokio::select! {
            biased;
            reason = closed => Err(match reason {
                Ok(CloseReason::Refused(refusal)) => refusal,
                _ => Refusal::Unreviewed("the stream is over".to_owned()),
            }),
            claim = claim => claim,
        }
    }
}
