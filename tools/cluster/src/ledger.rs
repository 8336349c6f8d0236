//! Requests as the application counted them, beside those that meshmeter counted: pod by pod.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// Requests that reached the application of a pod, all of which it answered with 200.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppCounts {
    /// Of the load.
    pub requests: u64,
    /// Of the kubelet and of the mesh.
    pub checks: u64,
}

/// Requests of a pod by meshmeter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct OurCounts {
    /// That its sidecar sent to the application.
    pub attempts: u64,
    /// Of those, answered with 2xx. Of the others nobody can tell whether the application saw them:
    /// its connection ended, or a kubelet waited no longer.
    pub answered: u64,
}

/// What aggregators counted, by pod and by instance of its sidecar: each Envoy that is started
/// counts from 0, and they show the totals of the one that runs.
#[derive(Clone, Debug, Default)]
pub struct Counted(BTreeMap<String, BTreeMap<String, OurCounts>>);

/// Both, of every pod that there was.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub app: BTreeMap<String, AppCounts>,
    pub ours: BTreeMap<String, OurCounts>,
}

/// Sums over all pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Requests of the load that reached an application.
    pub load: u64,
    /// All requests that reached an application.
    pub app: u64,
    /// Those that meshmeter counted.
    pub counted: u64,
    /// Of those, the ones without a response of 2xx.
    pub unanswered: u64,
    /// Those of `app` that it did not count.
    pub lost: u64,
    /// Those that it counted as answered and that no application saw.
    pub doubled: u64,
}

// === impl AppCounts ===

impl AppCounts {
    pub fn of(json: &Value) -> Option<Self> {
        let count = |name: &str| json[name].as_u64();
        Some(Self {
            requests: count("requests")?,
            checks: count("probes")? + count("checks")?,
        })
    }

    pub fn all(self) -> u64 {
        self.requests + self.checks
    }
}

// === impl OurCounts ===

impl OurCounts {
    /// Of a pod in `/debug/pods`.
    pub fn of(pod: &Value) -> Self {
        let mut counts = Self::default();
        let series = pod["series"].as_array().into_iter().flatten();
        for series in series.filter(|series| series["direction"] == "inbound") {
            let count = |value: &Value| value.as_u64().unwrap_or_default();
            counts.attempts += count(&series["upstream_attempts"]);
            counts.answered += count(&series["responses"]["2xx"]);
        }
        counts
    }
}

// === impl Counted ===

impl Counted {
    /// Takes in a pod of `/debug/pods`. Of what two replicas know, and of one at two times, the
    /// larger is newer: totals only rise.
    pub fn take_in(&mut self, pod: &Value) {
        let name = pod["name"].as_str().unwrap_or_default().to_owned();
        let instance = pod["instances"].to_string();
        let counts = self.0.entry(name).or_default().entry(instance).or_default();
        *counts = OurCounts::of(pod).max(*counts);
    }

    /// The sums of `pod` over its instances.
    pub fn of(&self, pod: &str) -> Option<OurCounts> {
        let counts = self.0.get(pod)?.values();
        Some(counts.fold(OurCounts::default(), |sum, counts| OurCounts {
            attempts: sum.attempts + counts.attempts,
            answered: sum.answered + counts.answered,
        }))
    }
}

// === impl Ledger ===

impl Ledger {
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for (pod, app) in &self.app {
            let ours = self.ours.get(pod).copied().unwrap_or_default();
            sums.load += app.requests;
            sums.app += app.all();
            sums.counted += ours.attempts;
            sums.unanswered += ours.attempts.saturating_sub(ours.answered);
            sums.lost += app.all().saturating_sub(ours.attempts);
            sums.doubled += ours.answered.saturating_sub(app.all());
        }
        sums
    }

    /// Whether both sides agree on `pod`.
    pub fn agrees(&self, pod: &str) -> bool {
        let both = self.app.get(pod).zip(self.ours.get(pod));
        both.is_some_and(|(app, ours)| (ours.answered..=ours.attempts).contains(&app.all()))
    }

    /// The pods on which they do not, in words.
    pub fn differences(&self) -> Vec<String> {
        let differing = self.app.iter().filter(|(pod, _)| !self.agrees(pod));
        let differing = differing.map(|(pod, app)| {
            let ours = self.ours.get(pod).copied().unwrap_or_default();
            format!(
                "{pod}: the application counted {}, meshmeter {}, {} of them answered",
                app.all(),
                ours.attempts,
                ours.answered
            )
        });
        differing.collect()
    }
}

// === impl Sums ===

impl Sums {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            load: self.load.saturating_sub(earlier.load),
            app: self.app.saturating_sub(earlier.app),
            counted: self.counted.saturating_sub(earlier.counted),
            unanswered: self.unanswered.saturating_sub(earlier.unanswered),
            lost: self.lost.saturating_sub(earlier.lost),
            doubled: self.doubled.saturating_sub(earlier.doubled),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(requests: u64) -> AppCounts {
        AppCounts {
            requests,
            checks: 2,
        }
    }

    #[test]
    fn one_pod_does_not_make_up_for_another() {
        let mut ledger = Ledger::default();
        for (pod, requests, attempts, answered) in [
            ("agree", 10, 12, 12),
            ("one is lost", 10, 11, 11),
            ("one is doubled", 10, 13, 13),
            ("one may have been seen", 10, 12, 11),
            ("one was not seen", 10, 13, 12),
        ] {
            ledger.app.insert(pod.to_owned(), app(requests));
            let ours = OurCounts { attempts, answered };
            ledger.ours.insert(pod.to_owned(), ours);
        }
        ledger.app.insert("unknown".to_owned(), app(5));
        let wanted = Sums {
            load: 55,
            app: 67,
            counted: 61,
            unanswered: 2,
            lost: 8,
            doubled: 1,
        };
        assert_eq!(ledger.sums(), wanted);
        let differences = ledger.differences();
        assert_eq!(differences.len(), 3, "{differences:?}");
        assert_eq!(
            differences[2],
            "unknown: the application counted 7, meshmeter 0, 0 of them answered"
        );
    }

    #[test]
    fn of_a_pod_all_that_came_in_counts() {
        let pod = json!({"series": [
            {"direction": "inbound", "upstream_attempts": 7, "responses": {"2xx": 6, "none": 1}},
            {"direction": "inbound", "upstream_attempts": 3, "responses": {"2xx": 3}},
            {"direction": "inbound", "upstream_attempts": null, "responses": {}},
            {"direction": "outbound", "upstream_attempts": 100, "responses": {"2xx": 100}},
        ]});
        let counts = |attempts, answered| OurCounts { attempts, answered };
        assert_eq!(OurCounts::of(&pod), counts(10, 9));
        assert_eq!(OurCounts::of(&json!({})), OurCounts::default());
    }

    #[test]
    fn a_sidecar_that_was_started_again_counts_on() {
        let mut counted = Counted::default();
        for (instance, attempts) in [("a", 5), ("a", 7), ("a", 6), ("b", 2)] {
            let series =
                json!({"direction": "inbound", "upstream_attempts": attempts, "responses": {}});
            counted.take_in(&json!({"name": "jazz", "instances": [instance], "series": [series]}));
        }
        let wanted = OurCounts {
            attempts: 9,
            answered: 0,
        };
        assert_eq!(counted.of("jazz"), Some(wanted));
        assert_eq!(counted.of("metal"), None);
    }

    #[test]
    fn an_application_says_all_its_counts() {
        let said = json!({"pod": "a", "requests": 5, "probes": 1, "checks": 1});
        assert_eq!(AppCounts::of(&said), Some(app(5)));
        assert_eq!(AppCounts::of(&json!({"requests": 5})), None);
    }
}
