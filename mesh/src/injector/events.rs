//! Events on pods that could not be injected. At review the pod does not exist yet, so the Event is
//! about its owner or namespace.
//!
//! Best effort: a review never waits for an Event. Their rate is limited, since anyone who reaches
//! the webhook can cause some.

use std::collections::BTreeMap;
use std::time::Duration;

use common_kubernetes::events::{Object, Warning};
use common_time::{Clock, Monotonic};
use kube::Client;
use mesh_injector::bypass::Bypass;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

/// Events in the queue at most.
const QUEUE_MAX: usize = 64;

const PER_MINUTE_MAX: u32 = 30;

/// Recent (object, reason) pairs at most: about 300 KiB.
const RECENT_MAX: usize = 1024;

/// An Event with the same object and reason is not repeated within this time.
const REPEAT_AFTER: Duration = Duration::from_mins(10);

/// Longest name, API version or kind of Kubernetes, in bytes.
const NAME_MAX: usize = 253;

const REASON: &str = "NotInjected";
const BYPASSED: &str = "SidecarBypassed";
pub(super) const COMPONENT: &str = "meshmeter-injector";

/// Queue of a background task that raises Events.
#[derive(Debug)]
pub(super) struct Events {
    queue: mpsc::Sender<Failure>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Failure {
    /// Owner or namespace of the pod.
    about: Object,
    reason: &'static str,
    message: String,
}

/// Events raised recently.
#[derive(Debug, Default)]
struct RateLimiter {
    recent: BTreeMap<(Object, &'static str), Monotonic>,
    minute: u64,
    this_minute: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Raise,
    Repeated,
    Limited,
}

// === impl Events ===

impl Events {
    /// Raises Events until `stop`.
    pub(super) fn start(
        client: Client,
        metrics: Metrics,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        let (queue, failures) = mpsc::channel(QUEUE_MAX);
        let raising = raise(client, failures, metrics.clone(), clock);
        tokio::spawn(stop.run_until_cancelled_owned(raising));
        Self { queue, metrics }
    }

    /// Queues an Event about the pod in the review `body`. `reason` is one of a fixed set.
    pub(super) fn send(&self, body: &[u8], reason: &'static str, message: String) {
        let review: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(about) = about(&review["request"]) else {
            return self.metrics.event("malformed");
        };
        let failure = Failure {
            about,
            reason,
            message,
        };
        if self.queue.try_send(failure).is_err() {
            self.metrics.event("limited");
        }
    }
}

async fn raise(
    client: Client,
    mut failures: mpsc::Receiver<Failure>,
    metrics: Metrics,
    clock: Clock,
) {
    let mut limiter = RateLimiter::default();
    while let Some(failure) = failures.recv().await {
        let Failure {
            about,
            reason,
            message,
        } = failure;
        match limiter.check(clock.now(), &about, reason) {
            Verdict::Repeated => metrics.event("repeated"),
            Verdict::Limited => metrics.event("limited"),
            Verdict::Raise => {
                let warning = Warning {
                    about,
                    reason: if reason == Bypass::REASON {
                        BYPASSED
                    } else {
                        REASON
                    },
                    message,
                    component: COMPONENT,
                };
                match warning.raise(&client).await {
                    Ok(()) => metrics.event("raised"),
                    Err(error) => {
                        tracing::warn!(%error, "event not raised");
                        metrics.event("failed");
                    }
                }
            }
        }
    }
}

/// The object of the Event: the pod's controller, else its first owner, else its namespace. `None`
/// without a valid namespace, which becomes part of the URL path: the review may be forged.
fn about(request: &Value) -> Option<Object> {
    let namespace = request["namespace"].as_str()?;
    let is_valid = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if !(1..=63).contains(&namespace.len()) || !namespace.bytes().all(is_valid) {
        return None;
    }
    let owners = request["object"]["metadata"]["ownerReferences"].as_array();
    let controller = |owner: &&Value| owner["controller"].as_bool() == Some(true);
    let owner = owners.and_then(|owners| owners.iter().find(controller).or_else(|| owners.first()));
    let owner = owner.and_then(|owner| {
        let text = |field: &str| {
            let text = owner[field].as_str()?;
            (1..=NAME_MAX)
                .contains(&text.len())
                .then(|| text.to_owned())
        };
        Some(Object {
            api_version: text("apiVersion")?,
            kind: text("kind")?,
            namespace: namespace.to_owned(),
            name: text("name")?,
            uid: text("uid")?,
        })
    });
    Some(owner.unwrap_or_else(|| Object {
        api_version: "v1".to_owned(),
        kind: "Namespace".to_owned(),
        namespace: namespace.to_owned(),
        name: namespace.to_owned(),
        uid: String::new(),
    }))
}

// === impl RateLimiter ===

impl RateLimiter {
    /// Records the Event if the verdict is [`Verdict::Raise`].
    fn check(&mut self, now: Monotonic, about: &Object, reason: &'static str) -> Verdict {
        self.recent
            .retain(|_, raised_at| now.since(*raised_at) < REPEAT_AFTER);
        let key = (about.clone(), reason);
        if self.recent.contains_key(&key) {
            return Verdict::Repeated;
        }
        let minute = now.0 / 60_000;
        if self.minute != minute {
            (self.minute, self.this_minute) = (minute, 0);
        }
        if self.this_minute >= PER_MINUTE_MAX || self.recent.len() >= RECENT_MAX {
            return Verdict::Limited;
        }
        self.this_minute += 1;
        self.recent.insert(key, now);
        Verdict::Raise
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owner(kind: &str, name: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u1"})
    }

    fn request(namespace: &str, owners: &Value) -> Value {
        json!({"namespace": namespace, "object": {"metadata": {"ownerReferences": owners}}})
    }

    /// The controller, an owner, or the namespace; invalid names are rejected.
    #[test]
    fn events_are_about_existing_objects() {
        let mut controller = owner("ReplicaSet", "jazz");
        controller["controller"] = true.into();
        let named = |owners: Value| {
            about(&request("prod", &owners)).map(|object| (object.kind, object.name))
        };
        for (owners, kind, name) in [
            (json!([owner("Job", "a"), controller]), "ReplicaSet", "jazz"),
            (json!([owner("Job", "a")]), "Job", "a"),
            (json!(null), "Namespace", "prod"),
            (json!("garbage"), "Namespace", "prod"),
            (json!([owner("Job", &"a".repeat(254))]), "Namespace", "prod"),
        ] {
            let expected = Some((kind.to_owned(), name.to_owned()));
            assert_eq!(named(owners), expected);
        }
        for namespace in ["", "a/b", "..", "A", &"a".repeat(64)] {
            assert_eq!(
                about(&request(namespace, &json!(null))),
                None,
                "{namespace:?}"
            );
        }
    }

    /// Repetitions and the number per minute are limited.
    #[test]
    fn events_are_few() {
        let mut limiter = RateLimiter::default();
        let object = |name: String| Object {
            name,
            ..about(&request("prod", &json!(null))).unwrap()
        };
        let jazz = object("jazz".to_owned());
        let begin = Monotonic::BEGIN;
        let soon = begin + Duration::from_secs(1);
        assert_eq!(limiter.check(begin, &jazz, "taken"), Verdict::Raise);
        assert_eq!(limiter.check(soon, &jazz, "taken"), Verdict::Repeated);
        assert_eq!(limiter.check(soon, &jazz, "host_network"), Verdict::Raise);
        let later = begin + REPEAT_AFTER;
        assert_eq!(limiter.check(later, &jazz, "taken"), Verdict::Raise);
        let mut raised = 0;
        for second in 60..60 + REPEAT_AFTER.as_secs() * 10 {
            let now = later + Duration::from_secs(second);
            let condition = limiter.check(now, &object(format!("o{second}")), "taken");
            raised += u32::from(condition == Verdict::Raise);
            assert!(limiter.recent.len() <= RECENT_MAX);
        }
        let minutes = u32::try_from(REPEAT_AFTER.as_secs() * 10 / 60).unwrap();
        assert!(raised <= (minutes + 1) * PER_MINUTE_MAX, "{raised}");
        assert!(raised >= minutes * PER_MINUTE_MAX / 2, "{raised}");
    }
}
