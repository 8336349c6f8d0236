//! Trust anchors and their roles: the `ConfigMap`
//! `kube-system/extension-apiserver-authentication`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use parking_lot::RwLock;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use thiserror::Error;

/// Certificates in one bundle. A cluster has one, or two while it rotates.
const BUNDLE_CERTIFICATES_MAX: usize = 64;

/// Entries in one of the lists.
const LIST_ENTRIES_MAX: usize = 64;

const CLIENT_CA: &str = "client-ca-file";
const FRONT_PROXY_CA: &str = "requestheader-client-ca-file";
const ALLOWED_NAMES: &str = "requestheader-allowed-names";
const USER_HEADERS: &str = "requestheader-username-headers";
const UID_HEADERS: &str = "requestheader-uid-headers";
const GROUP_HEADERS: &str = "requestheader-group-headers";
const EXTRA_PREFIXES: &str = "requestheader-extra-headers-prefix";

/// Trust anchors and their roles. The default trusts nobody.
#[derive(Clone, Default)]
pub struct Trust {
    /// Verifies front proxies, which may name users in headers.
    pub(super) front_proxy: Option<FrontProxy>,
    /// Verifies clients, whose subject is the user.
    pub(super) clients: Option<ClientVerifier>,
    /// Headers that name users; only front proxies may send them.
    pub(super) headers: IdentityHeaders,
}

/// CA and names of front proxies.
#[derive(Clone)]
pub(super) struct FrontProxy {
    pub(super) ca: ClientVerifier,
    /// Common names, one of which a certificate must have. Empty allows any.
    pub(super) allowed_names: Vec<String>,
}

/// Verifies certificate chains against one bundle.
pub(super) type ClientVerifier = Arc<dyn ClientCertVerifier>;

/// Names of the headers of a front proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct IdentityHeaders {
    pub(super) user: Vec<HeaderName>,
    pub(super) uid: Vec<HeaderName>,
    pub(super) group: Vec<HeaderName>,
    /// In lower case.
    pub(super) extra_prefixes: Vec<String>,
}

/// Why the `ConfigMap` is invalid.
#[derive(Debug, Error)]
pub enum TrustError {
    #[error("{key}: not certificates in PEM")]
    Pem {
        key: &'static str,
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate that cannot be a CA.
    #[error("{key}: a certificate cannot be used")]
    Certificate {
        key: &'static str,
        source: rustls::Error,
    },
    /// A bundle without a usable certificate.
    #[error("{key}: no usable certificates")]
    Unusable {
        key: &'static str,
        source: rustls::server::VerifierBuilderError,
    },
    #[error("{key}: more than {max} entries")]
    TooMany { key: &'static str, max: usize },
    #[error("{key}: not a JSON array of strings")]
    List {
        key: &'static str,
        source: serde_json::Error,
    },
    #[error("{key}: \"{name}\" is not the name of a header")]
    Header { key: &'static str, name: String },
    /// Front proxies without the header in which they name users.
    #[error("{FRONT_PROXY_CA} is set, but {USER_HEADERS} names no header")]
    NoUserHeader,
}

/// The trust of a running server. Clones share it; a change takes effect on the next request of
/// every connection.
#[derive(Clone, Debug, Default)]
pub struct TrustCell {
    /// Locked only to copy or replace the pointer.
    current: Arc<RwLock<Option<Arc<Trust>>>>,
}

// === impl Trust ===

impl Trust {
    /// Parses the data of the `ConfigMap` `extension-apiserver-authentication`. Absent keys grant
    /// no trust.
    pub fn from_config_map(data: &BTreeMap<String, String>) -> Result<Self, TrustError> {
        let clients = ca(data, CLIENT_CA)?;
        let front_proxy = ca(data, FRONT_PROXY_CA)?
            .map(|ca| {
                list(data, ALLOWED_NAMES).map(|allowed_names| FrontProxy { ca, allowed_names })
            })
            .transpose()?;
        let mut headers = IdentityHeaders {
            user: header_names(data, USER_HEADERS)?,
            uid: header_names(data, UID_HEADERS)?,
            group: header_names(data, GROUP_HEADERS)?,
            extra_prefixes: list(data, EXTRA_PREFIXES)?
                .into_iter()
                .map(|prefix| prefix.to_ascii_lowercase())
                .filter(|prefix| !prefix.is_empty())
                .collect(),
        };
        // Without front proxies the default headers still count: a client that sends them must be
        // refused, not ignored.
        if headers.user.is_empty() {
            if front_proxy.is_some() {
                return Err(TrustError::NoUserHeader);
            }
            headers = IdentityHeaders::default();
        }
        Ok(Self {
            front_proxy,
            clients,
            headers,
        })
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("front_proxy", &self.front_proxy.is_some())
            .field("clients", &self.clients.is_some())
            .field("headers", &self.headers)
            .finish()
    }
}

fn ca(
    data: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Option<ClientVerifier>, TrustError> {
    let Some(pem) = data.get(key).filter(|pem| !pem.trim().is_empty()) else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|source| TrustError::Pem { key, source })?;
        if roots.len() >= BUNDLE_CERTIFICATES_MAX {
            let max = BUNDLE_CERTIFICATES_MAX;
            return Err(TrustError::TooMany { key, max });
        }
        roots
            .add(certificate)
            .map_err(|source| TrustError::Certificate { key, source })?;
    }
    let provider = Arc::new(ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map(|verifier| Some(verifier as ClientVerifier))
        .map_err(|source| TrustError::Unusable { key, source })
}

fn list(data: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<String>, TrustError> {
    let Some(json) = data.get(key).filter(|json| !json.trim().is_empty()) else {
        return Ok(Vec::new());
    };
    let entries: Vec<String> =
        common_json::from_str(json).map_err(|source| TrustError::List { key, source })?;
    if entries.len() > LIST_ENTRIES_MAX {
        let max = LIST_ENTRIES_MAX;
        return Err(TrustError::TooMany { key, max });
    }
    Ok(entries)
}

fn header_names(
    data: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Vec<HeaderName>, TrustError> {
    let names = list(data, key)?;
    let parse = |name: String| {
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| TrustError::Header { key, name })
    };
    names.into_iter().map(parse).collect()
}

// === impl IdentityHeaders ===

impl Default for IdentityHeaders {
    /// The names that every Kubernetes cluster uses.
    fn default() -> Self {
        Self {
            user: vec![HeaderName::from_static("x-remote-user")],
            uid: vec![HeaderName::from_static("x-remote-uid")],
            group: vec![HeaderName::from_static("x-remote-group")],
            extra_prefixes: vec!["x-remote-extra-".to_owned()],
        }
    }
}

// === impl TrustCell ===

impl TrustCell {
    pub fn new(trust: Trust) -> Self {
        let cell = Self::default();
        cell.set(trust);
        cell
    }

    /// Replaces the trust, also on open connections.
    pub fn set(&self, trust: Trust) {
        *self.current.write() = Some(Arc::new(trust));
    }

    /// True once a trust was set: before, no certificate can be verified.
    pub fn is_set(&self) -> bool {
        self.get().is_some()
    }

    /// The current headers of front proxies.
    pub(crate) fn headers(&self) -> IdentityHeaders {
        self.get()
            .map_or_else(IdentityHeaders::default, |trust| trust.headers.clone())
    }

    pub(crate) fn get(&self) -> Option<Arc<Trust>> {
        self.current.read().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        entries.iter().map(owned).collect()
    }

    fn ca() -> String {
        let names = vec!["ca".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        made.cert.pem()
    }

    /// The map of a kubeadm cluster is understood; absent UID headers are no fault.
    #[test]
    fn reads_the_map_of_a_cluster() {
        let ca = ca();
        let data = map(&[
            (CLIENT_CA, &ca),
            (FRONT_PROXY_CA, &ca),
            (ALLOWED_NAMES, r#"["front-proxy-client"]"#),
            (USER_HEADERS, r#"["X-Remote-User"]"#),
            (GROUP_HEADERS, r#"["X-Remote-Group"]"#),
            (EXTRA_PREFIXES, r#"["X-Remote-Extra-"]"#),
        ]);
        let trust = Trust::from_config_map(&data).unwrap();
        assert!(trust.clients.is_some());
        assert_eq!(
            trust.front_proxy.unwrap().allowed_names,
            ["front-proxy-client"]
        );
        assert_eq!(
            trust.headers,
            IdentityHeaders {
                uid: vec![],
                ..IdentityHeaders::default()
            }
        );
    }

    /// An empty map trusts nobody, and still knows which headers nobody may send.
    #[test]
    fn trusts_nobody_by_default() {
        let trust = Trust::from_config_map(&BTreeMap::new()).unwrap();
        assert!(trust.clients.is_none() && trust.front_proxy.is_none());
        assert_eq!(trust.headers, IdentityHeaders::default());
    }

    /// Every fault names its key.
    #[test]
    fn names_the_key_at_fault() {
        let ca = ca();
        let long = format!("[{}\"a\"]", "\"a\",".repeat(LIST_ENTRIES_MAX));
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (data, expected) in [
            (map(&[(CLIENT_CA, "no PEM")]), "client-ca-file: "),
            (map(&[(CLIENT_CA, garbage)]), "client-ca-file: "),
            (map(&[(FRONT_PROXY_CA, &ca)]), "names no header"),
            (
                map(&[(FRONT_PROXY_CA, &ca), (ALLOWED_NAMES, "x")]),
                "requestheader-allowed-names: not a JSON",
            ),
            (
                map(&[(USER_HEADERS, "[\"a b\"]")]),
                "\"a b\" is not the name of a header",
            ),
            (map(&[(GROUP_HEADERS, &long)]), "more than 64 entries"),
        ] {
            let error = Trust::from_config_map(&data).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
