//! `spec.behavior`: how fast an HPA may scale.

use std::fmt;
use std::time::Duration;

/// The behaviour of an HPA that has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    pub up: Rules,
    pub down: Rules,
}

/// `scaleUp` or `scaleDown`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Time over which the lowest (up) or highest (down) recommendation counts; `None`: as the
    /// controller's flag says.
    pub stabilization: Option<Duration>,
    pub select: SelectPolicy,
    pub policies: Vec<Policy>,
    /// Relative difference from the target that is none; `None`: as the controller's flag says.
    pub tolerance: Option<f64>,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SelectPolicy {
    /// The one that allows most.
    Max,
    /// The one that allows least.
    Min,
    /// None: no scaling in this direction.
    Disabled,
}

/// The most that may change in a period.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    pub kind: PolicyKind,
    /// Pods or percent.
    pub value: u32,
    pub period: Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PolicyKind {
    Pods,
    Percent,
}

const DEFAULT_PERIOD: Duration = Duration::from_secs(15);

// === impl Behavior ===

impl Default for Behavior {
    fn default() -> Self {
        Self {
            up: Rules::up(),
            down: Rules::down(),
        }
    }
}

// === impl Rules ===

impl Rules {
    /// What kube-apiserver makes of an absent `scaleUp`.
    pub fn up() -> Self {
        let policy = |kind, value| Policy {
            kind,
            value,
            period: DEFAULT_PERIOD,
        };
        Self {
            stabilization: Some(Duration::ZERO),
            select: SelectPolicy::Max,
            policies: vec![
                policy(PolicyKind::Pods, 4),
                policy(PolicyKind::Percent, 100),
            ],
            tolerance: None,
        }
    }

    /// What kube-apiserver makes of an absent `scaleDown`.
    pub fn down() -> Self {
        Self {
            stabilization: None,
            select: SelectPolicy::Max,
            policies: vec![Policy {
                kind: PolicyKind::Percent,
                value: 100,
                period: DEFAULT_PERIOD,
            }],
            tolerance: None,
        }
    }

    pub(crate) fn longest_period(&self) -> Duration {
        let periods = self.policies.iter().map(|policy| policy.period);
        periods.max().unwrap_or_default()
    }
}

// === impl Policy ===

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match (self.kind, self.value) {
            (PolicyKind::Pods, 1) => "pod",
            (PolicyKind::Pods, _) => "pods",
            (PolicyKind::Percent, _) => "%",
        };
        write!(f, "{} {unit} in {} s", self.value, self.period.as_secs())
    }
}
