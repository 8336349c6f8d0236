//! TLS of listeners, and of calls to backends: the same for virtual nodes and virtual gateways.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// TLS of a listener.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerTls {
    pub mode: TlsMode,
    pub certificate: Certificate,
    /// With it clients need a certificate.
    pub validation: Option<Validation>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
pub enum TlsMode {
    /// TLS alone.
    Strict,
    /// TLS and plain text.
    Permissive,
    /// Plain text alone.
    Disabled,
}

/// What holds for all backends without a policy of their own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackendDefaults {
    pub client_policy: Option<ClientPolicy>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientPolicy {
    pub tls: Option<ClientTls>,
}

/// TLS of calls.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientTls {
    /// Without it the listener that is called decides.
    #[serde(default = "enforced")]
    pub enforce: bool,
    /// Ports of listeners for which the policy is enforced; empty for all.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Shown to servers that ask for one.
    pub certificate: Option<Certificate>,
    pub validation: Validation,
    /// Not in App Mesh's API, but in a public example.
    #[serde(default, rename = "mode")]
    _mode: Ignored,
}

/// A field without effect: whatever it holds, two are equal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Ignored;

// === impl Ignored ===

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

fn enforced() -> bool {
    true
}

/// Where Envoy has its own certificate from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "CertificateFields")]
pub enum Certificate {
    File(FileCertificate),
    Sds(SdsSecret),
    /// Of a listener.
    Acm(AcmCertificate),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateFields {
    file: Option<FileCertificate>,
    sds: Option<SdsSecret>,
    acm: Option<AcmCertificate>,
}

/// Paths in Envoy's container, of PEM files.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileCertificate {
    pub certificate_chain: String,
    pub private_key: String,
}

/// A secret of the SDS server in the pod.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SdsSecret {
    pub secret_name: String,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AcmCertificate {
    #[serde(rename = "certificateARN")]
    pub arn: String,
}

/// What the certificate of the other side has to be like.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Validation {
    pub trust: Trust,
    pub subject_alternative_names: Option<SubjectAlternativeNames>,
}

/// The certificate authorities that are trusted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "TrustFields")]
pub enum Trust {
    File(FileTrust),
    Sds(SdsSecret),
    Acm(AcmTrust),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFields {
    file: Option<FileTrust>,
    sds: Option<SdsSecret>,
    acm: Option<AcmTrust>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileTrust {
    /// Path in Envoy's container, of a PEM file with one or more certificate authorities.
    pub certificate_chain: String,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AcmTrust {
    #[serde(rename = "certificateAuthorityARNs")]
    pub arns: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SubjectAlternativeNames {
    pub r#match: NameMatch,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct NameMatch {
    /// One of them has to be in the certificate.
    pub exact: Vec<String>,
}

// === impl BackendDefaults ===

impl BackendDefaults {
    pub fn tls(&self) -> Option<&ClientTls> {
        self.client_policy.as_ref()?.tls.as_ref()
    }
}

// === impl Certificate ===

impl TryFrom<CertificateFields> for Certificate {
    type Error = String;

    fn try_from(fields: CertificateFields) -> Result<Self, String> {
        match (fields.file, fields.sds, fields.acm) {
            (Some(file), None, None) => Ok(Self::File(file)),
            (None, Some(secret), None) => Ok(Self::Sds(secret)),
            (None, None, Some(certificate)) => Ok(Self::Acm(certificate)),
            _ => Err("one of file, sds and acm is needed".to_owned()),
        }
    }
}

// === impl Trust ===

impl TryFrom<TrustFields> for Trust {
    type Error = String;

    fn try_from(fields: TrustFields) -> Result<Self, String> {
        match (fields.file, fields.sds, fields.acm) {
            (Some(file), None, None) => Ok(Self::File(file)),
            (None, Some(secret), None) => Ok(Self::Sds(secret)),
            (None, None, Some(trust)) => Ok(Self::Acm(trust)),
            _ => Err("one of file, sds and acm is needed".to_owned()),
        }
    }
}

// === impl Validation ===

impl Validation {
    /// Names of which the certificate has to have one; empty if none are given.
    pub fn names(&self) -> &[String] {
        let names = self.subject_alternative_names.as_ref();
        names.map_or(&[], |names| &names.r#match.exact)
    }
}
