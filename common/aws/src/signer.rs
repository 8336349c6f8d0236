//! Signature Version 4 (SigV4) of a request, by `aws-sigv4`: service `aps` for AMP, `appmesh` for
//! App Mesh.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

/// Service name of Amazon Managed Service for Prometheus.
pub const SERVICE: &str = "aps";

/// Signs for one region and service.
#[derive(Clone, Debug)]
pub struct Signer {
    region: String,
    service: String,
    tells_digest: bool,
}

/// A request could not be signed; only what cannot be part of a request leads here.
#[derive(Debug, Error)]
#[error("cannot sign the request: {0}")]
pub struct SignError(#[source] Box<dyn std::error::Error + Send + Sync>);

// === impl Signer ===

impl Signer {
    /// For AMP in `region`.
    pub fn amp(region: &str) -> Self {
        Self::new(region, SERVICE)
    }

    pub fn new(region: &str, service: &str) -> Self {
        Self {
            region: region.to_owned(),
            service: service.to_owned(),
            tells_digest: false,
        }
    }

    /// The same, with the SHA-256 of the body in the header `x-amz-content-sha256`.
    #[must_use]
    pub fn with_content_sha256(mut self) -> Self {
        self.tells_digest = true;
        self
    }

    /// The region signed for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The headers that a POST of `body` to `url` at `time` needs: `authorization`, `x-amz-date`,
    /// and `x-amz-security-token` for credentials that expire. Beside them only the host is signed,
    /// so that a proxy may touch the others.
    pub fn sign(
        &self,
        url: &str,
        body: &[u8],
        credentials: &Credentials,
        time: SystemTime,
    ) -> Result<HeaderMap, SignError> {
        let identity = credentials.clone().into();
        let mut settings = SigningSettings::default();
        if self.tells_digest {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(time)
            .settings(settings)
            .build()
            .map_err(|error| SignError(error.into()))?
            .into();
        let request =
            SignableRequest::new("POST", url, std::iter::empty(), SignableBody::Bytes(body))
                .map_err(|error| SignError(error.into()))?;
        let output = sign(request, &params).map_err(|error| SignError(error.into()))?;
        let (instructions, _signature) = output.into_parts();
        let mut added = HeaderMap::new();
        for (name, value) in instructions.headers() {
            let name = HeaderName::try_from(name).map_err(|error| SignError(error.into()))?;
            let mut value =
                HeaderValue::try_from(value).map_err(|error| SignError(error.into()))?;
            value.set_sensitive(true);
            added.insert(name, value);
        }
        Ok(added)
    }
}
