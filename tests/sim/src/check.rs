//! The promises, held against the oracle.

use std::time::Duration;

use aggregator_core::pod::PodKey;
use aggregator_core::query::{Metric, MetricQuery, NoValue, Reading, WindowChoice};
use aggregator_core::series::Direction;
use aggregator_core::status::{PodState, PodStatus, SeriesStatus};
use rand::Rng as _;

use crate::aggregator::Received;
use crate::oracle::{Kind, Truth, between};
use crate::world::World;

/// The error that ticks leave, in milliseconds: a worker's last tick is up to 105 ms before the
/// leader's, and the store closes pauses of up to 100 ms; the rest is rounding.
const TICKS: i64 = 215;
/// Shorter intervals are joined by the store, in milliseconds.
const JOINED: i64 = 1000;
/// After this a dead VM must be known to be dead: 2 s and a tick, in milliseconds.
const DEATH_KNOWN: i64 = 2200;
/// How long a pod may be shown after its newest report beyond what that promised: 2 s of grace, 10
/// s of hold, in milliseconds.
const SHOWN: i64 = 12_000;

type Checked = Result<(), String>;

impl World {
    /// Looks at every aggregator as a reader would.
    pub(crate) fn look(&mut self) -> Checked {
        for index in 0..self.aggregators.len() {
            if !self.aggregators[index].up {
                continue;
            }
            let now = self.aggregators[index].clock(self.now);
            self.aggregators[index].store.expire(now);
            for status in self.aggregators[index].store.inspect(now) {
                self.look_at(index, &status)
                    .map_err(|broken| format!("aggregator {index}, {}: {broken}", status.key))?;
            }
            self.read(index)?;
        }
        Ok(())
    }

    fn look_at(&mut self, index: usize, status: &PodStatus) -> Checked {
        let pod = pod_of(&status.key)?;
        let truth = &self.truths[pod];
        let aggregator = &mut self.aggregators[index];
        let Some(received) = aggregator.received.get_mut(&pod) else {
            return Err("is known and never said hello".to_owned());
        };
        let error = error(truth, received);
        let shown = signed(received.due) + SHOWN + error;
        if matches!(status.state, PodState::Live | PodState::Held) && signed(self.now) > shown {
            return Err(format!("is {:?} by an old frame", status.state));
        }
        let ids = &status.instances;
        for kind in Kind::ALL {
            let most: u64 = ids
                .iter()
                .filter_map(|id| self.segments.get(&id.0))
                .map(|(_, segment)| truth.segments[*segment].most(kind))
                .sum();
            let total = total(&status.series, kind);
            self.tally.totals += 1;
            if total > most {
                return Err(format!(
                    "{kind:?}: total {total} is above the {most} requests there were"
                ));
            }
        }
        if let Some((before, series)) = &received.shown
            && before.iter().all(|id| ids.contains(id))
        {
            never_fell(series, &status.series)?;
        }
        received.shown = Some((ids.clone(), status.series.clone()));
        Ok(())
    }

    /// Reads values in some window.
    fn read(&mut self, index: usize) -> Checked {
        let pods: Vec<PodKey> = (0..self.plan.pods).map(key_of).collect();
        let windows = [2, 5, 15, 30, 60];
        let window = if self.rng.random_bool(0.4) {
            WindowChoice::Adaptive
        } else {
            WindowChoice::Fixed(Duration::from_secs(windows[self.rng.random_range(0..5)]))
        };
        let asked: &[PodKey] = if self.rng.random_bool(0.5) {
            &pods
        } else {
            let pod = self.rng.random_range(0..pods.len());
            &pods[pod..=pod]
        };
        let aggregator = &self.aggregators[index];
        let now = aggregator.clock(self.now);
        for kind in Kind::ALL {
            let answer = aggregator.store.read(now, asked, &query(kind, window));
            if answer.readings.len() + answer.missing.len() != asked.len() {
                return Err(format!(
                    "aggregator {index}: a pod has neither a value nor a reason"
                ));
            }
            for reading in &answer.readings {
                self.compare(index, kind, reading)
                    .map_err(|broken| {
                        format!("aggregator {index}, {}, {kind:?}: {broken}", reading.pod)
                    })
                    .map(|(shift, used)| {
                        self.tally.values += 1;
                        self.tally.worst_shift_ms = self.tally.worst_shift_ms.max(shift);
                        self.tally.worst_use = self.tally.worst_use.max(used);
                    })?;
            }
        }
        let inflight = MetricQuery {
            metric: Metric::InflightRequests,
            ..query(Kind::Inbound, window)
        };
        let answer = aggregator.store.read(now, asked, &inflight);
        for reading in &answer.readings {
            let truth = &self.truths[pod_of(&reading.pod)?];
            let (window, stepped) = (reading.window.as_secs_f64(), truth.stepped_ms > 0);
            let most = float(truth.open_peak) * (1.0 + 4.0 / window) + 0.01;
            if !truth.trapped && !stepped && milli(reading) > most {
                return Err(format!(
                    "{}: {} requests in flight, never more than {}",
                    reading.pod,
                    milli(reading),
                    truth.open_peak
                ));
            }
        }
        Ok(())
    }

    /// Compares a value with the oracle over its own interval: by how many milliseconds the ends of
    /// the interval would have to move to explain it, and how much of the stated error it used.
    fn compare(&self, index: usize, kind: Kind, reading: &Reading) -> Result<(u64, f64), String> {
        let pod = pod_of(&reading.pod)?;
        let (truth, aggregator) = (&self.truths[pod], &self.aggregators[index]);
        let received = aggregator
            .received
            .get(&pod)
            .ok_or("has a value and never reported")?;
        let to = signed(reading.timestamp.0) - signed(aggregator.offset_ms);
        let from = to - signed(u64::try_from(reading.window.as_millis()).unwrap_or(u64::MAX));
        if to > signed(self.now) {
            return Err("the timestamp lies in the future".to_owned());
        }
        self.none_while_dead(pod, received, to)?;
        let served = milli(reading) * reading.window.as_secs_f64();
        let rounding = 0.001 * reading.window.as_secs_f64();
        let (least, most) = bounds(self, pod, received, kind, from, to);
        if served > float(most) + rounding || served + rounding < float(least) {
            let exact = between(&truth.all[kind as usize], from, to);
            return Err(format!(
                "{served:.1} requests in [{from}, {to}] of {} ms, there were {exact}, and {least} to {most} within \
                 the stated error of {} ms; reading {reading:?}; received {:?}",
                to - from,
                error(truth, received),
                received.ends
            ));
        }
        if truth.stepped_ms > 0 {
            return Ok((0, 0.0));
        }
        let off = |shift: i64| {
            let few = between(&truth.all[kind as usize], from + shift, to - shift);
            let many = between(&truth.all[kind as usize], from - shift, to + shift);
            float(few) <= served + rounding && served <= float(many) + rounding
        };
        let shift = (0..40).map(|step| step * 50).find(|shift| off(*shift));
        let middle = float(between(&truth.all[kind as usize], from, to));
        let room = (float(most) - middle).max(middle - float(least)).max(1.0);
        Ok((
            shift.unwrap_or(0).unsigned_abs(),
            (served - middle).abs() / room,
        ))
    }

    /// While a VM is dead and known to be, its pod has no value. VMs have no names that outlive
    /// them, so one that comes in place of a dead one stands for whichever has been dead longest:
    /// of several that died, as many are known to be dead as died long enough ago, less those that
    /// came since.
    fn none_while_dead(&self, pod: usize, received: &Received, to: i64) -> Checked {
        let Some(sidecar) = self.sidecars.get(&pod).filter(|sidecar| sidecar.alive) else {
            return Ok(());
        };
        let error = error(&self.truths[pod], received);
        let known = |since: &u64| to > signed(*since) + DEATH_KNOWN + error;
        let dead = sidecar.deaths.iter().filter(|since| known(since)).count();
        if dead > sidecar.reloads {
            return Err(format!(
                "has a value at {to} though VMs died at {:?} and {} came back",
                sidecar.deaths, sidecar.reloads
            ));
        }
        Ok(())
    }

    /// A sidecar ended in order on a good stream: the aggregator has everything.
    pub(crate) fn ended(
        &mut self,
        pod: usize,
        index: usize,
        epoch: u64,
        stream: u64,
        totals: [u64; 3],
    ) -> Checked {
        let aggregator = &self.aggregators[index];
        let way = &self.ways[pod][index];
        let broken = self
            .streams
            .get(&stream)
            .is_some_and(|stream| stream.cut || stream.served);
        let quiet = way
            .blocked_until
            .max(way.slow_until)
            .max(aggregator.stalled_until)
            + 3000;
        // A report that is far ahead of the clock as it was known is refused, and after the last
        // one comes no other.
        let leapt = self.truths[pod]
            .leapt_at
            .is_some_and(|at| at + 5000 > self.now);
        if aggregator.epoch != epoch || broken || quiet > self.now || leapt {
            return Ok(());
        }
        let now = aggregator.clock(self.now);
        let known = aggregator.store.inspect(now);
        let Some(status) = known.iter().find(|status| status.key == key_of(pod)) else {
            return Ok(());
        };
        for kind in Kind::ALL {
            let (total, due) = (total(&status.series, kind), totals[kind as usize]);
            if total != due {
                return Err(format!(
                    "aggregator {index}, pod-{pod}, {kind:?}: ended in order with {due} requests, total {total}"
                ));
            }
        }
        Ok(())
    }

    /// The end of the run: faults are long over, everything is flushed.
    pub(crate) fn settle(&mut self) -> Checked {
        self.look()?;
        for index in 0..self.aggregators.len() {
            let now = self.aggregators[index].clock(self.now);
            let known = self.aggregators[index].store.inspect(now);
            for pod in 0..self.plan.pods {
                let status = known.iter().find(|status| status.key == key_of(pod));
                self.settled(index, pod, status).map_err(|broken| {
                    format!("at the end: aggregator {index}, pod-{pod}: {broken}")
                })?;
            }
            let counts = self.aggregators[index].store.counts(now);
            for (reason, count) in counts.refused {
                let seen = self.aggregators[index]
                    .refused
                    .get(&reason)
                    .copied()
                    .unwrap_or(0);
                self.tally.refused += count;
                if seen != count {
                    return Err(format!(
                        "aggregator {index}: refused {seen} for {reason:?}, counted {count}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn settled(&self, index: usize, pod: usize, status: Option<&PodStatus>) -> Checked {
        let truth = &self.truths[pod];
        let Some(sidecar) = self.sidecars.get(&pod).filter(|sidecar| sidecar.alive) else {
            return Ok(());
        };
        let Some(status) = status else {
            return if self.plan.pods_max.is_some() {
                Ok(())
            } else {
                Err("not known".to_owned())
            };
        };
        let vms: Vec<usize> = sidecar.vms.iter().map(|side| side.segment).collect();
        let segments = if sidecar.setup.hidden {
            &vms[..]
        } else {
            &[sidecar.segment]
        };
        let segments = || segments.iter().map(|segment| &truth.segments[*segment]);
        let reloaded = sidecar.setup.hidden && truth.trapped;
        for kind in Kind::ALL {
            let due: u64 = segments().map(|segment| segment.settled(kind)).sum();
            let total = total(&status.series, kind);
            if total != due && !reloaded && !segments().any(|segment| segment.broken) {
                return Err(format!("{kind:?}: {due} requests, total {total}"));
            }
        }
        let dead = sidecar
            .vms
            .iter()
            .any(|side| !side.is_alive() && side.ticked);
        let aggregator = &self.aggregators[index];
        let now = aggregator.clock(self.now);
        let query = query(Kind::Inbound, WindowChoice::Adaptive);
        let answer = aggregator.store.read(now, &[key_of(pod)], &query);
        let missing = answer.missing.first().map(|(_, missing)| *missing);
        match missing {
            Some(NoValue::VmLost) if dead => Ok(()),
            // Here attempts may come to a cluster that no inbound request went to.
            Some(NoValue::NotCounted) if sidecar.setup.by_cluster => Ok(()),
            Some(missing) if !truth.stepped_back && !truth.trapped => {
                Err(format!("connected and without a value: {missing:?}"))
            }
            None if dead => Err("has a value though a VM is dead".to_owned()),
            _ => Ok(()),
        }
    }
}

/// The stated error of the ends of an interval, in milliseconds.
fn error(truth: &Truth, received: &Received) -> i64 {
    let shift = if truth.stepped_ms > 0 {
        received.longest_ms + 2 * truth.stepped_ms
    } else {
        received.shift_ms
    };
    TICKS + signed(shift)
}

/// The least and the most requests that a value over `[from, to]` may stand for.
fn bounds(
    world: &World,
    pod: usize,
    received: &Received,
    kind: Kind,
    from: i64,
    to: i64,
) -> (u64, u64) {
    let truth = &world.truths[pod];
    let error = error(truth, received);
    let (mut lowest, mut highest, mut least) = (from - JOINED, to, 0);
    for (instance, ends) in &received.ends {
        let Some((_, segment)) = world.segments.get(instance) else {
            continue;
        };
        let segment = &truth.segments[*segment];
        let start = signed(segment.start);
        let below = |at: i64| {
            let index = ends.partition_point(|end| signed(*end) <= at);
            index
                .checked_sub(1)
                .map_or(start, |index| signed(ends[index]))
        };
        let above = |at: i64| {
            let index = ends.partition_point(|end| signed(*end) < at);
            ends.get(index).map_or(at, |end| signed(*end))
        };
        lowest = lowest.min(below(from - error));
        // Only where VMs stream for themselves the end is inside another one's interval.
        let (until, next) = if world.setups[pod].hidden {
            (
                below(to - error).min(to - JOINED),
                above(to + error).max(to + JOINED),
            )
        } else {
            (below(to + error).min(to), to)
        };
        highest = highest.max(next);
        let first = if from + error <= start {
            start
        } else {
            above(from + error).max(from + JOINED)
        };
        least += between(&segment.sure[kind as usize], first + error, until - error);
    }
    (
        least,
        between(&truth.all[kind as usize], lowest - error, highest + error),
    )
}

fn never_fell(before: &[SeriesStatus], now: &[SeriesStatus]) -> Checked {
    for was in before {
        let is = now.iter().find(|is| is.key == was.key);
        let pairs = [
            (was.requests, is.and_then(|is| is.requests)),
            (
                was.upstream_attempts,
                is.and_then(|is| is.upstream_attempts),
            ),
            (was.inflight_ns, is.and_then(|is| is.inflight_ns)),
        ];
        if let Some((was, is)) = pairs.iter().find(|(was, is)| is < was) {
            return Err(format!("a total fell from {was:?} to {is:?}"));
        }
        for (class, total) in &was.responses {
            let now = is.and_then(|is| is.responses.iter().find(|(other, _)| other == class));
            if now.is_none_or(|(_, now)| now < total) {
                return Err(format!("responses {class:?} fell from {total} to {now:?}"));
            }
        }
    }
    Ok(())
}

fn total(series: &[SeriesStatus], kind: Kind) -> u64 {
    let of = |series: &SeriesStatus| match (kind, series.key.direction) {
        (Kind::Inbound, Direction::Inbound) | (Kind::Outbound, Direction::Outbound) => {
            series.requests
        }
        (Kind::Attempt, Direction::Inbound) => series.upstream_attempts,
        _ => None,
    };
    series.iter().filter_map(of).sum()
}

fn query(kind: Kind, window: WindowChoice) -> MetricQuery {
    MetricQuery {
        metric: match kind {
            Kind::Attempt => Metric::UpstreamRequestsPerSecond,
            Kind::Inbound | Kind::Outbound => Metric::RequestsPerSecond,
        },
        direction: (kind == Kind::Outbound).then_some(Direction::Outbound),
        cluster: None,
        code_class: None,
        window,
    }
}

fn key_of(pod: usize) -> PodKey {
    PodKey::new("sim", &format!("pod-{pod}"))
}

fn pod_of(key: &PodKey) -> Result<usize, String> {
    let number = key
        .name
        .strip_prefix("pod-")
        .and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("{key}: nobody's pod"))
}

fn milli(reading: &Reading) -> f64 {
    float(reading.value.0) / 1000.0
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
fn float(count: u64) -> f64 {
    count as f64
}
