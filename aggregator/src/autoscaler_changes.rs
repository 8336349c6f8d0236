//! Writes changes of autoscalers into the ledger: of their status, and of the ready pods of what
//! they scale.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aggregator_directory::{AutoscalerInfo, Directory};
use aggregator_ledger::Ledger;
use aggregator_view::documents::Change;
use common_time::Clock;
use tokio_util::sync::CancellationToken;

/// How soon a change of a status is seen: a decision's time is right to this.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Every how many looks ready pods are counted, whether a status changed or not.
const COUNT_EVERY: u32 = 4;

/// The last change of each autoscaler, by namespace and name. As many as the directory holds.
#[derive(Debug, Default)]
struct Last(HashMap<(Arc<str>, Arc<str>), Change>);

/// Records until `stop`.
pub(crate) async fn record(
    directory: Arc<Directory>,
    ledger: Arc<Ledger>,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Last::default();
    let mut seen = 0;
    let mut looks: u32 = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let changes = directory.autoscaler_changes();
        looks = looks.wrapping_add(1);
        if changes == seen && !looks.is_multiple_of(COUNT_EVERY) {
            continue;
        }
        seen = changes;
        let at = clock.wall().0;
        for (namespace, change) in last.changes(&directory) {
            let change = Change {
                at_unix_ms: at,
                ..change
            };
            ledger.changed(&namespace, change);
        }
    }
}

// === impl Last ===

impl Last {
    /// What changed since the last call, without times.
    fn changes(&mut self, directory: &Directory) -> Vec<(Arc<str>, Change)> {
        let mut now = HashMap::new();
        let mut changed = Vec::new();
        for info in directory.autoscalers() {
            let Some(change) = change(directory, &info) else {
                continue;
            };
            let key = (Arc::clone(&info.namespace), Arc::clone(&info.name));
            if self.0.get(&key) != Some(&change) {
                changed.push((Arc::clone(&info.namespace), change.clone()));
            }
            now.insert(key, change);
        }
        self.0 = now;
        changed
    }
}

/// The state of an autoscaler that has a status.
fn change(directory: &Directory, info: &AutoscalerInfo) -> Option<Change> {
    let status = info.status.as_ref()?;
    let conditions = status.conditions.iter().map(|(kind, condition)| {
        let text = format!(
            "{} {}: {}",
            condition.status, condition.reason, condition.message
        );
        (kind.clone(), text)
    });
    Some(Change {
        at_unix_ms: 0,
        hpa: info.name.to_string(),
        current_replicas: status.current_replicas,
        desired_replicas: status.desired_replicas,
        ready_pods: directory.ready_pods_of(info),
        conditions: conditions.collect(),
    })
}

#[cfg(test)]
mod tests {
    use aggregator_core::pod::{Labels, Owner, PodInfo, PodKey};
    use serde_json::{Value, json};

    use super::*;

    fn autoscaler(status: &Value) -> AutoscalerInfo {
        let object = json!({
            "metadata": {"namespace": "prod", "name": "jazz"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "jazz"},
                "maxReplicas": 5,
            },
            "status": status,
        });
        aggregator_directory::read_autoscaler(&object).unwrap()
    }

    /// Each change once: of the status, of a condition, and of the ready pods.
    #[test]
    fn sees_each_change_once() {
        let directory = Directory::default();
        let mut last = Last::default();
        let mut seen = |directory: &Directory| -> Vec<(u32, Option<u32>)> {
            let changes = last.changes(directory).into_iter();
            changes
                .map(|(_, change)| (change.desired_replicas, change.ready_pods))
                .collect()
        };
        directory.upsert_autoscaler(autoscaler(&json!({}))).unwrap();
        assert_eq!(seen(&directory), [], "without a status nothing is known");
        let status = |desired: u32| json!({"currentReplicas": 1, "desiredReplicas": desired});
        directory.upsert_autoscaler(autoscaler(&status(1))).unwrap();
        assert_eq!(seen(&directory), [(1, None)]);
        assert_eq!(seen(&directory), []);
        directory.upsert_autoscaler(autoscaler(&status(3))).unwrap();
        assert_eq!(seen(&directory), [(3, None)]);
        let mut pod = PodInfo::new(PodKey::new("prod", "a"), "".into(), Labels::new());
        pod.owner = Some(Owner {
            group: "apps".into(),
            kind: "Deployment".into(),
            name: "jazz".into(),
            uid: "".into(),
        });
        pod.ready = Some(true);
        directory.upsert(pod).unwrap();
        assert_eq!(seen(&directory), [(3, Some(1))]);
    }
}
