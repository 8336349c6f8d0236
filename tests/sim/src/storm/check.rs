//! What has to hold in a storm.

use std::time::Duration;

use aggregator_core::lag::{NOTICED, TICK};
use aggregator_core::query::{Metric, MetricQuery, Reading, WindowChoice};

use crate::storm::fleet::{RATE, Sidecar};
use crate::storm::replica::{LINE, Replica};
use crate::storm::world::{REPLICAS, WAY_US, World};

/// Of so many pods one is compared each second, another one in the next.
const EVERY: u64 = 8;
/// Every pod is live at every replica within this time after all could begin, at 10,000 sidecars
/// and a handshake of 1 ms, in milliseconds.
const LIVE_WITHIN_MS: u64 = 30_000;
/// Window of the compared values.
const WINDOW: Duration = Duration::from_secs(5);

type Checked = Result<(), String>;

impl World {
    /// A second is over.
    pub(super) fn second(&mut self) -> Checked {
        for index in 0..REPLICAS {
            let replica = &mut self.replicas[index];
            if !replica.up {
                continue;
            }
            let asked = replica.second();
            let (inside, waiting) = (replica.line.inside(), replica.line.waiting());
            if inside > LINE.at_once || waiting > LINE.waiting {
                return Err(format!("{inside} streams begin and {waiting} wait"));
            }
            let asked_ms = u64::try_from(asked.as_millis()).unwrap_or(u64::MAX);
            self.outcome.asked_ms = self.outcome.asked_ms.max(asked_ms);
            self.outcome.line_max = self.outcome.line_max.max(waiting);
            self.compare_some(index)?;
        }
        let is_free = self.now_ms() >= self.free_ms;
        if is_free && self.live_ms.is_none() && self.are_all_live() {
            self.live_ms = Some(self.now_ms());
            self.outcome.live_after_ms = self.now_ms() - self.free_ms;
        }
        Ok(())
    }

    fn compare_some(&mut self, index: usize) -> Checked {
        let turn = self.now_ms() / 1000 % EVERY;
        let replica = &self.replicas[index];
        let (mut oldest, mut values) = (0, 0);
        for sidecar in self
            .running()
            .filter(|sidecar| sidecar.number % EVERY == turn)
        {
            let key = std::slice::from_ref(&sidecar.key);
            let answer = replica.store.read(self.now(), key, &query());
            if answer.readings.len() + answer.missing.len() != 1 {
                return Err(format!("{}: not exactly one value or reason", sidecar.key));
            }
            let Some(reading) = answer.readings.first() else {
                continue;
            };
            let age = self.compare(replica, sidecar, reading);
            let age = age.map_err(|broken| {
                format!("replica {index}, {}: {broken}; {reading:?}", sidecar.key)
            })?;
            oldest = oldest.max(age);
            values += 1;
        }
        self.outcome.oldest_ms = self.outcome.oldest_ms.max(oldest);
        self.outcome.values += values;
        Ok(())
    }

    /// Compares a value with the truth; returns the age that it tells.
    fn compare(
        &self,
        replica: &Replica,
        sidecar: &Sidecar,
        reading: &Reading,
    ) -> Result<u64, String> {
        let newest = replica.newest.get(&sidecar.number).copied();
        let newest = newest.ok_or("has a value and never reported")?;
        let noticed = u64::try_from((NOTICED + TICK).as_millis()).unwrap_or(0);
        // What is not measured: the way, and a wait that no replica notices, or not yet.
        let told = reading.timestamp.0;
        if told > newest + WAY_US / 1000 + noticed {
            let by = told - newest;
            return Err(format!("is {by} ms older than it says"));
        }
        // A rate over its own length; how far the ends of that may be off shows where it begins.
        let length = u64::try_from(reading.window.as_millis()).unwrap_or(u64::MAX);
        let (served, due) = (reading.value.0 * length / 1000, RATE * length);
        let slack = RATE * 300 + 2000;
        if served.abs_diff(due) > slack {
            return Err(format!("{served} thousandths of requests, and not {due}"));
        }
        Ok(self.now_ms().saturating_sub(told))
    }

    fn are_all_live(&self) -> bool {
        self.replicas.iter().all(|replica| {
            self.running().all(|sidecar| {
                let key = std::slice::from_ref(&sidecar.key);
                let answer = replica.store.read(self.now(), key, &query());
                answer.readings.first().is_some_and(|reading| !reading.held)
            })
        })
    }

    /// The end of the run: everybody was live in time, and every total is what the pod counted.
    pub(super) fn settle(&mut self) -> Checked {
        if self.live_ms.is_none() || self.outcome.live_after_ms > LIVE_WITHIN_MS {
            let missing = self.missing();
            return Err(format!("not all live in time: {}; {missing}", self.outcome));
        }
        if !self.are_all_live() {
            return Err(format!("not all live at the end: {}", self.missing()));
        }
        for (index, replica) in self.replicas.iter().enumerate() {
            for status in replica.store.inspect(self.now()) {
                let number = status.key.name.strip_prefix("pod-");
                let number = number.and_then(|number| number.parse().ok());
                let sidecar = number.and_then(|number| self.pods.get(&number));
                let sidecar = sidecar.ok_or_else(|| format!("{}: nobody's pod", status.key))?;
                let newest = replica.newest.get(&sidecar.number).copied().unwrap_or(0);
                let total: u64 = status
                    .series
                    .iter()
                    .filter_map(|series| series.requests)
                    .sum();
                let due = sidecar.total(newest);
                if total != due {
                    return Err(format!(
                        "replica {index}, {}: total {total}, and it counted {due} until its newest report",
                        status.key
                    ));
                }
            }
        }
        Ok(())
    }

    /// How many pods have no value at each replica, and why the first has none.
    fn missing(&self) -> String {
        let of = |replica: &Replica| {
            let missing: Vec<String> = self
                .running()
                .filter_map(|sidecar| {
                    let key = std::slice::from_ref(&sidecar.key);
                    let answer = replica.store.read(self.now(), key, &query());
                    let held = answer.readings.first().is_some_and(|reading| reading.held);
                    let missing = answer.missing.first().map(|(_, why)| format!("{why:?}"));
                    let why = missing.or_else(|| held.then(|| "held".to_owned()))?;
                    Some(format!("{} {why}", sidecar.key))
                })
                .collect();
            format!(
                "{} without a fresh value, {:?}",
                missing.len(),
                missing.first()
            )
        };
        self.replicas.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}

fn query() -> MetricQuery {
    MetricQuery {
        metric: Metric::RequestsPerSecond,
        direction: None,
        cluster: None,
        code_class: None,
        window: WindowChoice::Fixed(WINDOW),
    }
}
