//! The metrics of listeners, with the log lines of the same events.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::clock;
use crate::tally::Tally;

/// The metrics of all listeners of a program; clones share their counters.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    connections: Family<Listener, Gauge>,
    refused: Family<Reasons, Counter>,
    cut: Family<Reasons, Counter>,
    handshakes: Family<Reasons, Counter>,
    accept: Family<Reasons, Counter>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Listener {
    listener: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Reasons {
    listener: &'static str,
    reason: &'static str,
}

#[derive(Debug)]
pub(crate) struct Counts {
    listener: &'static str,
    metrics: Metrics,
    /// One for each label value.
    tallies: Vec<(&'static str, Tally)>,
}

/// Counts an open connection until dropped.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

/// Reasons for closing a connection as soon as it is accepted.
pub(crate) const REFUSED_LIMIT: &str = "limit";
pub(crate) const REFUSED_ADDRESS: &str = "address_limit";

/// Reasons for closing a connection before the peer does.
pub(crate) const CUT_EVICTED: &str = "evicted";
pub(crate) const CUT_HEAD: &str = "head_timeout";
pub(crate) const CUT_SLOW: &str = "slow_reader";
pub(crate) const CUT_HEAD_SIZE: &str = "head_size";
pub(crate) const CUT_PROTOCOL: &str = "protocol";
pub(crate) const CUT_SHUTDOWN: &str = "shutdown";

/// Reasons for a failed handshake.
pub(crate) const HANDSHAKE_TIMEOUT: &str = "timeout";
pub(crate) const HANDSHAKE_NOT_TLS: &str = "not_tls";
pub(crate) const HANDSHAKE_UNKNOWN: &str = "unknown_protocol";
pub(crate) const HANDSHAKE_CLOSED: &str = "closed";
pub(crate) const HANDSHAKE_REJECTED: &str = "peer_rejected_certificate";
pub(crate) const HANDSHAKE_BAD_CLIENT: &str = "bad_client_certificate";
pub(crate) const HANDSHAKE_NO_CLIENT: &str = "no_client_certificate";
pub(crate) const HANDSHAKE_OTHER: &str = "other";

pub(crate) const ACCEPT_DESCRIPTORS: &str = "descriptors";
pub(crate) const ACCEPT_OTHER: &str = "other";

const REFUSED: [&str; 2] = [REFUSED_LIMIT, REFUSED_ADDRESS];
const CUT: [&str; 6] = [
    CUT_EVICTED,
    CUT_HEAD,
    CUT_SLOW,
    CUT_HEAD_SIZE,
    CUT_PROTOCOL,
    CUT_SHUTDOWN,
];
const HANDSHAKES: [&str; 8] = [
    HANDSHAKE_TIMEOUT,
    HANDSHAKE_NOT_TLS,
    HANDSHAKE_UNKNOWN,
    HANDSHAKE_CLOSED,
    HANDSHAKE_REJECTED,
    HANDSHAKE_BAD_CLIENT,
    HANDSHAKE_NO_CLIENT,
    HANDSHAKE_OTHER,
];
const ACCEPT: [&str; 2] = [ACCEPT_DESCRIPTORS, ACCEPT_OTHER];

// === impl Metrics ===

impl Metrics {
    /// Registers them in `registry`, once for all listeners of a program.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "connections",
            "Open connections, by listener",
            metrics.connections.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections closed at once since there were too many, of all peers or of one address",
            metrics.refused.clone(),
        );
        registry.register(
            "connections_cut",
            "Connections closed before their peer wanted it: to make room for others, or since it was too slow or sent \
             what is not HTTP",
            metrics.cut.clone(),
        );
        registry.register(
            "handshakes_failed",
            "TLS handshakes that failed or took too long, by listener and reason",
            metrics.handshakes.clone(),
        );
        registry.register(
            "accept_failures",
            "Failures to accept a connection, for example for want of file descriptors",
            metrics.accept.clone(),
        );
        metrics
    }

    /// The metrics of `listener`. Every series exists with 0 from the start: Prometheus' `rate`
    /// does not see an increase from absent to 1.
    pub(crate) fn of(&self, listener: &'static str) -> Arc<Counts> {
        let mut tallies = Vec::new();
        for (family, reasons) in [
            (&self.refused, &REFUSED[..]),
            (&self.cut, &CUT[..]),
            (&self.handshakes, &HANDSHAKES[..]),
            (&self.accept, &ACCEPT[..]),
        ] {
            for reason in reasons.iter().copied() {
                drop(family.get_or_create(&Reasons { listener, reason }));
                tallies.push((reason, Tally::default()));
            }
        }
        drop(self.connections.get_or_create(&Listener { listener }));
        Arc::new(Counts {
            listener,
            metrics: self.clone(),
            tallies,
        })
    }
}

// === impl Counts ===

impl Counts {
    pub(crate) fn open(&self) -> Open {
        let listener = self.listener;
        let labels = Listener { listener };
        let gauge = self.metrics.connections.get_or_create_owned(&labels);
        gauge.inc();
        Open(gauge)
    }

    pub(crate) fn refused(&self, reason: &'static str, peer: Option<SocketAddr>) {
        self.count(&self.metrics.refused, reason);
        if let Some(count) = self.count_to_log(reason) {
            tracing::warn!(
                listener = self.listener,
                reason,
                count,
                peer = peer.map(tracing::field::display),
                "connections refused"
            );
        }
    }

    pub(crate) fn cut(&self, reason: &'static str, peer: Option<SocketAddr>) {
        self.count(&self.metrics.cut, reason);
        if let Some(count) = self.count_to_log(reason) {
            tracing::info!(
                listener = self.listener,
                reason,
                count,
                peer = peer.map(tracing::field::display),
                "connections cut"
            );
        }
    }

    /// A connection did not end in time at shutdown; the server logs how many.
    pub(crate) fn cut_at_shutdown(&self) {
        self.count(&self.metrics.cut, CUT_SHUTDOWN);
    }

    pub(crate) fn handshake_failed(
        &self,
        reason: &'static str,
        error: &dyn Display,
        peer: Option<SocketAddr>,
    ) {
        self.count(&self.metrics.handshakes, reason);
        if let Some(count) = self.count_to_log(reason) {
            tracing::warn!(
                listener = self.listener,
                reason,
                count,
                %error,
                peer = peer.map(tracing::field::display),
                "TLS handshakes failed"
            );
        }
    }

    pub(crate) fn accept_failed(&self, reason: &'static str, error: &dyn Display) {
        self.count(&self.metrics.accept, reason);
        if let Some(count) = self.count_to_log(reason) {
            tracing::warn!(
                listener = self.listener,
                reason,
                count,
                %error,
                "connections not accepted; the next try is after a pause"
            );
        }
    }

    fn count(&self, family: &Family<Reasons, Counter>, reason: &'static str) {
        let listener = self.listener;
        family.get_or_create(&Reasons { listener, reason }).inc();
    }

    fn count_to_log(&self, reason: &'static str) -> Option<u64> {
        let mut tallies = self.tallies.iter();
        let (_, tally) = tallies.find(|(of, _)| *of == reason)?;
        tally.add(clock::now())
    }
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
