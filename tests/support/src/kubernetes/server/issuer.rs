//! The issuer of service account tokens: its discovery document, its keys, and tokens of pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use http::StatusCode;
use serde_json::{Value, json};

use super::replies::{Answer, failure, reply};
use super::{ApiServer, KnownUser, Shared};
use crate::clock;
use crate::kubernetes::objects::POD;
use crate::kubernetes::signing::{PodToken, SigningKey};

/// The issuer's name.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Paths of its discovery document and of its keys.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
pub const KEYS: &str = "/openid/v1/jwks";

/// What signs tokens, and what is said of it.
#[derive(Debug, Default)]
pub(super) struct IssuerState {
    /// The first one signs.
    keys: Vec<Arc<SigningKey>>,
    /// False to refuse both documents, as without the role for them.
    is_hidden: bool,
}

// === impl ApiServer ===

impl ApiServer {
    /// A token of the pod `namespace/pod` with `uid` for `audience`, good for an hour.
    pub fn pod_token(
        &self,
        audience: &str,
        namespace: &str,
        pod: &str,
        uid: &str,
    ) -> Result<String> {
        let key = self.tuning().issuer.keys.first().cloned();
        let key = key.context("the issuer has no key")?;
        PodToken::new(ISSUER, audience, namespace, pod, uid).sign(&key)
    }

    /// From now on the issuer has these keys, of which the first one signs; at the start it has one
    /// for ES256.
    pub fn set_signing_keys(&self, keys: &[Arc<SigningKey>]) {
        self.tuning().issuer.keys = keys.to_vec();
    }

    /// From now on nobody may read the issuer's documents, or may again.
    pub fn hide_issuer(&self, is_hidden: bool) {
        self.tuning().issuer.is_hidden = is_hidden;
    }
}

// === impl Shared ===

impl Shared {
    /// [`DISCOVERY`], or else [`KEYS`].
    pub(super) fn issuer_document(&self, path: &str) -> Answer {
        let (kind, document) = match path {
            DISCOVERY => ("openid-configuration", configuration()),
            _ => ("jwks", self.jwks()),
        };
        self.count(kind);
        if self.tuning().issuer.is_hidden {
            return failure(StatusCode::FORBIDDEN, "forbidden");
        }
        reply(StatusCode::OK, &document)
    }

    fn jwks(&self) -> Value {
        let tuning = self.tuning();
        let keys: Vec<Value> = tuning.issuer.keys.iter().map(|key| key.jwk()).collect();
        json!({"keys": keys})
    }

    /// The user of a token that the issuer signed, while it and its pod last.
    pub(super) fn user_of_signed(&self, token: &str) -> Option<KnownUser> {
        let keys = self.tuning().issuer.keys.clone();
        let claims = keys.iter().find_map(|key| key.claims(token))?;
        if claims["exp"].as_u64()? < clock::unix().0 / 1000 {
            return None;
        }
        let of_kubernetes = &claims["kubernetes.io"];
        let mut extra = BTreeMap::new();
        if let Some(name) = of_kubernetes["pod"]["name"].as_str() {
            let namespace = of_kubernetes["namespace"].as_str()?;
            let pod = self.objects.get(POD, namespace, name)?;
            if pod["metadata"]["uid"] != of_kubernetes["pod"]["uid"] {
                return None;
            }
            for field in ["name", "uid"] {
                let value = of_kubernetes["pod"][field].as_str()?.to_owned();
                let key = format!("authentication.kubernetes.io/pod-{field}");
                extra.insert(key, vec![value]);
            }
        }
        let audiences = claims["aud"].as_array()?.iter();
        let audiences = audiences.filter_map(|audience| Some(audience.as_str()?.to_owned()));
        Some(KnownUser {
            username: claims["sub"].as_str()?.to_owned(),
            groups: vec!["system:serviceaccounts".to_owned()],
            extra,
            audiences: audiences.collect(),
        })
    }
}

// === impl IssuerState ===

impl IssuerState {
    /// With one key.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            keys: vec![Arc::new(SigningKey::es256()?)],
            is_hidden: false,
        })
    }
}

/// As kube-apiserver answers; its `jwks_uri` leads nowhere, as it does inside many clusters.
fn configuration() -> Value {
    json!({
        "issuer": ISSUER,
        "jwks_uri": "https://127.0.0.1:1/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
    })
}
