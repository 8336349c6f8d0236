//! One run: pods serve the series, the autoscaler reads its signal and scales them.

use std::collections::BTreeMap;
use std::time::Duration;

use autoscaler::{Answer, Hpa, Memory, Metric, Observed, Pod, Source, Target, Values};

use crate::outcome::Outcome;
use crate::series::Series;
use crate::signal::Signal;

/// Time between two moments that are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Replicas at most: more would be a mistake in the target, and hours of work.
const REPLICAS_MAX: u32 = 5_000;

/// An autoscaler and its surroundings.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub hpa: Hpa,
    pub signal: Signal,
    /// Between two syncs of the controller.
    pub sync: Duration,
    /// From a pod's creation to its being ready.
    pub time_to_ready: Duration,
    /// Requests a second that a pod can serve.
    pub capacity: f64,
    /// Replicas at the start, all ready.
    pub replicas: u32,
}

/// Why a scenario cannot be run.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ScenarioError {
    #[error("metrics[{index}] is {metric}: a series of requests says nothing about it")]
    Metric { index: usize, metric: String },
    #[error("metrics[{index}] has a target in percent")]
    Percent { index: usize },
    #[error("maxReplicas is {0}, at most {REPLICAS_MAX} can be simulated")]
    Max(u32),
    #[error("the time between two syncs is {0:?}, at least 100 ms are needed")]
    Sync(Duration),
    #[error("a pod serves {0} requests a second: more than 0 are needed")]
    Capacity(f64),
}

#[derive(Clone, Copy, Debug)]
struct Replica {
    number: u64,
    ready_at: Duration,
}

struct Run<'a> {
    scenario: &'a Scenario,
    replicas: Vec<Replica>,
    /// Pods created so far.
    created: u64,
    /// Requests that a pod served which was ready all the time, at each tick: pods share evenly.
    served: Vec<f64>,
    memory: Memory,
    outcome: Outcome,
}

/// Runs `series` once. The controller's first sync is at its start.
pub fn simulate(series: &Series, scenario: &Scenario) -> Result<Outcome, ScenarioError> {
    scenario.check()?;
    let mut run = Run {
        scenario,
        replicas: Vec::new(),
        created: 0,
        served: vec![0.0],
        memory: Memory::default(),
        outcome: Outcome {
            most_replicas: scenario.replicas,
            ..Outcome::default()
        },
    };
    run.create(scenario.replicas, Duration::ZERO);
    let ticks = u32::try_from(series.length().as_millis() / TICK.as_millis()).unwrap_or(u32::MAX);
    let mut next_sync = Duration::ZERO;
    for tick in 0..ticks {
        let now = TICK * tick;
        if now >= next_sync {
            run.sync(now);
            next_sync += scenario.sync;
        }
        run.serve(now, series.rate(now));
    }
    Ok(run.outcome)
}

// === impl Scenario ===

impl Scenario {
    fn check(&self) -> Result<(), ScenarioError> {
        for (index, metric) in self.hpa.metrics.iter().enumerate() {
            if matches!(
                metric.source,
                Source::Resource | Source::ContainerResource { .. }
            ) {
                let metric = metric.to_string();
                return Err(ScenarioError::Metric { index, metric });
            }
            if matches!(metric.target, Target::Utilization(_)) {
                return Err(ScenarioError::Percent { index });
            }
        }
        if self.hpa.max.max(self.replicas) > REPLICAS_MAX {
            return Err(ScenarioError::Max(self.hpa.max.max(self.replicas)));
        }
        if self.sync < TICK {
            return Err(ScenarioError::Sync(self.sync));
        }
        if !(self.capacity.is_finite() && self.capacity > 0.0) {
            return Err(ScenarioError::Capacity(self.capacity));
        }
        Ok(())
    }
}

// === impl Run ===

impl Run<'_> {
    fn create(&mut self, count: u32, ready_at: Duration) {
        for _ in 0..count {
            self.created += 1;
            let number = self.created;
            self.replicas.push(Replica { number, ready_at });
        }
    }

    fn ready(&self, now: Duration) -> u32 {
        let ready = self.replicas.iter().filter(|one| one.ready_at <= now);
        u32::try_from(ready.count()).unwrap_or(u32::MAX)
    }

    /// One tick of load.
    fn serve(&mut self, now: Duration, rate: f64) {
        let seconds = TICK.as_secs_f64();
        let ready = f64::from(self.ready(now));
        let share = if ready > 0.0 { rate / ready } else { 0.0 };
        let before = self.served.last().copied().unwrap_or(0.0);
        self.served.push(before + share * seconds);
        let over = (rate - ready * self.scenario.capacity).max(0.0);
        let outcome = &mut self.outcome;
        outcome.requests += rate * seconds;
        outcome.over_capacity_requests += over * seconds;
        if over > 0.0 {
            outcome.over_capacity_seconds += seconds;
        }
        #[expect(clippy::cast_precision_loss, reason = "some thousand replicas")]
        let replicas = self.replicas.len() as f64;
        outcome.replica_seconds += replicas * seconds;
    }

    fn sync(&mut self, now: Duration) {
        let hpa = &self.scenario.hpa;
        let name = |one: &Replica| format!("pod-{:06}", one.number);
        let values: BTreeMap<String, i128> = self
            .replicas
            .iter()
            .filter_map(|one| Some((name(one), milli(self.value(one, now)?))))
            .collect();
        let pods: Vec<Pod> = self
            .replicas
            .iter()
            .map(|one| Pod {
                ready: one.ready_at <= now,
                ..Pod::running(name(one))
            })
            .collect();
        let answers: Vec<Answer> = hpa
            .metrics
            .iter()
            .map(|metric| answer(metric, &values))
            .collect();
        let here = u32::try_from(self.replicas.len()).unwrap_or(u32::MAX);
        let observed = Observed {
            now,
            replicas: here,
            status_replicas: None,
            pods: &pods,
            answers: &answers,
        };
        let decision = hpa.decide(&mut self.memory, &observed);
        if let Some(wanted) = decision.replicas.filter(|wanted| *wanted != here) {
            self.scale(now, here, wanted);
        }
    }

    /// Requests a second of a pod, as its newest sample has them.
    fn value(&self, replica: &Replica, now: Duration) -> Option<f64> {
        let signal = self.scenario.signal;
        let end = signal.sampled(now)?;
        let known = end.checked_sub(replica.ready_at)?;
        let span = known.min(signal.window);
        if known < signal.every || span < TICK {
            return None;
        }
        let begin = end.checked_sub(span)?;
        let served = self.served_by(end)? - self.served_by(begin)?;
        Some(served / span.as_secs_f64())
    }

    /// Requests of a pod that was ready from the start, by linear interpolation between ticks.
    fn served_by(&self, at: Duration) -> Option<f64> {
        let ticks = at.as_secs_f64() / TICK.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative"
        )]
        let whole = ticks.floor() as usize;
        let low = self.served.get(whole)?;
        let high = self.served.get(whole + 1).unwrap_or(low);
        Some(low + (high - low) * ticks.fract())
    }

    /// Pods that are not ready go first, then the youngest, as a `ReplicaSet` does.
    fn scale(&mut self, now: Duration, from: u32, to: u32) {
        if to > from {
            self.create(to - from, now + self.scenario.time_to_ready);
        } else {
            self.replicas.sort_by_key(|one| (one.ready_at, one.number));
            self.replicas
                .truncate(usize::try_from(to).unwrap_or(usize::MAX));
        }
        self.outcome.scaled(now, from, to);
    }
}

fn answer(metric: &Metric, values: &BTreeMap<String, i128>) -> Answer {
    match metric.source {
        Source::Pods { .. } if values.is_empty() => {
            Err("no metrics returned from custom metrics API".to_owned())
        }
        Source::Pods { .. } => Ok(Values::PerPod(values.clone())),
        _ if values.is_empty() => Err("unable to get metric: not found".to_owned()),
        _ => Ok(Values::Total(values.values().sum())),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
fn milli(value: f64) -> i128 {
    (value * 1000.0).round() as i128
}

#[cfg(test)]
mod tests;
