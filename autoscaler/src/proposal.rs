//! What one metric wants: an answer of a metrics API, by the arithmetic of its type.

use std::collections::{BTreeMap, BTreeSet};

use crate::arithmetic::{Calculation, Usage};
use crate::group::Groups;
use crate::hpa::Hpa;
use crate::metric::{Metric, Source, Target};
use crate::observed::{Answer, Observed, Values};
use crate::phase::Phase;
use crate::ratio::{ratio, round_up};
use crate::step::Step;
use crate::tally::{Group, Tally};

/// The replicas that one metric wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    pub replicas: u32,
    pub current: Current,
    pub steps: Vec<Step>,
}

/// What `status.currentMetrics` says of it: values in thousandths, a share in percent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Current {
    pub average_milli: Option<i128>,
    pub value_milli: Option<i128>,
    pub utilization: Option<i128>,
}

/// Why a metric wants nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Such as `FailedGetPodsMetric`.
    pub reason: &'static str,
    /// As the controller has it.
    pub message: String,
    /// True for a resource of metrics-server without an answer: it is not for us to know.
    pub not_ours: bool,
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_READY: &str = "did not receive metrics for targeted pods (pods might be unready)";
const NO_ANSWER: &str = "no answer is known";

// === impl Hpa ===

impl Hpa {
    /// Replicas that `metric` wants for the values of pods in `tally` alone, within minimum and
    /// maximum. Allocates nothing. `None`: it has no average as its target, or there is no value.
    pub fn replicas_for_pods(&self, metric: &Metric, replicas: u32, tally: &Tally) -> Option<u32> {
        let Target::Average(target) = metric.target else {
            return None;
        };
        if tally.values == 0 || replicas == 0 || metric.needs_no_pods() {
            return None;
        }
        let wanted = self.calculate(replicas, &mut |_| {}).average(tally, target);
        Some(self.bounded(wanted))
    }

    /// The same for a value in all of a metric of an object or an external one, while `replicas`
    /// pods are ready.
    pub fn replicas_for_total(&self, metric: &Metric, replicas: u32, total: i128) -> Option<u32> {
        if !metric.needs_no_pods() {
            return None;
        }
        let (mut ignore, here) = (|_| {}, i64::from(replicas));
        let mut calculation = self.calculate(replicas, &mut ignore);
        let wanted = match metric.target {
            Target::Average(target) => calculation.total_per_pod(total, target, here),
            Target::Value(target) => calculation.total(total, target, here),
            Target::Utilization(_) => return None,
        };
        Some(self.bounded(wanted))
    }

    fn calculate<'a>(&self, replicas: u32, say: &'a mut dyn FnMut(Step)) -> Calculation<'a> {
        Calculation {
            tolerances: self.tolerances(),
            replicas: i64::from(replicas),
            say,
        }
    }

    fn bounded(&self, wanted: i64) -> u32 {
        to_count(wanted).max(self.min).min(self.max)
    }

    /// What `metric` wants in this sync.
    pub(crate) fn propose(
        &self,
        metric: &Metric,
        observed: &Observed<'_>,
        answer: Option<&Answer>,
    ) -> Result<Proposal, Failure> {
        let values = match answer {
            Some(Ok(values)) => values,
            Some(Err(error)) => return Err(self.unfetched(metric, error)),
            None => return Err(self.unfetched(metric, NO_ANSWER)),
        };
        let mut steps = Vec::new();
        let mut say = |step| steps.push(step);
        let mut calculation = self.calculate(observed.replicas, &mut say);
        let (replicas, current) = match values {
            Values::Total(total) => self.of_total(metric, observed, *total, &mut calculation)?,
            Values::Counted(tally) => of_counted(metric, tally, &mut calculation)?,
            Values::PerPod(values) => {
                self.of_pods(metric, observed, (values, None), &mut calculation)?
            }
            Values::Usage { values, requests } => {
                self.of_pods(metric, observed, (values, Some(requests)), &mut calculation)?
            }
        };
        Ok(Proposal {
            replicas: to_count(replicas),
            current,
            steps,
        })
    }

    fn of_pods(
        &self,
        metric: &Metric,
        observed: &Observed<'_>,
        (values, requests): (&BTreeMap<String, i128>, Option<&BTreeMap<String, i128>>),
        calculation: &mut Calculation<'_>,
    ) -> Result<(i64, Current), Failure> {
        let fails = |why: &str| metric.fails(why.to_owned());
        if values.is_empty() {
            return Err(match metric.source {
                Source::Pods { .. } => metric.fails(format!(
                    "unable to get metric {}: no metrics returned from custom metrics API",
                    metric.name
                )),
                _ => fails("no metrics returned from resource metrics API"),
            });
        }
        if observed.pods.is_empty() {
            return Err(fails(NO_PODS));
        }
        let named: BTreeSet<&str> = values.keys().map(String::as_str).collect();
        let is_cpu = !matches!(metric.source, Source::Pods { .. }) && metric.name == "cpu";
        let groups = Groups::new(observed, &named, is_cpu.then_some(&self.settings));
        let tally = groups.tally(values);
        if tally.values == 0 {
            return Err(fails(NO_READY));
        }
        let average = tally.sum / i128::from(tally.values);
        match (metric.target, requests) {
            (Target::Average(target) | Target::Value(target), _) => {
                let current = Current {
                    average_milli: Some(average),
                    ..Current::default()
                };
                Ok((calculation.average(&tally, target), current))
            }
            (Target::Utilization(target), Some(requests)) => {
                let usage = usage(metric, &groups, values, requests)?;
                let current = Current {
                    average_milli: Some(average),
                    utilization: Some(usage.used * 100 / usage.requested),
                    value_milli: None,
                };
                Ok((calculation.utilization(&tally, &usage, target), current))
            }
            (Target::Utilization(_), None) => Err(metric.fails(format!(
                "missing request for {}: what the pods request is not known",
                metric.name
            ))),
        }
    }

    fn of_total(
        &self,
        metric: &Metric,
        observed: &Observed<'_>,
        total: i128,
        calculation: &mut Calculation<'_>,
    ) -> Result<(i64, Current), Failure> {
        match metric.target {
            Target::Value(target) => {
                let is_ready = |pod: &&crate::Pod| pod.phase == Phase::Running && pod.ready;
                let ready = observed.pods.iter().filter(is_ready).count();
                let within = calculation.tolerances.hold(ratio(total, target));
                if observed.pods.is_empty() && observed.replicas != 0 && !within {
                    let why = format!("unable to calculate ready pods: {NO_PODS}");
                    return Err(metric.fails(why));
                }
                let current = Current {
                    value_milli: Some(total),
                    ..Current::default()
                };
                let ready = i64::try_from(ready).unwrap_or(i64::MAX);
                Ok((calculation.total(total, target, ready), current))
            }
            Target::Average(target) => {
                let replicas = i64::from(observed.status_replicas());
                let each = ratio(total, i128::from(replicas));
                let current = Current {
                    // Without replicas the controller writes a number that means nothing.
                    average_milli: (replicas > 0).then(|| i128::from(round_up_milli(each))),
                    ..Current::default()
                };
                Ok((calculation.total_per_pod(total, target, replicas), current))
            }
            Target::Utilization(_) => Err(self.no_target(metric)),
        }
    }

    fn no_target(&self, metric: &Metric) -> Failure {
        metric.fails(format!(
            "{}: neither a value target nor an average value target was set",
            self.name
        ))
    }

    fn unfetched(&self, metric: &Metric, error: &str) -> Failure {
        let (name, namespace) = (&metric.name, &self.namespace);
        let fetch = format!("unable to fetch metrics from custom metrics API: {error}");
        let message = match &metric.source {
            Source::Pods { .. } => format!("unable to get metric {name}: {fetch}"),
            Source::Object { kind, name: of, .. } => {
                format!("unable to get metric {name}: {kind} on {namespace} {of}/{fetch}")
            }
            Source::External { .. } => error.to_owned(),
            Source::Resource | Source::ContainerResource { .. } => {
                format!("failed to get {name}: not ours, metrics-server answers it: {error}")
            }
        };
        let not_ours = matches!(
            metric.source,
            Source::Resource | Source::ContainerResource { .. }
        );
        Failure {
            not_ours,
            ..metric.fails(message)
        }
    }
}

// === impl Metric ===

impl Metric {
    fn fails(&self, message: String) -> Failure {
        let reason = match self.source {
            Source::Pods { .. } => "FailedGetPodsMetric",
            Source::Object { .. } => "FailedGetObjectMetric",
            Source::External { .. } => "FailedGetExternalMetric",
            Source::Resource => "FailedGetResourceMetric",
            Source::ContainerResource { .. } => "FailedGetContainerResourceMetric",
        };
        Failure {
            reason,
            message,
            not_ours: false,
        }
    }
}

// === impl Observed ===

impl Observed<'_> {
    fn status_replicas(&self) -> u32 {
        self.status_replicas.unwrap_or_else(|| {
            let lives = |pod: &&crate::Pod| {
                !pod.deleting && !matches!(pod.phase, Phase::Failed | Phase::Succeeded)
            };
            u32::try_from(self.pods.iter().filter(lives).count()).unwrap_or(u32::MAX)
        })
    }
}

fn of_counted(
    metric: &Metric,
    tally: &Tally,
    calculation: &mut Calculation<'_>,
) -> Result<(i64, Current), Failure> {
    if tally.values == 0 {
        return Err(metric.fails(NO_READY.to_owned()));
    }
    let Target::Average(target) = metric.target else {
        return Err(metric.fails(format!("{} has no average as its target", metric.name)));
    };
    let current = Current {
        average_milli: Some(tally.sum / i128::from(tally.values)),
        ..Current::default()
    };
    Ok((calculation.average(tally, target), current))
}

fn usage(
    metric: &Metric,
    groups: &Groups<'_>,
    values: &BTreeMap<String, i128>,
    requests: &BTreeMap<String, i128>,
) -> Result<Usage, Failure> {
    let request = |pod: &str| {
        let missing = || metric.fails(format!("missing request for {} in Pod {pod}", metric.name));
        requests.get(pod).copied().ok_or_else(missing)
    };
    let mut usage = Usage::default();
    for (pod, value) in values {
        // Values of pods that nobody knows have no request, and do not count here.
        if groups.counts(pod) && requests.contains_key(pod) {
            usage.used += value;
            usage.requested += request(pod)?;
        }
    }
    for pod in groups.names(Group::Missing) {
        usage.missing.push(request(pod)?);
    }
    for pod in groups.names(Group::Unready) {
        usage.unready += request(pod)?;
    }
    if usage.requested == 0 {
        return Err(metric.fails("no metrics returned matched known pods".to_owned()));
    }
    Ok(usage)
}

fn to_count(replicas: i64) -> u32 {
    u32::try_from(replicas.max(0)).unwrap_or(u32::MAX)
}

fn round_up_milli(value: f64) -> i64 {
    round_up(value)
}
