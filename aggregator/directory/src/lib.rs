//! Which pods, services and owners exist in the cluster.
//!
//! ```text
//! common_kubernetes::watch -> indexes -> directory::Directory -> the API
//!                                        (by namespace, labels and owner)
//! ```
//!
//! Nothing here is asked of the API server while an autoscaler waits: what it asks is answered from
//! the directory.

mod directory;
mod indexes;
mod objects;

pub use directory::{
    Directory, DirectoryRefusal, LabelSet, ObjectKey, ObjectRef, OwnerInfo, ServiceInfo,
    ServicePods, Sizes,
};
pub use indexes::follow;
