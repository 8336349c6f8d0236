//! The metrics of an HPA and their targets.

use std::fmt;

use crate::quantity::Quantity;
use crate::selector::Selector;

/// One metric and its target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Metric {
    pub source: Source,
    /// Of the metric, or of the resource such as `cpu`.
    pub name: String,
    pub target: Target,
}

/// Where a metric comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A value of each pod.
    Pods { selector: Option<Selector> },
    /// A value of one object.
    Object {
        /// Such as `Service`.
        kind: String,
        name: String,
        selector: Option<Selector>,
    },
    /// A value from outside the cluster.
    External { selector: Option<Selector> },
    /// CPU or memory of each pod, which metrics-server answers.
    Resource,
    /// The same of one container of each pod.
    ContainerResource { container: String },
}

/// Target of a metric.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// Average per pod, in thousandths.
    Average(i128),
    /// In all, in thousandths.
    Value(i128),
    /// Percent of what the pods request.
    Utilization(u32),
}

// === impl Metric ===

impl Metric {
    /// A metric of each pod without a selector, its average per pod in thousandths.
    pub fn pods(name: &str, average: i128) -> Self {
        Self {
            source: Source::Pods { selector: None },
            name: name.to_owned(),
            target: Target::Average(average),
        }
    }

    /// The metric selector as the controller sends it; empty without one.
    pub fn selector(&self) -> String {
        match &self.source {
            Source::Pods { selector }
            | Source::Object { selector, .. }
            | Source::External { selector } => {
                selector.as_ref().map(Selector::query).unwrap_or_default()
            }
            Source::Resource | Source::ContainerResource { .. } => String::new(),
        }
    }

    /// How the controller names it in conditions and Events.
    pub fn described(&self) -> String {
        let name = &self.name;
        let printed = |selector: &Option<Selector>| {
            let printed = selector.as_ref().map(Selector::as_go);
            printed.unwrap_or_else(|| "nil".to_owned())
        };
        match (&self.source, self.target) {
            (Source::Pods { .. }, _) => format!("pods metric {name}"),
            // The controller's own wording.
            (Source::Object { selector, .. }, Target::Average(_))
            | (Source::External { selector }, _) => {
                format!("external metric {name}({})", printed(selector))
            }
            (Source::Object { kind, .. }, _) => format!("{kind} metric {name}"),
            (Source::Resource | Source::ContainerResource { .. }, Target::Average(_)) => {
                format!("{name} resource")
            }
            (Source::Resource, _) => {
                format!("{name} resource utilization (percentage of request)")
            }
            (Source::ContainerResource { .. }, _) => {
                format!("{name} container resource utilization (percentage of request)")
            }
        }
    }

    /// True for metrics of objects and external ones, which can be read while no pod runs.
    pub(crate) fn needs_no_pods(&self) -> bool {
        matches!(self.source, Source::Object { .. } | Source::External { .. })
    }
}

/// For people, such as `the metric x of the object Service/llm`.
impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.source {
            Source::Pods { .. } => write!(f, "pods metric {name}"),
            Source::Object { kind, name: of, .. } => write!(f, "metric {name} of {kind}/{of}"),
            Source::External { .. } => write!(f, "external metric {name}"),
            Source::Resource => write!(f, "{name} of the pods"),
            Source::ContainerResource { container } => {
                write!(f, "{name} of the container {container}")
            }
        }
    }
}

/// For people, such as `an average of 20 per pod`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Average(milli) => {
                write!(f, "an average of {} per pod", Quantity::of_milli(*milli))
            }
            Self::Value(milli) => write!(f, "{} in all", Quantity::of_milli(*milli)),
            Self::Utilization(percent) => write!(f, "{percent} % of what the pods request"),
        }
    }
}
