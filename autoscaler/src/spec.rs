//! An HPA from the object that the Kubernetes API serves.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::behavior::{Behavior, Policy, PolicyKind, Rules, SelectPolicy};
use crate::hpa::{Hpa, Settings, TargetRef};
use crate::metric::{Metric, Source, Target};
use crate::quantity::Quantity;
use crate::selector::Selector;

/// Why an object is no HPA whose arithmetic can be done.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("the object is no HorizontalPodAutoscaler of autoscaling/v2: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("spec.metrics[{index}]: {problem}")]
    Metric { index: usize, problem: String },
    #[error("spec.{field}: {value:?} is no quantity")]
    Quantity { field: String, value: String },
    #[error("spec.maxReplicas is {max}, less than minReplicas, {min}")]
    Bounds { min: u32, max: u32 },
}

/// What kube-apiserver makes of an HPA without metrics: CPU, percent of the requests.
const DEFAULT_CPU_PERCENT: u32 = 80;

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    scale_target_ref: ObjectRef,
    min_replicas: Option<u32>,
    max_replicas: u32,
    metrics: Option<Vec<MetricSpec>>,
    behavior: Option<BehaviorSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    #[serde(default)]
    api_version: String,
    kind: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricSpec {
    r#type: String,
    pods: Option<OfMetric>,
    object: Option<OfObject>,
    external: Option<OfMetric>,
    resource: Option<OfResource>,
    container_resource: Option<OfResource>,
}

#[derive(Deserialize)]
struct OfMetric {
    metric: Identifier,
    target: TargetSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfObject {
    described_object: ObjectRef,
    metric: Identifier,
    target: TargetSpec,
}

#[derive(Deserialize)]
struct OfResource {
    name: String,
    #[serde(default)]
    container: String,
    target: TargetSpec,
}

#[derive(Deserialize)]
struct Identifier {
    name: String,
    selector: Option<Selector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetSpec {
    value: Option<QuantityText>,
    average_value: Option<QuantityText>,
    average_utilization: Option<u32>,
}

/// A quantity may be written as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum QuantityText {
    Text(String),
    Number(serde_json::Number),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BehaviorSpec {
    scale_up: Option<RulesSpec>,
    scale_down: Option<RulesSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RulesSpec {
    stabilization_window_seconds: Option<u32>,
    select_policy: Option<SelectPolicySpec>,
    policies: Option<Vec<PolicySpec>>,
    tolerance: Option<QuantityText>,
}

#[derive(Clone, Copy, Deserialize)]
enum SelectPolicySpec {
    Max,
    Min,
    Disabled,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicySpec {
    r#type: PolicyKindSpec,
    value: u32,
    period_seconds: u32,
}

#[derive(Clone, Copy, Deserialize)]
enum PolicyKindSpec {
    Pods,
    Percent,
}

#[derive(Default, Deserialize)]
struct Status {
    conditions: Option<Vec<ConditionSpec>>,
}

#[derive(Deserialize)]
struct ConditionSpec {
    r#type: String,
    status: String,
}

// === impl Hpa ===

impl Hpa {
    /// Reads an object of `autoscaling/v2` as the API serves it. What it leaves out gets the
    /// defaults of kube-apiserver; unknown fields are skipped.
    pub fn from_json(object: &Value) -> Result<Self, SpecError> {
        let Object {
            metadata,
            spec,
            status,
        } = Object::deserialize(object)?;
        let metrics = spec.metrics.unwrap_or_default().into_iter().enumerate();
        let metrics = metrics.map(|(index, metric)| metric.check(index));
        let mut metrics = metrics.collect::<Result<Vec<_>, _>>()?;
        if metrics.is_empty() {
            metrics.push(Metric {
                source: Source::Resource,
                name: "cpu".to_owned(),
                target: Target::Utilization(DEFAULT_CPU_PERCENT),
            });
        }
        let (min, max) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
        if max < min {
            return Err(SpecError::Bounds { min, max });
        }
        let ObjectRef {
            api_version,
            kind,
            name,
        } = spec.scale_target_ref;
        let zero = |condition: &ConditionSpec| {
            condition.r#type == "ScaledToZero" && condition.status == "True"
        };
        Ok(Self {
            namespace: metadata.namespace,
            name: metadata.name,
            target: TargetRef {
                api_version,
                kind,
                name,
            },
            min,
            max,
            metrics,
            behavior: spec.behavior.map(BehaviorSpec::check).transpose()?,
            scaled_to_zero: status.conditions.iter().flatten().any(zero),
            settings: Settings::default(),
        })
    }
}

// === impl MetricSpec ===

impl MetricSpec {
    fn check(self, index: usize) -> Result<Metric, SpecError> {
        let Self {
            r#type,
            pods,
            object,
            external,
            resource,
            container_resource,
        } = self;
        let kind = r#type;
        let found = match kind.as_str() {
            "Pods" => pods.map(|own| own.check(|selector| Source::Pods { selector })),
            "External" => external.map(|own| own.check(|selector| Source::External { selector })),
            "Object" => object.map(OfObject::check),
            "Resource" => resource.map(|own| own.check(|_| Source::Resource)),
            "ContainerResource" => container_resource
                .map(|own| own.check(|container| Source::ContainerResource { container })),
            other => {
                let problem = format!("type {other:?} is unknown");
                return Err(SpecError::Metric { index, problem });
            }
        };
        let (source, name, target) = found.ok_or_else(|| SpecError::Metric {
            index,
            problem: format!("type {kind:?} without the field of this type"),
        })?;
        let target = target.check(index)?;
        Ok(Metric {
            source,
            name,
            target,
        })
    }
}

// === impl OfMetric ===

impl OfMetric {
    fn check(self, source: impl Fn(Option<Selector>) -> Source) -> (Source, String, TargetSpec) {
        let Identifier { name, selector } = self.metric;
        (source(selector), name, self.target)
    }
}

// === impl OfObject ===

impl OfObject {
    fn check(self) -> (Source, String, TargetSpec) {
        let Identifier { name, selector } = self.metric;
        let source = Source::Object {
            kind: self.described_object.kind,
            name: self.described_object.name,
            selector,
        };
        (source, name, self.target)
    }
}

// === impl OfResource ===

impl OfResource {
    fn check(self, source: impl Fn(String) -> Source) -> (Source, String, TargetSpec) {
        (source(self.container), self.name, self.target)
    }
}

// === impl TargetSpec ===

impl TargetSpec {
    /// As the controller looks at them: a set average comes before a value.
    fn check(self, index: usize) -> Result<Target, SpecError> {
        let milli = |field: &str, text: QuantityText| {
            text.check(&format!("metrics[{index}].{field}"))
                .map(Quantity::milli)
        };
        let wrong = |problem: &str| SpecError::Metric {
            index,
            problem: problem.to_owned(),
        };
        let target = match self {
            Self {
                average_value: Some(average),
                ..
            } => Target::Average(milli("averageValue", average)?),
            Self {
                value: Some(value), ..
            } => Target::Value(milli("value", value)?),
            Self {
                average_utilization: Some(percent),
                ..
            } => Target::Utilization(percent),
            _ => return Err(wrong("the target has neither value nor average")),
        };
        match target {
            Target::Average(..=0) | Target::Value(..=0) | Target::Utilization(0) => {
                Err(wrong("the target is not above 0"))
            }
            _ => Ok(target),
        }
    }
}

// === impl QuantityText ===

impl QuantityText {
    fn check(self, field: &str) -> Result<Quantity, SpecError> {
        let text = match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        };
        Quantity::parse(&text).ok_or_else(|| SpecError::Quantity {
            field: field.to_owned(),
            value: text,
        })
    }
}

// === impl BehaviorSpec ===

impl BehaviorSpec {
    fn check(self) -> Result<Behavior, SpecError> {
        let rules = |own: Option<RulesSpec>, default: Rules, field| match own {
            Some(own) => own.check(default, field),
            None => Ok(default),
        };
        Ok(Behavior {
            up: rules(self.scale_up, Rules::up(), "scaleUp")?,
            down: rules(self.scale_down, Rules::down(), "scaleDown")?,
        })
    }
}

// === impl RulesSpec ===

impl RulesSpec {
    fn check(self, default: Rules, field: &str) -> Result<Rules, SpecError> {
        let window = self.stabilization_window_seconds;
        let window = window.map(|seconds| Duration::from_secs(seconds.into()));
        let select = self.select_policy.map(|policy| match policy {
            SelectPolicySpec::Max => SelectPolicy::Max,
            SelectPolicySpec::Min => SelectPolicy::Min,
            SelectPolicySpec::Disabled => SelectPolicy::Disabled,
        });
        let policies = self
            .policies
            .map(|policies| policies.into_iter().map(PolicySpec::check).collect());
        let tolerance = self.tolerance.map(|text| {
            text.check(&format!("behavior.{field}.tolerance"))
                .map(Quantity::to_f64)
        });
        Ok(Rules {
            stabilization: window.or(default.stabilization),
            select: select.unwrap_or(default.select),
            policies: policies.unwrap_or(default.policies),
            tolerance: tolerance.transpose()?,
        })
    }
}

// === impl PolicySpec ===

impl PolicySpec {
    fn check(self) -> Policy {
        Policy {
            kind: match self.r#type {
                PolicyKindSpec::Pods => PolicyKind::Pods,
                PolicyKindSpec::Percent => PolicyKind::Percent,
            },
            value: self.value,
            period: Duration::from_secs(self.period_seconds.into()),
        }
    }
}
