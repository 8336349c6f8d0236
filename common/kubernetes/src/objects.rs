//! Objects as the API server sends them, with only the fields that are used. `common_json` reads
//! null as absent, so no field handles it here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct List<T> {
    #[serde(default)]
    pub(crate) metadata: ListMeta,
    #[serde(default = "Vec::new")]
    pub(crate) items: Vec<T>,
}

/// `metadata` of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListMeta {
    pub(crate) resource_version: String,
    #[serde(rename = "continue")]
    pub(crate) next: Option<String>,
}

/// An object with its metadata only.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct MetadataOnly {
    /// `metadata`
    #[serde(default)]
    pub metadata: Metadata,
}

/// `metadata`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub name: String,
    /// The namespace; "" of cluster-scoped objects.
    pub namespace: String,
    /// Which of all that ever had the name.
    pub uid: String,
    /// Opaque; changes with every change.
    pub resource_version: String,
    /// Rises with every change of `spec`; 0 if the kind has none.
    pub generation: i64,
    /// Time of creation (RFC 3339), so that earlier sorts first.
    pub creation_timestamp: String,
    pub labels: BTreeMap<String, String>,
    /// Owners; at most one of them is the controller.
    pub owner_references: Vec<OwnerReference>,
    /// Present once the object is being deleted.
    pub deletion_timestamp: Option<IgnoredAny>,
    pub annotations: Annotations,
}

/// The annotations that are used.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotations {
    #[serde(rename = "meshmeter.io/injected")]
    pub injected: Option<IgnoredAny>,
}

/// `metadata.ownerReferences[]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// Which of all that ever had the name.
    pub uid: String,
    /// True of the one owner that manages the object.
    pub controller: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ConfigMap {
    #[serde(default)]
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) data: BTreeMap<String, String>,
}

pub trait Named {
    /// `metadata`
    fn metadata(&self) -> &Metadata;
}

// === impl Metadata ===

impl Metadata {
    /// The owner that manages the object.
    pub fn controller(&self) -> Option<&OwnerReference> {
        let mut owners = self.owner_references.iter();
        owners.find(|owner| owner.controller == Some(true))
    }
}

// === impl OwnerReference ===

impl OwnerReference {
    /// API group; "" of the core group.
    pub fn group(&self) -> &str {
        let group = self.api_version.split_once('/');
        group.map_or("", |(group, _)| group)
    }
}

// === impl Named ===

impl Named for MetadataOnly {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Named for ConfigMap {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Null is absent in every place.
    #[test]
    fn reads_nulls() {
        for text in [r#"{"metadata":null,"items":null}"#, "null"] {
            let owners: List<MetadataOnly> = common_json::from_str(text).unwrap();
            assert!(owners.items.is_empty());
        }
        let map: ConfigMap = common_json::from_str(r#"{"metadata":null,"data":null}"#).unwrap();
        assert!(map.data.is_empty());
        let list: List<MetadataOnly> =
            common_json::from_str(r#"{"metadata":{"resourceVersion":"9","continue":"c"}}"#)
                .unwrap();
        assert_eq!(
            (list.items.len(), list.metadata.next.as_deref()),
            (0, Some("c"))
        );
    }
}
