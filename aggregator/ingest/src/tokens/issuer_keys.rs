//! The issuer's keys, followed: read again every [`REFRESH_EVERY`], and sooner when a token comes
//! whose key is not known.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aggregator_tokens::Issuer;
use common_time::{Clock, Monotonic};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How often keys are read: twice may fail before they are too old ([`super::local`]).
const REFRESH_EVERY: Duration = Duration::from_secs(20);

/// Pause between two attempts, whatever tokens come: a flood of unknown keys costs kube-apiserver
/// two small documents in this time.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(10);

/// How long an attempt may take.
const FETCH_WITHIN: Duration = Duration::from_secs(5);

/// Tokens that wait for one attempt. Further ones are refused, and come again.
const WAITERS_MAX: usize = 1024;

/// Where keys are read.
pub trait KeySource: Send + Sync {
    /// The issuer with its keys as they are now. An error is a sentence.
    fn fetch(&self) -> Fetch<'_>;
}

/// Future of [`KeySource::fetch`].
pub type Fetch<'a> = Pin<Box<dyn Future<Output = Result<Issuer, String>> + Send + 'a>>;

/// The keys, as old as the last attempt that succeeded.
pub struct IssuerKeys {
    source: Arc<dyn KeySource>,
    clock: Clock,
    state: watch::Sender<State>,
    /// Notified when a token has an unknown key.
    wanted: Notify,
    waiters: Semaphore,
    read: Counter,
    failed: Counter,
}

#[derive(Clone, Default)]
struct State {
    /// Attempts that have ended.
    attempts: u64,
    /// When the last attempt began.
    began: Option<Monotonic>,
    is_fetching: bool,
    /// True if the last attempt failed.
    is_failing: bool,
    current: Option<CurrentKeys>,
}

/// Keys and when they were asked for.
#[derive(Clone, Debug)]
pub(super) struct CurrentKeys {
    pub(super) issuer: Arc<Issuer>,
    pub(super) at: Monotonic,
}

/// Metrics of [`IssuerKeys`].
#[derive(Debug)]
pub(super) struct KeyGauges(pub(super) Arc<IssuerKeys>);

// === impl IssuerKeys ===

impl IssuerKeys {
    pub fn new(source: Arc<dyn KeySource>, clock: Clock) -> Self {
        Self {
            source,
            clock,
            state: watch::Sender::default(),
            wanted: Notify::new(),
            waiters: Semaphore::new(WAITERS_MAX),
            read: Counter::default(),
            failed: Counter::default(),
        }
    }

    /// Keeps the keys current until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        let following = async {
            loop {
                let is_read = self.attempt().await;
                sleep(ATTEMPT_PAUSE).await;
                if is_read {
                    // Whether it was wanted or is due.
                    let _ = timeout(
                        REFRESH_EVERY.saturating_sub(ATTEMPT_PAUSE),
                        self.wanted.notified(),
                    )
                    .await;
                }
            }
        };
        stop.run_until_cancelled(following).await;
    }

    /// The keys as they were last read; waits for the first attempt.
    pub(super) async fn current(&self) -> Option<CurrentKeys> {
        let mut state = self.state.subscribe();
        // An error: the first attempt takes too long, which `None` says as well.
        let first = timeout(FETCH_WITHIN, state.wait_for(|state| state.attempts > 0)).await;
        first.ok()?.ok()?.current.clone()
    }

    /// Keys that are newer than `known`, if there are or soon will be.
    pub(super) async fn newer(&self, known: &CurrentKeys) -> Option<CurrentKeys> {
        let is_newer =
            |current: &CurrentKeys| (current.at > known.at).then(|| CurrentKeys::clone(current));
        let mut state = self.state.subscribe();
        let (current, attempts, is_due) = {
            let state = state.borrow_and_update();
            let since = state.began.map(|began| self.clock.now().since(began));
            let is_due = state.is_fetching || since.is_none_or(|since| since >= ATTEMPT_PAUSE);
            (state.current.clone(), state.attempts, is_due)
        };
        if let Some(newer) = current.as_ref().and_then(is_newer) {
            return Some(newer);
        }
        self.wanted.notify_one();
        if !is_due {
            return None;
        }
        let _permit = self.waiters.try_acquire().ok()?;
        let next = state.wait_for(|state| state.attempts > attempts);
        let next = timeout(FETCH_WITHIN, next).await.ok()?.ok()?;
        next.current.as_ref().and_then(is_newer)
    }

    /// How old the keys are; `None` if there are none.
    pub(super) fn age(&self) -> Option<Duration> {
        let state = self.state.borrow();
        let current = state.current.as_ref();
        current.map(|current| self.clock.now().since(current.at))
    }

    /// Reads the keys once; false if that failed.
    async fn attempt(&self) -> bool {
        let at = self.clock.now();
        self.state.send_modify(|state| {
            (state.began, state.is_fetching) = (Some(at), true);
        });
        let fetched = timeout(FETCH_WITHIN, self.source.fetch()).await;
        let fetched = fetched.unwrap_or_else(|_| Err(format!("no answer within {FETCH_WITHIN:?}")));
        let before = self.state.borrow().clone();
        match &fetched {
            Ok(issuer) => self.note_read(issuer, &before),
            Err(error) => self.note_failed(error, &before),
        }
        let fetched = fetched.ok().map(|issuer| CurrentKeys {
            issuer: Arc::new(issuer),
            at,
        });
        let is_read = fetched.is_some();
        self.state.send_modify(|state| {
            state.is_fetching = false;
            state.is_failing = !is_read;
            state.attempts += 1;
            state.current = fetched.or(state.current.take());
        });
        is_read
    }

    /// Counts keys that were read, and logs them if they are others than before, or late.
    fn note_read(&self, issuer: &Issuer, before: &State) {
        self.read.inc();
        let known = before.current.as_ref().map(|current| &current.issuer);
        let is_known = known.is_some_and(|known| {
            known.name() == issuer.name() && known.keys().ids() == issuer.keys().ids()
        });
        if is_known && !before.is_failing {
            return;
        }
        let keys = issuer.keys().ids().join(" ");
        tracing::info!(
            issuer = issuer.name(),
            keys,
            "keys of service account tokens read"
        );
        for unusable in issuer.keys().unusable() {
            tracing::warn!(
                why = unusable,
                "a key of service account tokens is not used: kube-apiserver reviews its tokens"
            );
        }
    }

    /// Counts a failure, and logs the first one after a success.
    fn note_failed(&self, error: &str, before: &State) {
        self.failed.inc();
        if !before.is_failing {
            tracing::warn!(
                error,
                "cannot read the keys of service account tokens: once they are a minute old, \
                 kube-apiserver reviews each token; is the ClusterRole \
                 system:service-account-issuer-discovery bound to this service account?"
            );
        }
    }
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("IssuerKeys");
        debug.field("age", &self.age()).finish_non_exhaustive()
    }
}

// === impl KeyGauges ===

impl Collector for KeyGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let keys = &self.0;
        let help = "How old the keys of service account tokens are; they are read every 20 s";
        let name = "token_keys_age_seconds";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        if let Some(age) = keys.age() {
            ConstGauge::new(age.as_secs_f64()).encode(metric)?;
        }
        let help = "Attempts to read the keys of service account tokens: read or failed";
        let name = "token_key_reads";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (outcome, counter) in [("failed", &keys.failed), ("read", &keys.read)] {
            let labels = [("outcome", outcome)];
            ConstCounter::new(counter.get()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
