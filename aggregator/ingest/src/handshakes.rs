//! TLS handshakes of sidecars that fail: counted by reason, remembered by address, and told in the log now and then.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aggregator_core::store::Store;
use aggregator_core::time::{Clock, Monotonic};
use rustls::AlertDescription;
use tracing::warn;

use crate::metrics::{Metrics, ReasonLabel};

/// Time between two lines of the log. All sidecars fail at once when they do, and each tries again every second.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    /// The peer does not trust the certificate that it is shown.
    Untrusted,
    /// The peer should have shown a certificate, or another one.
    Certificate,
    /// What came was no TLS.
    NotTls,
    /// The peer went away.
    Closed,
    /// It took too long.
    Late,
    /// Something else, such as no version in common.
    Other,
}

/// What becomes of failed handshakes.
#[derive(Clone)]
pub(crate) struct Handshakes {
    store: Arc<Store>,
    clock: Clock,
    metrics: Metrics,
    said: Arc<Mutex<Said>>,
}

/// What the log was told.
#[derive(Debug, Default)]
struct Said {
    at: Option<Monotonic>,
    /// Failures since.
    more: u64,
}

// === impl Reason ===

impl Reason {
    const ALL: [Self; 6] = [
        Self::Untrusted,
        Self::Certificate,
        Self::NotTls,
        Self::Closed,
        Self::Late,
        Self::Other,
    ];

    /// Of the error of a handshake.
    pub(crate) fn of(error: &io::Error) -> Self {
        let within = error.get_ref();
        let tls = within.and_then(|within| within.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => match alert {
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown => Self::Untrusted,
                _ => Self::Other,
            },
            Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)) => {
                Self::Certificate
            }
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls,
            Some(_) => Self::Other,
            None => Self::Closed,
        }
    }

    fn label(self) -> ReasonLabel {
        ReasonLabel {
            reason: self.as_str(),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Certificate => "certificate",
            Self::NotTls => "not_tls",
            Self::Closed => "closed",
            Self::Late => "late",
            Self::Other => "other",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Untrusted => "the sidecar does not trust our authority: make its pod anew",
            Self::Certificate => {
                "the sidecar's certificate is missing or of no authority that is believed"
            }
            Self::NotTls => {
                "the sidecar does not speak TLS: was its pod made before TLS was turned on?"
            }
            Self::Closed | Self::Late | Self::Other => "see the log of the sidecar",
        }
    }
}

// === impl Handshakes ===

impl Handshakes {
    pub(crate) fn new(store: Arc<Store>, clock: Clock, metrics: Metrics) -> Self {
        // Each is there from the start, so that the first failure is a rise.
        for reason in Reason::ALL {
            drop(metrics.handshakes_failed.get_or_create(&reason.label()));
        }
        Self {
            store,
            clock,
            metrics,
            said: Arc::default(),
        }
    }

    /// The peer may stream.
    pub(crate) fn succeeded(&self, peer: Option<SocketAddr>) {
        if let Some(peer) = peer {
            self.store.handshake_succeeded(peer.ip());
        }
    }

    /// The peer could not be talked to.
    pub(crate) fn failed(&self, peer: Option<SocketAddr>, reason: Reason, error: &str) {
        let failed = &self.metrics.handshakes_failed;
        failed.get_or_create(&reason.label()).inc();
        let now = self.clock.now();
        // Whoever only looks whether the port is open is no sidecar.
        if let Some(peer) = peer
            && reason != Reason::Closed
        {
            self.store.handshake_failed(now, peer.ip());
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if reason == Reason::Closed || said.at.is_some_and(|at| now.since(at) < TELL_EVERY) {
            said.more += 1;
            return;
        }
        let since_last = std::mem::take(&mut said.more);
        said.at = Some(now);
        drop(said);
        warn!(
            peer = peer.map(tracing::field::display),
            reason = reason.as_str(),
            error,
            since_last,
            advice = reason.advice(),
            "TLS handshake of a sidecar failed"
        );
    }
}
