//! The writer's side: who stands by, and has which copy.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common_time::{Clock, Monotonic};
use http::{Response, StatusCode};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{HAS, NEWS_WITHIN, STANDBY};

/// A flush waits for the copies at most for this time.
const COPIED_WITHIN: Duration = Duration::from_secs(1);

/// Who has not asked for this long does not stand by any more.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// Replicas that may stand by.
const STANDBYS_MAX: usize = 16;

/// Bytes of a replica's name: Kubernetes' limit of a pod's.
const NAME_BYTES_MAX: usize = 253;

/// What is published to those that stand by, and how far they are.
pub struct Standbys {
    key: String,
    clock: Clock,
    published: watch::Sender<Option<Copy>>,
    /// By name.
    known: Mutex<BTreeMap<String, Standby>>,
    /// Changes whenever `known` does.
    changed: watch::Sender<()>,
}

/// A checkpoint.
#[derive(Clone, Debug)]
struct Copy {
    at: i64,
    bytes: Bytes,
}

/// One that asks.
#[derive(Clone, Copy, Debug)]
struct Standby {
    /// The flush that its copy is of.
    has: i64,
    /// When it asked last.
    asked: Monotonic,
}

/// A request that waits: if it is dropped, whoever asked is gone.
struct Waiting<'a> {
    standbys: &'a Standbys,
    name: &'a str,
    answered: bool,
}

// === impl Standbys ===

impl fmt::Debug for Standbys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standbys").finish_non_exhaustive()
    }
}

impl Standbys {
    /// For those that show `key`.
    pub fn new(key: String, clock: Clock) -> Self {
        Self {
            key,
            clock,
            published: watch::Sender::new(None),
            known: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// Makes the checkpoint of the flush at `at` the one to copy.
    pub fn publish(&self, at: i64, checkpoint: Vec<u8>) {
        let bytes = checkpoint.into();
        self.published.send_replace(Some(Copy { at, bytes }));
    }

    /// This replica does not write any more: it has nothing to copy.
    pub fn retract(&self) {
        self.published.send_replace(None);
        self.known().clear();
    }

    /// Waits for everybody who stands by to have the checkpoint of `at`, but not for long; how many have.
    pub async fn copied(&self, at: i64) -> usize {
        let mut changed = self.changed.subscribe();
        let all = changed.wait_for(|()| {
            let (have, all) = self.count(at);
            have == all
        });
        let _ = timeout(COPIED_WITHIN, all).await;
        self.count(at).0
    }

    /// Answers a request for [`super::PATH`] with `query`, whose `Authorization` header is `authorization`: with the
    /// newest checkpoint once there is one that the standby has not, or with nothing (204) after a while.
    pub async fn answer(&self, query: &str, authorization: Option<&str>) -> Response<Bytes> {
        let token = authorization.and_then(|header| header.strip_prefix("Bearer "));
        let key = self.key.as_bytes();
        // In a time that does not tell where they differ.
        if !token.is_some_and(|token| token.as_bytes().ct_eq(key).into()) {
            return text(
                StatusCode::UNAUTHORIZED,
                "the key of the writer, as its Lease tells it, is needed\n",
            );
        }
        let parameter = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let mut values = pairs.filter(|(key, _)| *key == name);
            values.next().map(|(_, value)| value)
        };
        let name = parameter(STANDBY).filter(|name| (1..=NAME_BYTES_MAX).contains(&name.len()));
        let Some(name) = name else {
            return text(
                StatusCode::BAD_REQUEST,
                "standby: a replica's name is needed\n",
            );
        };
        let has = parameter(HAS).map_or(Ok(i64::MIN), str::parse);
        let Ok(has) = has else {
            return text(
                StatusCode::BAD_REQUEST,
                "has: not a time in Unix milliseconds\n",
            );
        };
        if !self.note(name, has) {
            return text(
                StatusCode::TOO_MANY_REQUESTS,
                "too many replicas stand by\n",
            );
        }
        self.newer(name, has).await
    }

    async fn newer(&self, name: &str, has: i64) -> Response<Bytes> {
        let mut waiting = Waiting {
            standbys: self,
            name,
            answered: false,
        };
        let mut published = self.published.subscribe();
        let new = |copy: &Option<Copy>| copy.as_ref().is_some_and(|copy| copy.at > has);
        let answer = match timeout(NEWS_WITHIN, published.wait_for(new)).await {
            Ok(Ok(copy)) => copy.as_ref().map(|copy| copy.bytes.clone()),
            Ok(Err(_)) | Err(_) => None,
        };
        waiting.answered = true;
        match answer {
            Some(bytes) => Response::new(bytes),
            None => text(StatusCode::NO_CONTENT, ""),
        }
    }

    /// Notes that `name` asked; false if there are too many.
    fn note(&self, name: &str, has: i64) -> bool {
        let asked = self.clock.now();
        let mut known = self.known();
        known.retain(|_, standby| asked.since(standby.asked) < GONE_AFTER);
        if known.len() >= STANDBYS_MAX && !known.contains_key(name) {
            return false;
        }
        known.insert(name.to_owned(), Standby { has, asked });
        drop(known);
        self.changed.send_replace(());
        true
    }

    fn forget(&self, name: &str) {
        self.known().remove(name);
        self.changed.send_replace(());
    }

    /// How many have the checkpoint of `at`, and of how many.
    fn count(&self, at: i64) -> (usize, usize) {
        let now = self.clock.now();
        let known = self.known();
        let there = known
            .values()
            .filter(|standby| now.since(standby.asked) < GONE_AFTER);
        let have = there.clone().filter(|standby| standby.has >= at).count();
        (have, there.count())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Standby>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.standbys.forget(self.name);
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    response
}
