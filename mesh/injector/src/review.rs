//! `AdmissionReview` (`admission.k8s.io/v1`): a pod in, a JSON patch (RFC 6902) out.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::pod::{Settings, Skipped, inject};

const VERSION: &str = "admission.k8s.io/v1";

/// Not a review.
#[derive(Debug, Error)]
pub enum ReviewError {
    /// Not of the form of one.
    #[error("not an AdmissionReview: {0}")]
    Form(#[from] serde_json::Error),
    /// Of another version.
    #[error("apiVersion is {0:?}, {VERSION} is understood")]
    Version(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    #[serde(default)]
    object: Value,
}

/// The answer, and why the pod is left as it is, if it is. A pod is always admitted.
pub fn answer(body: &[u8], settings: &Settings) -> Result<(Value, Option<Skipped>), ReviewError> {
    let review: Review = serde_json::from_slice(body)?;
    if review.api_version != VERSION {
        return Err(ReviewError::Version(review.api_version));
    }
    let Request { uid, object: pod } = review.request;
    let mut response = json!({"uid": uid, "allowed": true});
    let skipped = match inject(&pod, settings) {
        Ok(injected) => {
            let patch = json_patch::diff(&pod, &injected);
            response["patchType"] = "JSONPatch".into();
            response["patch"] = BASE64.encode(serde_json::to_vec(&patch)?).into();
            None
        }
        Err(skipped) => {
            // Whoever applies the pod reads it; what they asked for themselves needs no warning.
            if !matches!(skipped, Skipped::Disabled | Skipped::Done) {
                response["warnings"] = json!([format!("meshmeter: not injected: {skipped}")]);
            }
            Some(skipped)
        }
    };
    let answer = json!({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response});
    Ok((answer, skipped))
}
