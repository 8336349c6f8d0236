//! `AdmissionReview` (`admission.k8s.io/v1`): a pod in, a JSON patch (RFC 6902) out.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::bypass::Bypass;
use crate::pod::inject;
use crate::settings::Settings;
use crate::skipped::Skipped;
use crate::virtual_node::VirtualNodes;

const VERSION: &str = "admission.k8s.io/v1";

#[derive(Debug, Error)]
pub enum ReviewError {
    /// Not of the form of one.
    #[error("not an AdmissionReview: {0}")]
    Form(#[from] serde_json::Error),
    #[error("apiVersion is {0:?}, {VERSION} is understood")]
    Version(String),
}

/// What a review is answered, and about whom.
#[derive(Clone, Debug, PartialEq)]
pub struct ReviewOutcome {
    /// The answer, an `AdmissionReview`. A pod is always admitted.
    pub review: Value,
    /// Why the pod is left as it is, if it is.
    pub skipped: Option<Skipped>,
    /// What is wrong with the pod although it was injected.
    pub bypass: Option<Bypass>,
    pub namespace: String,
    /// Name of the pod, or what its name will begin with.
    pub name: String,
    /// Nothing comes of it: nobody is to be told either.
    pub dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    object: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Kind {
    group: String,
    kind: String,
}

pub fn answer(
    body: &[u8],
    settings: &Settings,
    nodes: &dyn VirtualNodes,
) -> Result<ReviewOutcome, ReviewError> {
    let mut review: Review = common_json::from_slice(body)?;
    // A patch of what is left is one of the whole: to add a member that is null replaces it.
    common_json::drop_nulls(&mut review.request.object);
    if review.api_version != VERSION {
        return Err(ReviewError::Version(review.api_version));
    }
    let request = review.request;
    let pod = &request.object;
    let mut response = json!({"uid": request.uid, "allowed": true});
    // The namespace is the request's: the pod may leave its own out.
    let injected = request
        .creates_pod()
        .and_then(|()| inject(pod, &request.namespace, settings, nodes));
    let mut bypass = None;
    let skipped = match injected {
        Ok(injected) => {
            bypass = Bypass::of(pod);
            if let Some(bypass) = &bypass {
                response["warnings"] = json!([format!("meshmeter: {bypass}")]);
            }
            let patch = json_patch::diff(pod, &injected);
            response["patchType"] = "JSONPatch".into();
            response["patch"] = BASE64.encode(serde_json::to_vec(&patch)?).into();
            None
        }
        Err(skipped) => {
            if !skipped.is_wanted() {
                // Whoever applies the pod reads it.
                response["warnings"] = json!([format!("meshmeter: not injected: {skipped}")]);
            }
            Some(skipped)
        }
    };
    let metadata = &pod["metadata"];
    let name = metadata["name"]
        .as_str()
        .or(metadata["generateName"].as_str());
    Ok(ReviewOutcome {
        name: name.unwrap_or_default().to_owned(),
        review: json!({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response}),
        skipped,
        bypass,
        namespace: request.namespace,
        dry_run: request.dry_run,
    })
}

// === impl Request ===

impl Request {
    /// The containers of a pod that is there cannot be changed, nor be told by its parts.
    fn creates_pod(&self) -> Result<(), Skipped> {
        let Kind { group, kind } = &self.kind;
        if !group.is_empty() || kind != "Pod" {
            return Err(Skipped::NoCreation(
                format!("{kind} {group}").trim().to_owned(),
            ));
        }
        if !self.sub_resource.is_empty() {
            return Err(Skipped::NoCreation(format!("pods/{}", self.sub_resource)));
        }
        if self.operation != "CREATE" {
            return Err(Skipped::NoCreation(self.operation.clone()));
        }
        Ok(())
    }
}
