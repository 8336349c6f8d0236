//! The index of objects of one kind that a watch updates.

use std::collections::HashSet;

use serde::de::DeserializeOwned;

use crate::objects::Named;
use crate::scope::Scope;

/// The media type of whole objects.
pub(crate) const JSON: &str = "application/json";

/// The media type of a list of metadata only.
pub const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// The media type of a watch of metadata only.
pub const METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// An index of objects of one kind, updated by a watch.
pub trait Index: Send + Sync + 'static {
    /// The type of the objects.
    type Object: Clone + DeserializeOwned + Named + Send + Sync + 'static;

    /// Name of the watch in metrics, checks and logs; from a fixed set.
    fn name(&self) -> &'static str;
    /// Path of the collection before `namespaces/`; the core group's by default.
    fn group_path(&self) -> &'static str {
        "/api/v1"
    }
    /// Last segment of the path of the collection.
    fn resource(&self) -> &'static str;
    /// Media types of a list and of a watch.
    fn accepts(&self) -> (&'static str, &'static str) {
        (JSON, JSON)
    }
    /// `fieldSelector` of the collection.
    fn field_selector(&self) -> Option<&str> {
        None
    }
    /// True of a kind that a cluster may lack: while the API server does not serve it, it has no
    /// objects.
    fn optional(&self) -> bool {
        false
    }
    /// False of a kind without which the program works: its watch never fails a readiness check,
    /// whether the permission is missing or the kind is not served.
    fn is_needed(&self) -> bool {
        true
    }
    /// The object was added or changed.
    fn apply(&self, object: Self::Object);
    fn delete(&self, object: &Self::Object);
    /// After a list: only the `listed` (namespace, name) exist in `scope`.
    fn reset(&self, scope: &Scope, listed: &HashSet<(String, String)>);
}
