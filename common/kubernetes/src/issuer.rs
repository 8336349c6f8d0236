//! The documents of the issuer of service account tokens, as kube-apiserver gives them.
//!
//! They are asked of kube-apiserver itself, never of the address in the discovery document: that is
//! for others than the cluster, and often cannot be reached from it.

use kube::Client;

use crate::connection::{ClusterError, ask_bytes, request};

/// The role that permits to read them.
pub const ROLE: &str = "system:service-account-issuer-discovery";

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// Reads the issuer's documents.
#[derive(Clone)]
pub struct IssuerDocuments {
    client: Client,
}

// === impl IssuerDocuments ===

impl IssuerDocuments {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The discovery document (JSON), which names the issuer.
    pub async fn discovery(&self) -> Result<Vec<u8>, ClusterError> {
        self.get(DISCOVERY).await
    }

    /// The issuer's public keys, a JSON Web Key Set.
    pub async fn keys(&self) -> Result<Vec<u8>, ClusterError> {
        self.get(KEYS).await
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, ClusterError> {
        let what = format!("GET {path}");
        // kube-apiserver has one form of either, whatever is accepted.
        let request = request(path, "application/json, */*");
        let request = request.ok_or_else(|| ClusterError::Malformed { what: what.clone() })?;
        ask_bytes(&self.client, request, what, None).await
    }
}

impl std::fmt::Debug for IssuerDocuments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuerDocuments").finish_non_exhaustive()
    }
}
