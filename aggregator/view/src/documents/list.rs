use serde::{Deserialize, Serialize};

use super::Change;
use crate::{GROUP, VERSION};

/// A Kubernetes list.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    pub kind: String,
    pub api_version: String,
    #[serde(default)]
    pub metadata: ListMeta,
    pub items: Vec<T>,
    /// For what only all replicas together know: who answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaAnswer>,
    /// With reads of one replica: changes of HPAs in the same time, as it saw them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// Where a page of a list goes on.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    /// To be sent as `continue` for the next page; empty on the last one.
    #[serde(default, rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
    /// Items after this page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<u64>,
}

/// Whether a replica of the aggregator gave its part.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaAnswer {
    /// Its pod's name, or its address while that is unknown.
    pub name: String,
    /// Why it gave none; empty if it answered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Time of its oldest read: before it, this replica knows nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_unix_ms: Option<u64>,
}

impl<T> List<T> {
    /// A whole list of one page.
    pub fn new(kind: &str, items: Vec<T>) -> Self {
        Self {
            kind: kind.to_owned(),
            api_version: format!("{GROUP}/{VERSION}"),
            metadata: ListMeta::default(),
            items,
            replicas: Vec::new(),
            changes: Vec::new(),
        }
    }
}
