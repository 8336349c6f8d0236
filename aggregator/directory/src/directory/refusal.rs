//! Why an object was not added.

use thiserror::Error;

use crate::directory::object::ObjectKey;
use aggregator_core::limits::{
    AUTOSCALER_BYTES_MAX, AUTOSCALERS_BYTES_MAX, AUTOSCALERS_MAX, IPS_PER_POD_MAX,
    LABELS_BYTES_MAX, LABELS_MAX, OWNERS_MAX, PODS_MAX, SERVICES_MAX,
};
use aggregator_core::pod::PodKey;

/// Why an object was not added to the directory.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DirectoryRefusal {
    #[error("pod {0}: the directory holds {PODS_MAX} pods already")]
    Pods(PodKey),
    /// Too many labels, or too long ones, on a pod or in the selector of a service.
    #[error("{0}: at most {LABELS_MAX} labels of together {LABELS_BYTES_MAX} bytes are taken")]
    Labels(String),
    #[error("pod {0}: at most {IPS_PER_POD_MAX} addresses are taken")]
    Ips(PodKey),
    #[error("service {0}: the directory holds {SERVICES_MAX} services already")]
    Services(String),
    #[error("{0}: the directory holds {OWNERS_MAX} owners already")]
    Owners(ObjectKey),
    #[error(
        "autoscaler {0}: the directory holds {AUTOSCALERS_MAX} autoscalers, or {AUTOSCALERS_BYTES_MAX} bytes of them, \
         already"
    )]
    Autoscalers(String),
    #[error("autoscaler {name}: about {bytes} bytes, at most {AUTOSCALER_BYTES_MAX} are taken")]
    AutoscalerSize { name: String, bytes: usize },
}

// === impl DirectoryRefusal ===

impl DirectoryRefusal {
    /// Every value of the label `reason`.
    pub const REASONS: [&'static str; 7] = [
        "pods",
        "labels",
        "ips",
        "services",
        "owners",
        "autoscalers",
        "autoscaler_size",
    ];

    /// The value of the label `reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Pods(_) => "pods",
            Self::Labels(_) => "labels",
            Self::Ips(_) => "ips",
            Self::Services(_) => "services",
            Self::Owners(_) => "owners",
            Self::Autoscalers(_) => "autoscalers",
            Self::AutoscalerSize { .. } => "autoscaler_size",
        }
    }
}
