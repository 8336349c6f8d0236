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
    #[error("not an AdmissionReview: {0}")]
    Form(#[from] serde_json::Error),
    #[error("apiVersion is {0:?}, {VERSION} is understood")]
    Version(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ReviewOutcome {
    /// The `AdmissionReview` to return. It always admits the pod.
    pub review: Value,
    /// Why the pod is not injected.
    pub skipped: Option<Skipped>,
    /// Set although the pod was injected.
    pub bypass: Option<Bypass>,
    pub namespace: String,
    /// Name of the pod, or its `generateName`.
    pub name: String,
    /// The pod is not created, so no Event is raised.
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
    // Null members are dropped so that they count as absent. The patch still fits the original: an
    // RFC 6902 `add` replaces a member that exists.
    common_json::drop_nulls(&mut review.request.object);
    if review.api_version != VERSION {
        return Err(ReviewError::Version(review.api_version));
    }
    let request = review.request;
    let pod = &request.object;
    let mut response = json!({"uid": request.uid, "allowed": true});
    // From the request: the pod's `metadata.namespace` may be absent.
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
            if !skipped.is_expected() {
                // `kubectl` prints warnings to whoever applies the pod.
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
    /// Containers can only be added to a pod at its creation.
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
