//! Tokens against keys that rotate, pods that come and go, clocks that run, and who floods. Time is
//! simulated.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aggregator_core::pod::{Labels, PodInfo, PodKey};
use common_time::{Clock, Monotonic, UnixMillis};
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use serde_json::{Value, json};
use tests_support::kubernetes::{PodToken, SigningKey};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::*;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const AUDIENCE: &str = "meshmeter";
/// When time begins, in seconds of Unix time.
const BEGIN: u64 = 1_790_000_000;

/// The issuer's documents, as long as they can be read.
struct Documents {
    keys: Mutex<Option<Vec<Value>>>,
    delay: Mutex<Duration>,
    fetches: AtomicU64,
}

/// Reviews that say that every token is of nobody, and count how many there were.
#[derive(Default)]
struct Strict(AtomicU64);

struct Stage {
    documents: Arc<Documents>,
    reviews: Arc<Strict>,
    tokens: Arc<Tokens>,
    directory: Arc<Directory>,
    /// Seconds by which the watch lags behind.
    lag: Arc<AtomicU64>,
    metrics: Metrics,
    registry: Registry,
    key: SigningKey,
    stop: CancellationToken,
}

// === impl Documents ===

impl KeySource for Documents {
    fn fetch(&self) -> Fetch<'_> {
        Box::pin(async move {
            self.fetches.fetch_add(1, Ordering::Relaxed);
            let delay = *self.delay.lock();
            sleep(delay).await;
            let keys = self.keys.lock().clone().ok_or("forbidden")?;
            let discovery = json!({"issuer": ISSUER}).to_string();
            let keys = json!({"keys": keys}).to_string();
            Issuer::parse(discovery.as_bytes(), keys.as_bytes()).map_err(|error| error.to_string())
        })
    }
}

// === impl Strict ===

impl TokenReviews for Strict {
    fn review<'a>(&'a self, _: &'a str) -> TokenReview<'a> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(None) })
    }
}

// === impl Stage ===

impl Stage {
    /// With a key and the pod jazz-1, whose uid is u1.
    fn new() -> Self {
        let key = SigningKey::es256().unwrap();
        let documents = Arc::new(Documents {
            keys: Mutex::new(Some(vec![key.jwk()])),
            delay: Mutex::default(),
            fetches: AtomicU64::new(0),
        });
        let (clock, lag) = (clock(), Arc::new(AtomicU64::new(0)));
        let source = Arc::clone(&documents) as Arc<dyn KeySource>;
        let keys = Arc::new(IssuerKeys::new(source, clock.clone()));
        let (following, stop) = (Arc::clone(&keys), CancellationToken::new());
        let stopped = stop.clone();
        tokio::spawn(async move { following.follow(stopped).await });
        let own = Arc::clone(&lag);
        let lag_of = move |_| Duration::from_secs(own.load(Ordering::Relaxed));
        let local = LocalTokens::new(keys, AUDIENCE.to_owned(), lag_of, clock);
        let reviews = Arc::new(Strict::default());
        let shared = Arc::clone(&reviews) as Arc<dyn TokenReviews>;
        let tokens = Tokens::verified(local, shared);
        let mut registry = Registry::default();
        tokens.register(&mut registry);
        let stage = Self {
            documents,
            reviews,
            tokens: Arc::new(tokens),
            directory: Arc::default(),
            lag,
            metrics: Metrics::register(&mut registry),
            registry,
            key,
            stop,
        };
        stage.add("u1");
        stage
    }

    /// From now on jazz-1 has this uid.
    fn add(&self, uid: &str) {
        let info = PodInfo::new(jazz(), uid.into(), Labels::default());
        self.directory.upsert(info).unwrap();
    }

    fn token(&self, uid: &str) -> String {
        token_by(&self.key, uid)
    }

    /// What became of a token, and after how many seconds.
    async fn verify(&self, token: &str) -> (&'static str, u64) {
        let began = now();
        let user = self.tokens.user(token, &self.directory, &self.metrics);
        let outcome = match user.await {
            Ok(_) => "verified",
            Err(Refusal::Unauthenticated(why)) if why.contains("is not valid") => "reviewed",
            Err(Refusal::Unauthenticated(_)) => "refused",
            Err(_) => "failed",
        };
        (outcome, (now() - began).as_secs())
    }

    fn reviews(&self) -> u64 {
        self.reviews.0.load(Ordering::Relaxed)
    }

    fn fetches(&self) -> u64 {
        self.documents.fetches.load(Ordering::Relaxed)
    }

    /// Value of a series, without its prefix.
    fn metric(&self, series: &str) -> Option<f64> {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let series = format!("ingest_{series} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.map(|value| value.parse().unwrap())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn token_by(key: &SigningKey, uid: &str) -> String {
    PodToken {
        issued: BEGIN,
        expires: BEGIN + 86_400,
        ..PodToken::new(ISSUER, AUDIENCE, "prod", "jazz-1", uid)
    }
    .sign(key)
    .unwrap()
}

fn jazz() -> PodKey {
    PodKey::new("prod", "jazz-1")
}

#[expect(clippy::disallowed_methods, reason = "the simulated time of tokio")]
fn now() -> Instant {
    Instant::now()
}

fn clock() -> Clock {
    let began = now();
    let wall = move || UnixMillis(1000 * BEGIN) + (now() - began);
    Clock::new(move || Monotonic::BEGIN + (now() - began), wall)
}

async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}

/// Nobody is asked about a good token, nor about a forged one.
#[tokio::test(start_paused = true)]
async fn tokens_are_verified_without_asking() {
    let stage = Stage::new();
    let good = stage.token("u1");
    let (signed, _) = good.rsplit_once('.').unwrap();
    let other = stage.token("u2");
    let (_, signature) = other.rsplit_once('.').unwrap();
    assert_eq!(stage.verify(&good).await, ("verified", 0));
    let forged = format!("{signed}.{signature}");
    assert_eq!(stage.verify(&forged).await, ("refused", 0));
    assert_eq!(stage.verify("not one").await, ("refused", 0));
    let unbound = PodToken {
        issued: BEGIN,
        pod: None,
        ..PodToken::new(ISSUER, AUDIENCE, "prod", "", "")
    };
    let unbound = unbound.sign(&stage.key).unwrap();
    let user = stage
        .tokens
        .user(&unbound, &stage.directory, &stage.metrics);
    assert_eq!(user.await.unwrap().bound_pod(), None);
    assert_eq!(stage.reviews(), 0);
    for (outcome, count) in [
        ("verified", 1.0),
        ("unbound", 1.0),
        ("signature", 1.0),
        ("malformed", 1.0),
        ("expired", 0.0),
    ] {
        let series = format!("tokens_total{{method=\"local\",outcome=\"{outcome}\"}}");
        assert_eq!(stage.metric(&series), Some(count), "{outcome}");
    }
    assert_eq!(stage.metric("token_keys_age_seconds"), Some(0.0));
    assert_eq!(
        stage.metric("token_key_reads_total{outcome=\"read\"}"),
        Some(1.0)
    );
}

/// The token of a deleted pod is refused at once, also once its name is another pod's.
#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_refused_at_once() {
    let stage = Stage::new();
    let (first, second) = (stage.token("u1"), stage.token("u2"));
    stage.add("u2");
    assert_eq!(stage.verify(&first).await, ("refused", 0));
    assert_eq!(stage.verify(&second).await, ("verified", 0));
    stage.directory.remove(&jazz());
    assert_eq!(stage.verify(&first).await, ("refused", 0));
    assert_eq!(stage.verify(&second).await, ("refused", 0));
    assert_eq!(stage.reviews(), 0);
    let series = "tokens_total{method=\"local\",outcome=\"deleted_pod\"}";
    assert_eq!(stage.metric(series), Some(3.0));
}

/// A pod that the watch has not shown is waited for, be its name new or that of the pod before; at
/// last kube-apiserver is asked.
#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_seen_yet_is_waited_for() {
    let stage = Stage::new();
    let second = stage.token("u2");
    let shown = async {
        seconds(3).await;
        stage.add("u2");
    };
    let (outcome, ()) = tokio::join!(stage.verify(&second), shown);
    assert_eq!(outcome, ("verified", 3));
    assert_eq!(stage.reviews(), 0);
    let gone = async {
        seconds(2).await;
        stage.add("u3");
        stage.directory.remove(&jazz());
    };
    let third = stage.token("u3");
    let (outcome, ()) = tokio::join!(stage.verify(&third), gone);
    assert_eq!(outcome, ("refused", 2));
    let never = stage.token("u4");
    assert_eq!(stage.verify(&never).await, ("reviewed", 5));
    assert_eq!(stage.reviews(), 1);
    let series = "token_fallbacks_total{reason=\"unseen_pod\"}";
    assert_eq!(stage.metric(series), Some(1.0));
}

/// Those who wait are so many; one more is reviewed at once, and whoever need not wait is not hurt.
#[tokio::test(start_paused = true)]
async fn waiters_are_bounded() {
    let stage = Arc::new(Stage::new());
    let unseen = stage.token("u9");
    let mut waiting = JoinSet::new();
    for _ in 0..1024 {
        let (stage, unseen) = (Arc::clone(&stage), unseen.clone());
        waiting.spawn(async move { stage.verify(&unseen).await });
    }
    seconds(1).await;
    assert_eq!(stage.verify(&unseen).await, ("reviewed", 0));
    assert_eq!(stage.verify(&stage.token("u1")).await, ("verified", 0));
    stage.add("u9");
    for outcome in waiting.join_all().await {
        assert_eq!(outcome, ("verified", 1));
    }
    let series = "token_fallbacks_total{reason=\"waiters\"}";
    assert_eq!(stage.metric(series), Some(1.0));
}

/// A new key is found by its first token, at the earliest after ten seconds, and an old one is
/// forgotten with the set.
#[tokio::test(start_paused = true)]
async fn keys_are_followed() {
    let stage = Stage::new();
    let next = SigningKey::rs256().unwrap();
    let (old, new) = (stage.token("u1"), token_by(&next, "u1"));
    assert_eq!(stage.verify(&old).await, ("verified", 0));
    *stage.documents.keys.lock() = Some(vec![next.jwk(), stage.key.jwk()]);
    // Keys were read a moment ago.
    assert_eq!(stage.verify(&new).await, ("refused", 0));
    assert_eq!(stage.fetches(), 1);
    seconds(11).await;
    assert_eq!(stage.verify(&new).await, ("verified", 0));
    assert_eq!(stage.verify(&old).await, ("verified", 0));
    assert_eq!(stage.fetches(), 2);
    *stage.documents.keys.lock() = Some(vec![next.jwk()]);
    seconds(21).await;
    assert_eq!(stage.verify(&old).await, ("refused", 0));
    assert_eq!(stage.verify(&new).await, ("verified", 0));
    assert_eq!(stage.reviews(), 0);
}

/// All tokens of an unknown key wait for one and the same attempt.
#[tokio::test(start_paused = true)]
async fn one_attempt_is_for_all() {
    let stage = Arc::new(Stage::new());
    let next = SigningKey::es256().unwrap();
    let new = token_by(&next, "u1");
    seconds(15).await;
    *stage.documents.keys.lock() = Some(vec![next.jwk()]);
    *stage.documents.delay.lock() = Duration::from_secs(2);
    let mut waiting = JoinSet::new();
    for _ in 0..500 {
        let (stage, new) = (Arc::clone(&stage), new.clone());
        waiting.spawn(async move { stage.verify(&new).await });
    }
    for outcome in waiting.join_all().await {
        assert_eq!(outcome, ("verified", 2));
    }
    assert_eq!((stage.fetches(), stage.reviews()), (2, 0));
}

/// A flood of unknown keys costs kube-apiserver one attempt in ten seconds and no review.
#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_is_cheap() {
    let stage = Stage::new();
    let stranger = SigningKey::es256().unwrap();
    let forged = token_by(&stranger, "u1");
    for _ in 0..1000 {
        assert_eq!(stage.verify(&forged).await.0, "refused");
        sleep(Duration::from_millis(100)).await;
    }
    assert!(stage.fetches() <= 11, "{}", stage.fetches());
    assert_eq!(stage.reviews(), 0);
    let series = "tokens_total{method=\"local\",outcome=\"unknown_key\"}";
    assert_eq!(stage.metric(series), Some(1000.0));
}

/// Keys that cannot be read any more hold for a minute. Then kube-apiserver is asked, until they
/// are read again.
#[tokio::test(start_paused = true)]
async fn old_keys_decide_nothing() {
    let stage = Stage::new();
    let good = stage.token("u1");
    let forged = token_by(&SigningKey::es256().unwrap(), "u1");
    assert_eq!(stage.verify(&good).await, ("verified", 0));
    let keys = stage.documents.keys.lock().take();
    seconds(59).await;
    assert_eq!(stage.verify(&good).await, ("verified", 0));
    assert_eq!(stage.verify(&forged).await.0, "refused");
    seconds(2).await;
    assert_eq!(stage.verify(&good).await, ("reviewed", 0));
    assert_eq!(stage.verify(&forged).await.0, "reviewed");
    assert!(stage.metric("token_keys_age_seconds").unwrap() > 60.0);
    *stage.documents.keys.lock() = keys;
    seconds(10).await;
    assert_eq!(stage.verify(&good).await, ("verified", 0));
    let series = "token_fallbacks_total{reason=\"old_keys\"}";
    assert_eq!(stage.metric(series), Some(2.0));
}

/// Without the right to read keys every token is reviewed; one that comes before the first attempt
/// has ended waits for it.
#[tokio::test(start_paused = true)]
async fn without_keys_all_are_reviewed() {
    let stage = Stage::new();
    *stage.documents.delay.lock() = Duration::from_secs(1);
    let keys = stage.documents.keys.lock().take();
    let good = stage.token("u1");
    assert_eq!(stage.verify(&good).await, ("reviewed", 1));
    assert_eq!(stage.verify(&good).await, ("reviewed", 0));
    assert_eq!(stage.metric("token_keys_age_seconds"), None);
    // An attempt that hangs holds nobody up for longer than it may take.
    *stage.documents.delay.lock() = Duration::from_hours(1);
    seconds(60).await;
    assert_eq!(stage.verify(&good).await, ("reviewed", 0));
    *stage.documents.delay.lock() = Duration::ZERO;
    *stage.documents.keys.lock() = keys;
    seconds(20).await;
    assert_eq!(stage.verify(&good).await, ("verified", 0));
    let series = "token_fallbacks_total{reason=\"no_keys\"}";
    assert_eq!(stage.metric(series), Some(3.0));
}

/// A watch that was silent for a minute says nothing of a pod, whether it knows it or not.
#[tokio::test(start_paused = true)]
async fn an_old_watch_decides_nothing() {
    let stage = Stage::new();
    stage.add("u2");
    let tokens = ["u1", "u2", "u3"].map(|uid| stage.token(uid));
    stage.lag.store(61, Ordering::Relaxed);
    for token in &tokens {
        assert_eq!(stage.verify(token).await, ("reviewed", 0));
    }
    stage.lag.store(60, Ordering::Relaxed);
    let mut outcomes = Vec::new();
    for token in &tokens {
        outcomes.push(stage.verify(token).await);
    }
    let expected = [("refused", 0), ("verified", 0), ("reviewed", 5)];
    assert_eq!(outcomes, expected);
}

/// What the cluster signed and these keys cannot decide is reviewed; the reason is counted.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_decided_is_reviewed() {
    let stage = Stage::new();
    let other = PodToken {
        issued: BEGIN,
        ..PodToken::new("https://before", AUDIENCE, "prod", "jazz-1", "u1")
    };
    let other = other.sign(&stage.key).unwrap();
    assert_eq!(stage.verify(&other).await, ("reviewed", 0));
    let mut weak = stage.key.jwk();
    (weak["crv"], weak["alg"]) = ("P-384".into(), Value::Null);
    *stage.documents.keys.lock() = Some(vec![weak]);
    seconds(21).await;
    assert_eq!(stage.verify(&stage.token("u1")).await, ("reviewed", 0));
    for reason in ["other_issuer", "unsupported_key"] {
        let series = format!("token_fallbacks_total{{reason=\"{reason}\"}}");
        assert_eq!(stage.metric(&series), Some(1.0), "{reason}");
    }
    let series = "tokens_total{method=\"review\",outcome=\"invalid\"}";
    assert_eq!(stage.metric(series), Some(2.0));
}
