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
    has_content_sha256: bool,
}

/// A request could not be signed, because its URL or a header is invalid.
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
            has_content_sha256: false,
        }
    }

    /// The same, with the SHA-256 of the body in the header `x-amz-content-sha256`.
    #[must_use]
    pub fn with_content_sha256(mut self) -> Self {
        self.has_content_sha256 = true;
        self
    }

    /// The region signed for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The headers for a POST of `body` to `url` at `time`: `authorization`, `x-amz-date`, and
    /// `x-amz-security-token` for temporary credentials. Only these and the host are signed, so
    /// that a proxy may change other headers.
    pub fn sign(
        &self,
        url: &str,
        body: &[u8],
        credentials: &Credentials,
        time: SystemTime,
    ) -> Result<HeaderMap, SignError> {
        let identity = credentials.clone().into();
        let mut settings = SigningSettings::default();
        if self.has_content_sha256 {
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
            // Keeps signatures and session tokens out of `Debug` output and HPACK tables.
            value.set_sensitive(true);
            added.insert(name, value);
        }
        Ok(added)
    }
}
