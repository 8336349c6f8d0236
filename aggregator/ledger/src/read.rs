//! A read as it is given to the ledger.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aggregator_core::query::{Milli, NoValue};
use aggregator_view::documents::ReadSource;
use common_time::UnixMillis;

use crate::limits::TEXT_BYTES_MAX;

/// One read of a metric, with its answer.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    pub at: UnixMillis,
    pub reader: Reader<'a>,
    pub namespace: &'a str,
    /// The HPA that read, if it is known.
    pub hpa: Option<&'a str>,
    /// Name of the metric, as requested.
    pub metric: &'a str,
    pub object: Object<'a>,
    /// The label selector as requested.
    pub selector: &'a str,
    /// The metric selector as requested.
    pub metric_selector: &'a str,
    pub answer: Answer<'a>,
    pub each: Each<'a>,
    /// Replicas that the autoscaler's arithmetic makes of it.
    pub computed_replicas: Option<u32>,
}

/// Who read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reader<'a> {
    /// Name of the authenticated user, "" without authentication.
    pub user: &'a str,
    pub user_agent: &'a str,
}

/// What was read, such as `services/jazz`: a resource and, for most, a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Object<'a> {
    pub resource: &'a str,
    /// "" for all of them.
    pub name: &'a str,
}

/// What was answered.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    Value {
        /// The sum of all values.
        sum: Milli,
        source: ReadSource,
        /// Pods whose values are in it.
        pods: usize,
        /// Age of the oldest value.
        age: Duration,
        /// The longest window.
        window: Duration,
    },
    Refusal {
        /// Status code.
        code: u16,
        message: &'a str,
    },
}

/// The pods of a read.
#[derive(Clone, Copy, Debug)]
pub enum Each<'a> {
    /// They are not those that were asked for, or there are none.
    Unknown,
    /// Each pod, sorted by name or not; a list is stored shorter if it has the pods of the last one
    /// in the same order.
    Pods(&'a [PodValue<'a>]),
}

/// What one pod gave to a read.
#[derive(Clone, Copy, Debug)]
pub struct PodValue<'a> {
    pub name: &'a Arc<str>,
    pub state: PodState,
    /// Not used for a pod that was left out.
    pub value: Milli,
    pub window: Duration,
    pub age: Duration,
    /// True if Kubernetes had the pod as `Pending`.
    pub pending: bool,
}

/// Whether a pod's value is in the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PodState {
    Live,
    /// Its stream is lost; the last value is served.
    Held,
    LeftOut(NoValue),
}

// === impl Reader ===

impl Reader<'_> {
    /// True for the HPA controller of kube-controller-manager. A user agent alone proves nothing,
    /// so it counts only where nobody is authenticated, and for Kubernetes' own components.
    pub fn is_autoscaler(&self) -> bool {
        const ACCOUNTS: [&str; 2] = [
            "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
            "system:kube-controller-manager",
        ];
        let is_component = self.user.starts_with("system:")
            && !self.user.starts_with("system:serviceaccount:")
            && self.user != "system:anonymous";
        ACCOUNTS.contains(&self.user)
            || ((self.user.is_empty() || is_component)
                && self.user_agent.contains("kube-controller-manager"))
    }
}

// === impl Answer ===

impl Answer<'_> {
    /// The refusal's sentence, cut; "" for a value.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Value { .. } => "",
            Self::Refusal { message, .. } => cut(message),
        }
    }
}

// === impl Object ===

impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, name } = self;
        let slash = if name.is_empty() { "" } else { "/" };
        write!(f, "{resource}{slash}{name}")
    }
}

// === impl PodValue ===

impl PodValue<'_> {
    /// Its value in thousandths; `None` if it was left out.
    pub fn value_milli(&self) -> Option<u64> {
        match self.state {
            PodState::Live | PodState::Held => Some(self.value.0),
            PodState::LeftOut(_) => None,
        }
    }
}

// === impl PodState ===

impl PodState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Held => "held",
            Self::LeftOut(why) => why.as_str(),
        }
    }

    /// A number below 16, the same in each version: it is written to disk.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Live => 0,
            Self::Held => 1,
            Self::LeftOut(why) => 2 + reason_code(why),
        }
    }

    pub(crate) fn of_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Live),
            1 => Some(Self::Held),
            _ => reason_of_code(code - 2).map(Self::LeftOut),
        }
    }
}

/// Reasons for which pods are left out.
pub(crate) const REASONS: usize = NoValue::ALL.len();

/// A number below [`REASONS`], the same in each version.
pub(crate) fn reason_code(why: NoValue) -> u8 {
    match why {
        NoValue::NeverReported => 0,
        NoValue::TlsRefused => 1,
        NoValue::New => 2,
        NoValue::Gone => 3,
        NoValue::NotCounted => 4,
        NoValue::VmLost => 5,
        NoValue::HotRestart => 6,
        NoValue::Refused => 7,
        NoValue::NoRequests => 8,
        NoValue::Unauthenticated => 9,
        NoValue::Unreadable => 10,
        NoValue::StreamRefused => 11,
    }
}

pub(crate) fn reason_of_code(code: u8) -> Option<NoValue> {
    NoValue::ALL
        .into_iter()
        .find(|why| reason_code(*why) == code)
}

/// The first [`TEXT_BYTES_MAX`] bytes of `text`.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// Whole milliseconds, at most 49 days.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each state has a number of its own in four bits, and comes back from it.
    #[test]
    fn states_have_numbers() {
        let left_out = NoValue::ALL.map(PodState::LeftOut);
        let states = [PodState::Live, PodState::Held].into_iter().chain(left_out);
        let mut codes: Vec<u8> = states.clone().map(PodState::code).collect();
        codes.sort_unstable();
        assert!(
            codes
                .iter()
                .enumerate()
                .all(|(nth, code)| nth == usize::from(*code))
        );
        assert!(codes.len() <= 16);
        for state in states {
            assert_eq!(PodState::of_code(state.code()), Some(state));
        }
        assert_eq!(PodState::of_code(2 + 12), None);
        // As they are in files that earlier versions wrote.
        let old = [NoValue::NeverReported, NoValue::Gone, NoValue::NoRequests];
        assert_eq!(old.map(reason_code), [0, 3, 8]);
    }

    /// Only what cannot be claimed by everyone makes an autoscaler.
    #[test]
    fn tells_autoscalers() {
        const AGENT: &str = "kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/1";
        for (user, user_agent, expected) in [
            (
                "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
                "",
                true,
            ),
            ("system:kube-controller-manager", "curl", true),
            ("system:node-controller", AGENT, true),
            ("", AGENT, true),
            ("", "kubectl/v1.36.2", false),
            ("jane", AGENT, false),
            ("system:anonymous", AGENT, false),
            ("system:serviceaccount:default:loop", AGENT, false),
        ] {
            let reader = Reader { user, user_agent };
            assert_eq!(reader.is_autoscaler(), expected, "{user} {user_agent}");
        }
    }
}
