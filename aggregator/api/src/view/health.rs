//! The state of meshmeter: each replica, the pods that nobody counts, and the filter's versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use aggregator_core::pod::Phase;
use aggregator_core::query::Metric;
use aggregator_view::documents::{Health, Replica, SidecarVersion, Uncounted};
use aggregator_view::{GROUP, VERSION};
use bytes::Bytes;
use common_time::Monotonic;

use super::peers::PeerAnswer;
use super::pods::UNKNOWN;
use super::rates::{Measured, query, real};
use super::{Views, json};
use crate::status::Refusal;

/// Pods looked at in one go, so that the directory is never locked for long.
const PODS_AT_ONCE: usize = 500;

/// Rows of pods that nobody counts: workloads times reasons.
const UNCOUNTED_MAX: usize = 1_000;

// === impl Views ===

impl Views {
    pub(super) async fn health(self: &Arc<Self>, only_self: bool) -> Result<Bytes, Refusal> {
        let own = self.build(move |views| Ok(views.own_health(only_self)));
        let others = async {
            match &self.settings.peers {
                Some(peers) if !only_self => {
                    let path = format!("/apis/{GROUP}/{VERSION}/health?replica=self");
                    peers.ask(&path).await
                }
                _ => Vec::new(),
            }
        };
        let (own, others) = tokio::join!(own, others);
        let mut health = own?;
        health
            .replicas
            .extend(others.into_iter().flat_map(replicas_of));
        json(&health)
    }

    /// This replica, and what all of them know alike; without the latter for another replica.
    fn own_health(&self, for_peer: bool) -> Health {
        let now = self.clock.both();
        let counts = self.store.counts(now.monotonic);
        let pods = [
            ("new", counts.pods_new),
            ("live", counts.pods_live),
            ("held", counts.pods_held),
            ("gone", counts.pods_gone),
        ];
        let sizes = self.ledger.sizes();
        let mut replica = Replica {
            at_unix_ms: now.wall.0,
            pods: pods.map(|(state, count)| (state.to_owned(), count)).into(),
            streams: counts.streams,
            requests_per_second: self.sum(now.monotonic),
            ledger_bytes: sizes.bytes as u64,
            ledger_bytes_max: sizes.bytes_max as u64,
            ..(self.settings.replica)()
        };
        replica.unknown.extend((self.settings.autoscalers_fault)());
        let refused = counts.refused.iter().filter(|(_, count)| *count > 0);
        for (reason, count) in refused {
            replica
                .refused
                .insert(format!("store: {}", reason.as_str()), *count);
        }
        for (reason, count) in self.directory.refused() {
            if count > 0 {
                replica
                    .refused
                    .insert(format!("directory: {reason}"), count);
            }
        }
        let mut health = Health {
            kind: "Health".to_owned(),
            api_version: format!("{GROUP}/{VERSION}"),
            at_unix_ms: now.wall.0,
            replicas: vec![replica],
            ..Health::default()
        };
        if !for_peer {
            self.add_pods(&mut health, now.monotonic);
        }
        health
    }

    /// Requests per second of all pods together.
    fn sum(&self, now: Monotonic) -> Option<f64> {
        let pods = self.directory.pod_keys();
        let readings = self
            .store
            .read(now, &pods, &query(Metric::RequestsPerSecond))
            .readings;
        let values = readings.iter().map(|reading| real(reading.value));
        (!readings.is_empty()).then(|| values.sum())
    }

    fn add_pods(&self, health: &mut Health, now: Monotonic) {
        let mut uncounted: BTreeMap<(String, String, &'static str), Uncounted> = BTreeMap::new();
        let mut versions: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut after: Option<(String, String)> = None;
        loop {
            let from = after
                .as_ref()
                .map(|(namespace, name)| (&**namespace, &**name));
            let page = self.directory.members(None, from, PODS_AT_ONCE, &|_| true);
            let Some(last) = page.items.last() else {
                break;
            };
            after = Some((last.key.namespace.to_string(), last.key.name.to_string()));
            for member in page.items {
                let brief = self.store.brief(now, &member.key);
                if let Some(brief) = &brief {
                    let key = (brief.build.to_string(), brief.state.as_str().to_owned());
                    *versions.entry(key).or_default() += 1;
                }
                // One that does not run yet has nothing to count.
                if member.phase == Phase::Pending {
                    continue;
                }
                let measured = Measured::of(&self.store, now, std::slice::from_ref(&member.key));
                let Some((_, why)) = measured.missing.first() else {
                    continue;
                };
                let why = self.why(now, &member.key, *why, member.injected);
                let workload = member.workload.as_ref().map_or_else(
                    || format!("Pod/{}", member.key.name),
                    |key| format!("{}/{}", key.object.kind, key.object.name),
                );
                let namespace = member.key.namespace.to_string();
                let key = (namespace, workload, why.reason);
                if uncounted.len() >= UNCOUNTED_MAX && !uncounted.contains_key(&key) {
                    continue;
                }
                let row = uncounted.entry(key).or_insert_with_key(|key| Uncounted {
                    namespace: key.0.clone(),
                    workload: key.1.clone(),
                    reason: why.reason.to_owned(),
                    message: why.message,
                    pods: 0,
                    example: member.key.name.to_string(),
                });
                row.pods += 1;
            }
            if page.remaining == 0 {
                break;
            }
        }
        health.uncounted = uncounted.into_values().collect();
        health.sidecars = versions
            .into_iter()
            .map(|((version, state), pods)| SidecarVersion {
                version: if version.is_empty() {
                    UNKNOWN.to_owned()
                } else {
                    version
                },
                state,
                pods,
            })
            .collect();
    }
}

/// The other replicas, each as it says itself, or why it says nothing.
fn replicas_of(answer: PeerAnswer) -> Vec<Replica> {
    let PeerAnswer { name, answer } = answer;
    let health = answer.and_then(|body| {
        serde_json::from_slice::<Health>(&body)
            .map_err(|error| format!("its answer cannot be read: {error}"))
    });
    match health {
        Ok(health) => health.replicas,
        Err(error) => vec![Replica {
            name,
            error,
            ..Replica::default()
        }],
    }
}
