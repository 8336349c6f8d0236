//! Events on pods that should have been injected and could not be. The pod itself does not exist
//! yet, so it is its owner that hears of it, or its namespace.
//!
//! Best effort: a review never waits for one. Whoever reaches the webhook can have some raised, so
//! there are few.

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

/// Events that wait to be raised.
const QUEUE_MAX: usize = 64;

const PER_MINUTE_MAX: u32 = 30;

/// Objects and reasons that are remembered: about 300 KiB.
const REMEMBERED_MAX: usize = 1024;

/// How soon the same is said again of the same object.
const AGAIN_AFTER: Duration = Duration::from_mins(10);

/// Bytes of a name, an API version or a kind of Kubernetes.
const NAME_MAX: usize = 253;

const REASON: &str = "NotInjected";
const BYPASSED: &str = "SidecarBypassed";
pub(super) const COMPONENT: &str = "meshmeter-injector";

/// Raises events, in a task of its own.
#[derive(Debug)]
pub(super) struct Events {
    queue: mpsc::Sender<Failure>,
    metrics: Metrics,
}

/// What is wrong with a pod of `about`.
#[derive(Debug)]
struct Failure {
    about: Object,
    reason: &'static str,
    message: String,
}

/// What was said of late.
#[derive(Debug, Default)]
struct Memory {
    said: BTreeMap<(Object, &'static str), Monotonic>,
    minute: u64,
    this_minute: u32,
}

/// Whether something is to be said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ServedCondition {
    Say,
    Repeated,
    Limited,
}

// === impl Events ===

impl Events {
    /// Raises events by way of `client` until `stop`.
    pub(super) fn begin(
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

    /// Something is wrong with the pod in the review `body`. `reason` is one of a fixed set,
    /// `message` says it in words.
    pub(super) fn tell(&self, body: &[u8], reason: &'static str, message: String) {
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
    let mut memory = Memory::default();
    while let Some(failure) = failures.recv().await {
        let Failure {
            about,
            reason,
            message,
        } = failure;
        match memory.judge(clock.now(), &about, reason) {
            ServedCondition::Repeated => metrics.event("repeated"),
            ServedCondition::Limited => metrics.event("limited"),
            ServedCondition::Say => {
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

/// Who hears of the pod in `request`: its controller, else its first owner, else its namespace.
/// `None` if there is no namespace that could be one: what is not ours to check must not become
/// part of a path.
fn about(request: &Value) -> Option<Object> {
    let namespace = request["namespace"].as_str()?;
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if !(1..=63).contains(&namespace.len()) || !namespace.bytes().all(plain) {
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

// === impl Memory ===

impl Memory {
    /// Whether `reason` is to be said of `about` at `now`; if so it is remembered as said.
    fn judge(&mut self, now: Monotonic, about: &Object, reason: &'static str) -> ServedCondition {
        self.said.retain(|_, said| now.since(*said) < AGAIN_AFTER);
        let key = (about.clone(), reason);
        if self.said.contains_key(&key) {
            return ServedCondition::Repeated;
        }
        let minute = now.0 / 60_000;
        if self.minute != minute {
            (self.minute, self.this_minute) = (minute, 0);
        }
        if self.this_minute >= PER_MINUTE_MAX || self.said.len() >= REMEMBERED_MAX {
            return ServedCondition::Limited;
        }
        self.this_minute += 1;
        self.said.insert(key, now);
        ServedCondition::Say
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

    /// The controller, an owner, or the namespace; and nothing that would lead elsewhere.
    #[test]
    fn somebody_who_exists_hears_of_it() {
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

    /// The same is said once in a while, and not much in a minute, whoever asks for how many.
    #[test]
    fn events_are_few() {
        let mut memory = Memory::default();
        let object = |name: String| Object {
            name,
            ..about(&request("prod", &json!(null))).unwrap()
        };
        let jazz = object("jazz".to_owned());
        let begin = Monotonic::BEGIN;
        let soon = begin + Duration::from_secs(1);
        assert_eq!(memory.judge(begin, &jazz, "taken"), ServedCondition::Say);
        assert_eq!(
            memory.judge(soon, &jazz, "taken"),
            ServedCondition::Repeated
        );
        assert_eq!(
            memory.judge(soon, &jazz, "host_network"),
            ServedCondition::Say
        );
        let later = begin + AGAIN_AFTER;
        assert_eq!(memory.judge(later, &jazz, "taken"), ServedCondition::Say);
        let mut said = 0;
        for second in 60..60 + AGAIN_AFTER.as_secs() * 10 {
            let now = later + Duration::from_secs(second);
            let condition = memory.judge(now, &object(format!("o{second}")), "taken");
            said += u32::from(condition == ServedCondition::Say);
            assert!(memory.said.len() <= REMEMBERED_MAX);
        }
        let minutes = u32::try_from(AGAIN_AFTER.as_secs() * 10 / 60).unwrap();
        assert!(said <= (minutes + 1) * PER_MINUTE_MAX, "{said}");
        assert!(said >= minutes * PER_MINUTE_MAX / 2, "{said}");
    }
}
