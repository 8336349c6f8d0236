//! What a watch feeds: an index of objects of one kind.

use std::collections::HashSet;

use serde::de::DeserializeOwned;

use crate::objects::Named;
use crate::scope::Scope;

/// The form in which whole objects are asked for.
pub(crate) const JSON: &str = "application/json";

/// The form in which a list of nothing but metadata is sent.
pub const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// The form in which a watch of nothing but metadata is sent.
pub const METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// An index of objects of one kind, kept by a watch.
pub trait Index: Send + Sync + 'static {
    /// An object as it is sent.
    type Object: Clone + DeserializeOwned + Named + Send + Sync + 'static;

    /// Name of the watch in metrics, checks and logs; one of a fixed set.
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
    /// True of a kind that a cluster may do without: while the API server does not know it, there
    /// is none of it.
    fn optional(&self) -> bool {
        false
    }
    /// The object exists in this form.
    fn apply(&self, object: Self::Object);
    fn delete(&self, object: &Self::Object);
    /// After a list: nothing of `scope` exists but the `listed` (namespace, name).
    fn reset(&self, scope: &Scope, listed: &HashSet<(String, String)>);
}
