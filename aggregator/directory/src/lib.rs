//! Which pods, services, owners and autoscalers exist in the cluster.
//!
//! ```text
//! common_kubernetes::watch -> indexes -> directory::Directory -> the API
//!                                        (by namespace, labels and owner)
//! ```
//!
//! Requests of an autoscaler read the directory, never the API server.

mod directory;
mod indexes;
mod objects;

pub use directory::{
    AutoscalerCondition, AutoscalerInfo, AutoscalerStatus, Directory, DirectoryRefusal, LabelSet,
    Member, ObjectKey, ObjectRef, OwnerInfo, Page, PodLife, ServiceInfo, ServicePods, Sizes,
    WorkloadKey,
};
pub use indexes::{AUTOSCALERS_WATCH, PODS_WATCH, follow, follow_autoscalers};
pub use objects::autoscaler::read as read_autoscaler;
