//! A virtual service: a host name, and what answers to it.

use serde::Deserialize;

use crate::resources::{Arn, MeshReference, Pointer, Reference};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VirtualServiceSpec {
    /// Host name by which it is called; default `NAME.NAMESPACE`.
    pub aws_name: Option<String>,
    /// Needed if no mesh selects the namespace.
    pub mesh_ref: Option<MeshReference>,
    pub provider: Option<Provider>,
    #[serde(skip)]
    pub created: String,
}

/// Exactly one has to be set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Provider {
    pub virtual_node: Option<NodeProvider>,
    pub virtual_router: Option<RouterProvider>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "NodeFields")]
pub struct NodeProvider {
    pub node: Pointer,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RouterFields")]
pub struct RouterProvider {
    pub router: Pointer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NodeFields {
    virtual_node_ref: Option<Reference>,
    #[serde(rename = "virtualNodeARN")]
    virtual_node_arn: Option<Arn>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RouterFields {
    virtual_router_ref: Option<Reference>,
    #[serde(rename = "virtualRouterARN")]
    virtual_router_arn: Option<Arn>,
}

// === impl NodeProvider ===

impl TryFrom<NodeFields> for NodeProvider {
    type Error = String;

    fn try_from(fields: NodeFields) -> Result<Self, String> {
        let (reference, arn) = (fields.virtual_node_ref, fields.virtual_node_arn);
        let node = Pointer::of("virtualNode", reference, arn)?;
        Ok(Self { node })
    }
}

// === impl RouterProvider ===

impl TryFrom<RouterFields> for RouterProvider {
    type Error = String;

    fn try_from(fields: RouterFields) -> Result<Self, String> {
        let (reference, arn) = (fields.virtual_router_ref, fields.virtual_router_arn);
        let router = Pointer::of("virtualRouter", reference, arn)?;
        Ok(Self { router })
    }
}
