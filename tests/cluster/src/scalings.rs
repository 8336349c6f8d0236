//! What the aggregator derives of each scaling of an autoscaler, asked for right after it, as a
//! person asks.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde_json::Value;
use tests_support::clock;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::plane::View;
use crate::rest::{NAMESPACE, Rest, autoscalers};

/// Time between two looks at the status: well below a sync.
const LOOK: Duration = Duration::from_millis(100);
/// The aggregator's watch sees the status a little later than the test.
const WATCH_LAG: Duration = Duration::from_millis(400);

/// The scalings of one autoscaler; ends when dropped.
#[derive(Debug)]
pub struct Scalings {
    found: Arc<Mutex<Vec<Scaling>>>,
    _stop: DropGuard,
}

/// One scaling, as the status showed it, and its explanation.
#[derive(Clone, Debug)]
pub struct Scaling {
    pub from: u64,
    pub to: u64,
    pub explanation: Value,
}

// === impl Scalings ===

impl Scalings {
    /// Follows the autoscaler `name`.
    pub fn follow(rest: &Rest, view: View, name: &str) -> Self {
        let found = Arc::default();
        let stop = CancellationToken::new();
        let following = follow(rest.clone(), view, name.to_owned(), Arc::clone(&found));
        tokio::spawn(stop.clone().run_until_cancelled_owned(following));
        Self {
            found,
            _stop: stop.drop_guard(),
        }
    }

    /// Those of now, the oldest first.
    pub fn now(&self) -> Vec<Scaling> {
        self.found.lock().clone()
    }
}

// === impl Scaling ===

impl Scaling {
    /// Replicas that the aggregator's arithmetic makes of what was read.
    pub fn derived(&self) -> Option<u64> {
        self.explanation["derivedReplicas"].as_u64()
    }

    /// What it says, for people.
    pub fn sentences(&self) -> String {
        let sentences = self.explanation["sentences"].as_array();
        let sentences = sentences.into_iter().flatten().filter_map(Value::as_str);
        sentences.collect::<Vec<_>>().join("\n  ")
    }
}

async fn follow(rest: Rest, view: View, name: String, found: Arc<Mutex<Vec<Scaling>>>) {
    let path = format!("{}/{name}", autoscalers());
    let mut last = None;
    loop {
        sleep(LOOK).await;
        // It may not be there yet.
        let Ok(autoscaler) = rest.get(&path).await else {
            continue;
        };
        let status = &autoscaler["status"];
        let now = (
            status["currentReplicas"].as_u64().unwrap_or(0),
            status["desiredReplicas"].as_u64().unwrap_or(0),
        );
        let changed = last.is_some_and(|last| last != now);
        last = Some(now);
        if !changed || now.0 == now.1 || failed(status) {
            continue;
        }
        let at = clock::unix().0;
        sleep(WATCH_LAG).await;
        let explanation = match explanation(&view, &name, at).await {
            Ok(explanation) => explanation,
            // What it had read is gone with it, if the test ended the aggregator meanwhile.
            Err(error) if is_away(&error) => continue,
            Err(error) => format!("{error:#}").into(),
        };
        found.lock().push(Scaling {
            from: now.0,
            to: now.1,
            explanation,
        });
    }
}

/// While nothing can be computed, what is desired is that of an earlier sync.
fn failed(status: &Value) -> bool {
    let conditions = status["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|own| own["type"] == "ScalingActive" && own["status"] == "False")
}

/// True if no aggregator answered: kube-apiserver says 503 for it.
fn is_away(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("503 ")
}

async fn explanation(view: &View, name: &str, at: u64) -> Result<Value> {
    let path =
        format!("/apis/view.meshmeter.io/v1/namespaces/{NAMESPACE}/explanations/{name}?at={at}");
    let explanation = view.get(&path).await;
    explanation.with_context(|| format!("the explanation of {name} at {at}"))
}
