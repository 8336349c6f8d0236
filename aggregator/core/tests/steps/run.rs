//! One case: pods under a load, read all the time.

use std::time::Duration;

use aggregator_core::limits::StoreLimits;
use aggregator_core::pod::PodKey;
use aggregator_core::query::{Metric, MetricQuery, Reading, WindowChoice};
use aggregator_core::store::Store;

use crate::sidecar::{Arrivals, Phase, Random, START, Sidecar, State, TICK_MS, at, millis, real};

/// Visible: this much of a step.
const VISIBLE: f64 = 0.9;
/// Time between two reads, a multiple of a tick.
const LOOK_EVERY_MS: u64 = 2 * TICK_MS;

/// Some pods, each under a load of its own.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) loads: Vec<Vec<Phase>>,
    pub(crate) arrivals: Arrivals,
    pub(crate) seed: u64,
}

/// The average that an autoscaler makes of the pods' values at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) ms: u64,
    /// Requests per second and pod; `None` unless each pod has a value.
    pub(crate) value: Option<f64>,
    /// Length of the longest window, in seconds.
    pub(crate) window: f64,
    pub(crate) requests: f64,
    /// When the window begins that begins first.
    begin: u64,
}

/// What became of one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepOutcome {
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Time until nine tenths of each window lay behind the step, in seconds, and infinite if they
    /// never did.
    pub(crate) window_s: f64,
    /// Time until the value had gone nine tenths of the way, likewise.
    pub(crate) value_s: f64,
}

pub(crate) fn load(rate: f64, seconds: f64) -> Phase {
    Phase {
        rate,
        seconds,
        state: State::Up,
    }
}

pub(crate) fn down(seconds: f64) -> Phase {
    Phase {
        rate: 0.0,
        seconds,
        state: State::Down,
    }
}

pub(crate) fn cut(rate: f64, seconds: f64) -> Phase {
    Phase {
        rate,
        seconds,
        state: State::Cut,
    }
}

// === impl Case ===

impl Case {
    /// Reads again and again, until the first pod's load ends. Each read is as if it were the
    /// first.
    pub(crate) fn run(&self) -> Vec<Look> {
        let mut random = Random::new(self.seed);
        let loads = (0..).zip(&self.loads);
        let mut pods: Vec<_> = loads
            .map(|(number, phases)| Sidecar::new(number, phases, self.arrivals, &mut random))
            .collect();
        let store = Store::new(StoreLimits::default());
        let end: f64 = self.loads[0].iter().map(|phase| phase.seconds).sum();
        let mut looks = Vec::new();
        let mut ms = 0;
        while ms < millis(end) {
            for pod in &mut pods {
                pod.tick(&store, ms);
            }
            ms += TICK_MS;
            if ms % LOOK_EVERY_MS == 0 {
                looks.push(look(&store, &pods, ms));
            }
        }
        looks
    }

    /// Requests per second and pod at `ms`.
    pub(crate) fn rate(&self, ms: u64) -> f64 {
        let rates = self.loads.iter().map(|phases| {
            let mut end = 0;
            let phase = phases.iter().find(|phase| {
                end += millis(phase.seconds);
                ms < end
            });
            phase.map_or(0.0, |phase| phase.rate)
        });
        rates.sum::<f64>() / real(self.loads.len() as u64)
    }

    /// When the phases of the first pod begin, but the first, and when each ends. The others step
    /// with it, or not at all.
    pub(crate) fn phases(&self) -> Vec<(u64, u64)> {
        let mut begin = 0;
        let phases = self.loads[0].iter().map(|phase| {
            let end = begin + millis(phase.seconds);
            (std::mem::replace(&mut begin, end), end)
        });
        phases.skip(1).collect()
    }

    /// What became of each step. A sidecar that is down cannot show one.
    pub(crate) fn steps(&self, looks: &[Look]) -> Vec<StepOutcome> {
        let mut steps = Vec::new();
        for ((begin, end), phase) in self.phases().into_iter().zip(&self.loads[0][1..]) {
            let rates = (self.rate(begin - 1), self.rate(begin));
            if phase.state == State::Up && (rates.0 - rates.1).abs() > 0.0 {
                let here = looks.iter().filter(|look| (begin..end).contains(&look.ms));
                steps.push(seen(begin, rates, here));
            }
        }
        steps
    }
}

fn seen<'a>(
    step: u64,
    (from, to): (f64, f64),
    looks: impl Iterator<Item = &'a Look>,
) -> StepOutcome {
    let mut seen = StepOutcome {
        from,
        to,
        window_s: f64::INFINITY,
        value_s: f64::INFINITY,
    };
    let threshold = from + VISIBLE * (to - from);
    for look in looks {
        let Some(value) = look.value else { continue };
        let since = real(look.ms - step) / 1000.0;
        let reached = if to > from {
            value >= threshold
        } else {
            value <= threshold
        };
        if reached {
            seen.value_s = seen.value_s.min(since);
        }
        let old = real(step.saturating_sub(look.begin)) / 1000.0;
        if old <= (1.0 - VISIBLE) * look.window {
            seen.window_s = seen.window_s.min(since);
        }
    }
    seen
}

fn look(store: &Store, pods: &[Sidecar], ms: u64) -> Look {
    let query = MetricQuery {
        metric: Metric::RequestsPerSecond,
        direction: None,
        cluster: None,
        code_class: None,
        window: WindowChoice::Adaptive,
    };
    let keys: Vec<PodKey> = pods.iter().map(|pod| pod.key.clone()).collect();
    let answer = store.read(at(ms), &keys, &query);
    let values = answer
        .readings
        .iter()
        .map(|reading| real(reading.value.0) / 1000.0);
    let window = answer.readings.iter().map(|reading| reading.window);
    let requests = answer
        .readings
        .iter()
        .map(|reading| real(reading.events.0) / 1000.0);
    let begin = answer.readings.iter().map(begin);
    Look {
        ms,
        value: (answer.readings.len() == pods.len())
            .then(|| values.sum::<f64>() / real(pods.len() as u64)),
        window: window.max().unwrap_or_default().as_secs_f64(),
        requests: requests.sum(),
        begin: begin.min().unwrap_or_default(),
    }
}

fn begin(reading: &Reading) -> u64 {
    let begin: Duration = reading.timestamp.before(reading.window).since(START);
    u64::try_from(begin.as_millis()).unwrap_or(u64::MAX)
}
