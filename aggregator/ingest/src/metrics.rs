//! Metrics of the ingest: names, units and labels.

use std::sync::atomic::AtomicU64;

use aggregator_core::status::RefusedReason;
use aggregator_tokens::RejectionReason;
use common_names::named;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::builds::Builds;
use crate::close_reason::Refusal;

/// Cheap to clone; clones share their counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    streams: Gauge,
    streams_opened: Counter,
    plain: Gauge,
    plain_opened: Counter,
    pub(crate) waiting: Gauge,
    pub(crate) lag: Gauge<f64, AtomicU64>,
    pub(crate) flush_interval: Gauge<f64, AtomicU64>,
    pub(crate) superseded: Counter,
    pub(crate) replaced: Counter,
    pub(crate) reports: Counter,
    pub(crate) frames: Family<KindLabel, Counter>,
    pub(crate) received: Counter,
    pub(crate) refused: Family<ReasonLabel, Counter>,
    pub(crate) series_refused: Counter,
    tokens: Family<TokenLabel, Counter>,
    token_fallbacks: Family<ReasonLabel, Counter>,
    pub(crate) builds: Builds,
}

/// Counts an open stream until it is dropped.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    streams: Gauge,
    plain: Option<Gauge>,
}

named! {
    /// How it was found out whose a token is; a label of metrics.
    pub(crate) enum TokenMethod {
        /// By the keys of the cluster.
        Local = "local",
        /// By kube-apiserver.
        Review = "review",
    }
}

named! {
    /// Why a token was reviewed, although tokens are verified here; a label of metrics.
    pub(crate) enum Fallback {
        NoKeys = "no_keys",
        OldKeys = "old_keys",
        OldWatch = "old_watch",
        OtherIssuer = "other_issuer",
        UnseenPod = "unseen_pod",
        UnsupportedKey = "unsupported_key",
        Waiters = "waiters",
    }
}

/// What became of a token; both of a fixed set.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct TokenLabel {
    method: &'static str,
    outcome: &'static str,
}

/// `hello` or `report`.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct KindLabel {
    pub(crate) kind: &'static str,
}

/// Why a stream was refused; one of a fixed set.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

// === impl Metrics ===

impl Metrics {
    /// Registers the metrics with the prefix `ingest`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("ingest");
        registry.register(
            "streams",
            "Streams of sidecars that are open",
            metrics.streams.clone(),
        );
        registry.register(
            "streams_opened",
            "Streams of sidecars opened so far",
            metrics.streams_opened.clone(),
        );
        registry.register(
            "streams_plain",
            "Streams of sidecars that are open without TLS",
            metrics.plain.clone(),
        );
        registry.register(
            "streams_plain_opened",
            "Streams of sidecars opened without TLS so far",
            metrics.plain_opened.clone(),
        );
        registry.register(
            "streams_superseded",
            "Streams ended by a newer stream of the same instance",
            metrics.superseded.clone(),
        );
        registry.register(
            "streams_replaced",
            "Streams ended by a newer instance of the pod's sidecar",
            metrics.replaced.clone(),
        );
        registry.register(
            "reports",
            "Reports that are in the store",
            metrics.reports.clone(),
        );
        registry.register(
            "frames",
            "Frames received, by kind; one that cannot be decoded is in ingest_refused only",
            metrics.frames.clone(),
        );
        registry.register_with_unit(
            "received",
            "Size of the frames received, without framing",
            Unit::Bytes,
            metrics.received.clone(),
        );
        metrics.register_load(registry);
        metrics.register_refused(registry);
        registry.register_collector(Box::new(metrics.builds.clone()));
        metrics.begin();
        metrics
    }

    fn register_load(&self, registry: &mut Registry) {
        registry.register(
            "waiting",
            "Streams that wait until others have begun",
            self.waiting.clone(),
        );
        registry.register_with_unit(
            "lag",
            "How late this replica ran at most in the last second: so long frames may have waited",
            Unit::Seconds,
            self.lag.clone(),
        );
        registry.register_with_unit(
            "flush_interval",
            "Interval between reports that sidecars are asked for while this replica is behind; 0: each keeps its own",
            Unit::Seconds,
            self.flush_interval.clone(),
        );
    }

    fn register_refused(&self, registry: &mut Registry) {
        registry.register(
            "refused",
            "Streams ended since a frame was refused or a limit was reached, by reason",
            self.refused.clone(),
        );
        registry.register(
            "series_refused",
            "Series of reports that had no room in the store",
            self.series_refused.clone(),
        );
        registry.register(
            "tokens",
            "Tokens of sidecars, verified here (local) or by kube-apiserver (review): verified, unbound (to no pod), or why not",
            self.tokens.clone(),
        );
        registry.register(
            "token_fallbacks",
            "Tokens of sidecars reviewed by kube-apiserver since they could not be verified here, by reason",
            self.token_fallbacks.clone(),
        );
    }

    fn begin(&self) {
        // Prometheus sees no increase when a series appears, so every label value starts with 0.
        for kind in ["hello", "report"] {
            drop(self.frames.get_or_create(&KindLabel { kind }));
        }
        for reason in reasons() {
            drop(self.refused.get_or_create(&ReasonLabel { reason }));
        }
        for method in TokenMethod::ALL {
            for outcome in method.outcomes() {
                let method = method.as_str();
                drop(self.tokens.get_or_create(&TokenLabel { method, outcome }));
            }
        }
        for reason in Fallback::ALL.map(Fallback::as_str) {
            drop(self.token_fallbacks.get_or_create(&ReasonLabel { reason }));
        }
    }

    /// Counts one stream; `is_plain` is one without TLS.
    pub(crate) fn open(&self, is_plain: bool) -> StreamGuard {
        self.streams.inc();
        self.streams_opened.inc();
        let plain = is_plain.then(|| self.plain.clone());
        if let Some(plain) = &plain {
            plain.inc();
            self.plain_opened.inc();
        }
        let streams = self.streams.clone();
        StreamGuard { streams, plain }
    }

    pub(crate) fn count_frame(&self, kind: &'static str, bytes: usize) {
        self.frames.get_or_create(&KindLabel { kind }).inc();
        self.received.inc_by(bytes as u64);
    }

    pub(crate) fn count_token(&self, method: TokenMethod, outcome: &'static str) {
        debug_assert!(method.outcomes().contains(&outcome), "{outcome}");
        let method = method.as_str();
        let label = TokenLabel { method, outcome };
        self.tokens.get_or_create(&label).inc();
    }

    pub(crate) fn count_fallback(&self, why: Fallback) {
        let reason = why.as_str();
        let label = ReasonLabel { reason };
        self.token_fallbacks.get_or_create(&label).inc();
    }

    pub(crate) fn count_refused(&self, reason: &'static str) {
        debug_assert!(reasons().any(|known| known == reason), "{reason}");
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }
}

// === impl TokenMethod ===

impl TokenMethod {
    /// Every outcome of a token by this method.
    fn outcomes(self) -> Vec<&'static str> {
        let reasons = match self {
            Self::Local => RejectionReason::ALL.map(RejectionReason::as_str).to_vec(),
            Self::Review => vec!["failed", "invalid"],
        };
        ["verified", "unbound"].into_iter().chain(reasons).collect()
    }
}

// === impl Fallback ===

impl Fallback {
    /// What is the matter, and what to do.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::NoKeys => "the keys of the cluster were not read yet, see the log before",
            Self::OldKeys => {
                "the keys of the cluster were not read for a minute, see the log before"
            }
            Self::OldWatch => "the watch of pods was silent for a minute, see /readyz",
            Self::OtherIssuer => {
                "it has the cluster's signature in another issuer's name, as while the issuer is changed"
            }
            Self::UnseenPod => {
                "the watch did not show its pod within 5 s: is its namespace watched?"
            }
            Self::UnsupportedKey => "only kube-apiserver verifies keys of its kind",
            Self::Waiters => "too many tokens wait for the watch to show their pods",
        }
    }
}

// === impl Open ===

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.streams.dec();
        if let Some(plain) = &self.plain {
            plain.dec();
        }
    }
}

/// Every reason label.
fn reasons() -> impl Iterator<Item = &'static str> {
    let of_store = RefusedReason::ALL.map(RefusedReason::as_str);
    Refusal::REASONS.into_iter().chain(of_store)
}
