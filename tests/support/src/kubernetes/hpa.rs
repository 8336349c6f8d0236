//! The maths of the HPA controller, as recorded from Kubernetes 1.36.
//!
//! Pure: values and replicas in, wanted replicas and conditions out. Errors freeze; a missing pod
//! counts as 0 on the way up and as the target on the way down; a step of less than the tolerance
//! is none; of several metrics the one that wants most decides, and while one fails the others can
//! only scale up.

use std::collections::BTreeMap;
use std::fmt::Write as _;

#[cfg(test)]
mod tests;

/// Default tolerance: a tenth of the target, in thousandths.
pub const TOLERANCE_MILLI: i128 = 100;

/// A `HorizontalPodAutoscaler`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Autoscaler {
    /// `minReplicas`
    pub min: u32,
    /// `maxReplicas`
    pub max: u32,
    pub metrics: Vec<Metric>,
    /// Highest relative difference from the target that is none, in thousandths.
    pub tolerance_milli: i128,
    /// Pods per step: a multiple of the current ones on the way up (2 for a policy of 100 %);
    /// `None`: no limit.
    pub factor_up: Option<u32>,
}

/// One metric and its target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Metric {
    pub source: Source,
    pub name: String,
    pub target: Target,
}

/// Source of a metric.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    Pods,
    Object {
        kind: &'static str,
        /// Its namespace and name, as messages have them.
        at: &'static str,
    },
    External {
        /// The selector as Go prints it.
        selector: &'static str,
    },
    /// The CPU time of each pod.
    Cpu {
        /// CPU request of each pod, in thousandths of a core.
        request_milli: i128,
        container: bool,
    },
}

/// Target of a metric, in thousandths.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// Average per pod.
    Average(i128),
    Value(i128),
    /// Percent of the requests.
    Utilization(i128),
}

/// What a metrics API answered, in thousandths: by pod, or in all. An error is the message that the
/// controller has.
pub type Answer = Result<Values, String>;

/// Values of a metric, in thousandths.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Values {
    PerPod(BTreeMap<String, i128>),
    Total(i128),
}

/// The decision of an autoscaler in one sync.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// Desired replicas; `None` if unknown, so that they stay.
    pub replicas: Option<u32>,
    /// Condition `ScalingActive`: reason and message. It is true if `replicas` is known.
    pub active: (&'static str, String),
    /// Condition `ScalingLimited`, if it is true: reason and message.
    pub limited: Option<(&'static str, &'static str)>,
    /// `currentMetrics`, as the recordings print them.
    pub current: String,
}

struct Proposal {
    replicas: i128,
    current: String,
    described: String,
}

// === impl Autoscaler ===

impl Autoscaler {
    /// A new one with the controller's default tolerance and a policy of 100 % per step, as in the
    /// recordings.
    pub fn new(min: u32, max: u32, metrics: Vec<Metric>) -> Self {
        Self {
            min,
            max,
            metrics,
            tolerance_milli: TOLERANCE_MILLI,
            factor_up: Some(2),
        }
    }

    /// One sync: `pods` are the running pods of the target, `answers` what the metrics APIs said of
    /// each metric.
    pub fn decide(&self, pods: &[String], answers: &[Answer]) -> Decision {
        let here = i128::try_from(pods.len()).unwrap_or(i128::MAX);
        let asked = self.metrics.iter().zip(answers);
        let proposals: Vec<_> = asked
            .map(|(metric, answer)| self.propose(metric, pods, answer))
            .collect();
        let current = proposals
            .iter()
            .map(|proposal| proposal.as_ref().map_or("(none)", |ok| &ok.current));
        let current = current.collect::<Vec<_>>().join(", ");
        let known = proposals
            .iter()
            .filter_map(|proposal| proposal.as_ref().ok());
        // The first of those that want most.
        let best = known.reduce(|best, next| {
            if next.replicas > best.replicas {
                next
            } else {
                best
            }
        });
        let failure = proposals
            .iter()
            .find_map(|proposal| proposal.as_ref().err());
        match (best, failure) {
            (Some(best), failure) if failure.is_none() || best.replicas >= here => {
                let (replicas, limited) = self.limit(pods.len(), best.replicas);
                let message = format!(
                    "the HPA was able to successfully calculate a replica count from {}",
                    best.described
                );
                Decision {
                    replicas: Some(replicas),
                    active: ("ValidMetricFound", message),
                    limited,
                    current,
                }
            }
            (_, failure) => {
                let (reason, why) = failure.cloned().unwrap_or_default();
                let message = format!("the HPA was unable to compute the replica count: {why}");
                Decision {
                    replicas: None,
                    active: (reason, message),
                    limited: None,
                    current,
                }
            }
        }
    }

    fn propose(
        &self,
        metric: &Metric,
        pods: &[String],
        answer: &Answer,
    ) -> Result<Proposal, (&'static str, String)> {
        let here = i128::try_from(pods.len()).unwrap_or(i128::MAX);
        let values = answer.as_ref().map_err(|error| metric.failure(error))?;
        let described = metric.described();
        match values {
            Values::PerPod(values) if values.is_empty() => {
                Err(metric.failed("no metrics returned from custom metrics API"))
            }
            Values::PerPod(values) => {
                let (target, scale) = metric.per_pod();
                let count = i128::try_from(values.len()).unwrap_or(i128::MAX);
                let sum: i128 = values.values().sum();
                let missing = pods.iter().filter(|pod| !values.contains_key(*pod)).count();
                let missing = i128::try_from(missing).unwrap_or(0);
                let replicas = self.for_pods(target * scale, here, (sum, count, missing));
                Ok(Proposal {
                    replicas,
                    current: metric.current(sum / count, here),
                    described,
                })
            }
            Values::Total(total) => {
                let replicas = match metric.target {
                    Target::Value(target) if self.tolerates(*total, target) => here,
                    Target::Value(target) => div_ceil(total * here, target),
                    Target::Average(target) | Target::Utilization(target) => {
                        if self.tolerates(*total, target * here) {
                            here
                        } else {
                            div_ceil(*total, target)
                        }
                    }
                };
                Ok(Proposal {
                    replicas,
                    current: metric.current(*total, here),
                    described,
                })
            }
        }
    }

    /// `calcPlainMetricReplicas` of the controller.
    fn for_pods(
        &self,
        target: i128,
        here: i128,
        (sum, count, missing): (i128, i128, i128),
    ) -> i128 {
        let average = sum / count;
        if missing == 0 {
            if self.tolerates(average, target) {
                return here;
            }
            return div_ceil(average * here, target);
        }
        let up = average > target;
        let filled = if up { 0 } else { target };
        let all = count + missing;
        let rebalanced = (sum + missing * filled) / all;
        let flipped = (rebalanced > target) != up;
        if self.tolerates(rebalanced, target) || flipped {
            return here;
        }
        let wanted = div_ceil(rebalanced * all, target);
        if (up && wanted < here) || (!up && wanted > here) {
            return here;
        }
        wanted
    }

    fn tolerates(&self, value: i128, target: i128) -> bool {
        (value - target).abs() * 1000 <= self.tolerance_milli * target
    }

    /// Bounds and the policy. What the policy holds back is a limit too, but only the bounds are
    /// named in the end.
    fn limit(&self, here: usize, wanted: i128) -> (u32, Option<(&'static str, &'static str)>) {
        let limited = if wanted > i128::from(self.max) {
            Some((
                "TooManyReplicas",
                "the desired replica count is more than the maximum replica count",
            ))
        } else if wanted < i128::from(self.min) {
            Some((
                "TooFewReplicas",
                "the desired replica count is less than the minimum replica count",
            ))
        } else {
            None
        };
        let bounded = wanted.clamp(i128::from(self.min), i128::from(self.max));
        let bounded = u32::try_from(bounded).unwrap_or(self.max);
        let current = u32::try_from(here).unwrap_or(u32::MAX);
        let ceiling = self
            .factor_up
            .map_or(u32::MAX, |factor| current.saturating_mul(factor));
        (bounded.min(ceiling.max(self.min)), limited)
    }
}

// === impl Metric ===

impl Metric {
    /// A metric of each pod, `target` in thousandths.
    pub fn pods(name: &str, target: i128) -> Self {
        Self {
            source: Source::Pods,
            name: name.to_owned(),
            target: Target::Average(target),
        }
    }

    /// The target per pod in thousandths, as a value and what to multiply it by.
    fn per_pod(&self) -> (i128, i128) {
        match (&self.source, self.target) {
            (Source::Cpu { request_milli, .. }, Target::Utilization(percent)) => {
                (request_milli * percent / 100, 1)
            }
            (_, Target::Average(target) | Target::Value(target) | Target::Utilization(target)) => {
                (target, 1)
            }
        }
    }

    /// How the controller names it once it has a value.
    fn described(&self) -> String {
        let name = &self.name;
        match (&self.source, self.target) {
            (Source::Pods, _) => format!("pods metric {name}"),
            // The controller's own wording.
            (Source::Object { .. }, Target::Average(_)) => format!("external metric {name}(nil)"),
            (Source::Object { kind, .. }, _) => format!("{kind} metric {name}"),
            (Source::External { selector }, _) => format!("external metric {name}({selector})"),
            (Source::Cpu { container, .. }, _) => {
                let of = if *container { " container" } else { "" };
                format!("{name}{of} resource utilization (percentage of request)")
            }
        }
    }

    /// What `currentMetrics` say of `milli`: the average of the pods, or the total of an object for
    /// `here` pods.
    fn current(&self, milli: i128, here: i128) -> String {
        let kind = match &self.source {
            Source::Pods => "Pods",
            Source::Object { .. } => "Object",
            Source::External { .. } => "External",
            Source::Cpu {
                container: false, ..
            } => "Resource",
            Source::Cpu {
                container: true, ..
            } => "ContainerResource",
        };
        let mut text = format!("{kind} {{");
        // Writing to a string cannot fail.
        let _ = match (&self.source, self.target) {
            (Source::Cpu { request_milli, .. }, _) => write!(
                text,
                "\"averageUtilization\": {}, \"averageValue\": \"{}\"",
                milli * 100 / request_milli,
                quantity(milli)
            ),
            (Source::Pods, _) => write!(text, "\"averageValue\": \"{}\"", quantity(milli)),
            (_, Target::Average(_)) => {
                write!(
                    text,
                    "\"averageValue\": \"{}\"",
                    quantity(div_ceil(milli, here))
                )
            }
            _ => write!(text, "\"value\": \"{}\"", quantity(milli)),
        };
        text.push('}');
        text
    }

    fn failure(&self, error: &str) -> (&'static str, String) {
        let fetch = format!("unable to fetch metrics from custom metrics API: {error}");
        match &self.source {
            Source::Pods => self.failed(&fetch),
            Source::Object { kind, at } => self.failed(&format!("{kind} on {at}/{fetch}")),
            Source::External { .. } => ("FailedGetExternalMetric", error.to_owned()),
            Source::Cpu { .. } => ("FailedGetResourceMetric", error.to_owned()),
        }
    }

    fn failed(&self, why: &str) -> (&'static str, String) {
        let reason = match self.source {
            Source::Object { .. } => "FailedGetObjectMetric",
            _ => "FailedGetPodsMetric",
        };
        (reason, format!("unable to get metric {}: {why}", self.name))
    }
}

fn div_ceil(value: i128, by: i128) -> i128 {
    value / by + i128::from(value % by > 0)
}

fn quantity(milli: i128) -> String {
    if milli % 1000 == 0 {
        (milli / 1000).to_string()
    } else {
        format!("{milli}m")
    }
}
