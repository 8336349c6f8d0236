//! A named list of virtual services.

use serde::Deserialize;

use crate::resources::{MeshReference, Reference};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackendGroupSpec {
    /// Needed if no mesh selects the namespace.
    pub mesh_ref: Option<MeshReference>,
    /// Without a namespace, that of the virtual node that names the group, as in App Mesh's
    /// controller.
    #[serde(rename = "virtualservices")]
    pub virtual_services: Vec<Reference>,
}
