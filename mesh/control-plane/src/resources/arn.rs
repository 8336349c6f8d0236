//! References to other objects: by name, or by the ARN of the resource that AWS App Mesh made of
//! an object.

use std::fmt;

use serde::Deserialize;

/// Without a namespace, that of the referring object.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    pub name: String,
    pub namespace: Option<String>,
}

/// `arn:aws:appmesh:REGION:ACCOUNT:mesh/MESH/KIND/NAME`. Region and account are not compared:
/// without AWS there is one of each.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Arn {
    text: String,
    /// `spec.awsName` of the mesh.
    pub mesh: String,
    /// As in the ARN: `virtualNode`.
    pub kind: String,
    /// `spec.awsName` of the object.
    pub name: String,
}

#[derive(Clone, Debug)]
pub enum Pointer {
    Name(Reference),
    /// Of no object of the mesh, once names have been looked up.
    Arn(Arn),
}

// === impl Arn ===

impl TryFrom<String> for Arn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = || {
            let mut colons = text.splitn(6, ':');
            let head = [colons.next()?, colons.next()?, colons.next()?];
            let resource = colons.nth(2)?;
            let [mesh_word, mesh, kind, name] = resource.split('/').collect::<Vec<_>>()[..] else {
                return None;
            };
            let is_arn = head[0] == "arn" && head[2] == "appmesh" && mesh_word == "mesh";
            // A mesh that is shared has `MESH@OWNER`.
            let mesh = mesh.split_once('@').map_or(mesh, |(mesh, _)| mesh);
            is_arn.then(|| [mesh, kind, name].map(str::to_owned))
        };
        let Some([mesh, kind, name]) = parts() else {
            return Err(format!(
                "{text:?} is not arn:aws:appmesh:REGION:ACCOUNT:mesh/MESH/KIND/NAME"
            ));
        };
        Ok(Self {
            text,
            mesh,
            kind,
            name,
        })
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// === impl Pointer ===

impl Pointer {
    /// `name` is that of the fields: `virtualNode` for `virtualNodeRef` and `virtualNodeARN`.
    pub(super) fn of(
        name: &str,
        reference: Option<Reference>,
        arn: Option<Arn>,
    ) -> Result<Self, String> {
        match (reference, arn) {
            (Some(reference), None) => Ok(Self::Name(reference)),
            (None, Some(arn)) if arn.kind != name => {
                Err(format!("{name}ARN: {arn} is not a {name}"))
            }
            (None, Some(arn)) => Ok(Self::Arn(arn)),
            _ => Err(format!("one of {name}Ref and {name}ARN is needed")),
        }
    }
}
