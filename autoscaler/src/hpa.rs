//! A `HorizontalPodAutoscaler`, and the settings of its controller.

use std::time::Duration;

use crate::behavior::Behavior;
use crate::metric::Metric;
use crate::ratio::Tolerances;

/// A `HorizontalPodAutoscaler` of `autoscaling/v2`, defaults applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Hpa {
    pub namespace: String,
    pub name: String,
    pub target: TargetRef,
    /// `minReplicas`
    pub min: u32,
    /// `maxReplicas`
    pub max: u32,
    pub metrics: Vec<Metric>,
    /// `None`: the spec has none, and the controller's own limits hold.
    pub behavior: Option<Behavior>,
    /// True if the status says that the autoscaler scaled to zero.
    pub scaled_to_zero: bool,
    pub settings: Settings,
}

/// What an HPA scales.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TargetRef {
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

/// Flags of kube-controller-manager. No API tells them: these are the defaults unless somebody says
/// otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `--horizontal-pod-autoscaler-tolerance`
    pub tolerance: f64,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`
    pub downscale_stabilization: Duration,
    /// `--horizontal-pod-autoscaler-cpu-initialization-period`
    pub cpu_initialization: Duration,
    /// `--horizontal-pod-autoscaler-initial-readiness-delay`
    pub initial_readiness_delay: Duration,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            tolerance: 0.1,
            downscale_stabilization: Duration::from_mins(5),
            cpu_initialization: Duration::from_mins(5),
            initial_readiness_delay: Duration::from_secs(30),
        }
    }
}

// === impl Hpa ===

impl Hpa {
    /// An HPA without behaviour.
    pub fn new(min: u32, max: u32, metrics: Vec<Metric>) -> Self {
        Self {
            namespace: String::new(),
            name: String::new(),
            target: TargetRef::default(),
            min,
            max,
            metrics,
            behavior: None,
            scaled_to_zero: false,
            settings: Settings::default(),
        }
    }

    /// Time over which the lowest recommendation counts on the way up.
    pub fn up_window(&self) -> Duration {
        let rules = self.behavior.as_ref().map(|behavior| &behavior.up);
        let window = rules.and_then(|rules| rules.stabilization);
        window.unwrap_or_default()
    }

    /// Time over which the highest recommendation counts on the way down.
    pub fn down_window(&self) -> Duration {
        let rules = self.behavior.as_ref().map(|behavior| &behavior.down);
        let window = rules.and_then(|rules| rules.stabilization);
        window.unwrap_or(self.settings.downscale_stabilization)
    }

    /// How far back syncs and scalings can matter for a decision.
    pub fn reach(&self) -> Duration {
        let periods = self
            .behavior
            .iter()
            .flat_map(|behavior| [behavior.up.longest_period(), behavior.down.longest_period()]);
        let windows = [self.up_window(), self.down_window()];
        periods.chain(windows).max().unwrap_or_default()
    }

    /// True if a metric can be read while there is no pod.
    pub(crate) fn can_wake(&self) -> bool {
        self.metrics.iter().any(Metric::needs_no_pods)
    }

    pub(crate) fn tolerances(&self) -> Tolerances {
        let default = self.settings.tolerance;
        let behavior = self.behavior.as_ref();
        Tolerances {
            up: behavior.and_then(|own| own.up.tolerance).unwrap_or(default),
            down: behavior
                .and_then(|own| own.down.tolerance)
                .unwrap_or(default),
        }
    }
}
