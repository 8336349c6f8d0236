//! Roles of the client certificate of a connection, verified against each CA separately, and again
//! when trust changes.

use std::sync::Arc;
use std::time::Duration;

use common_time::{Monotonic, Now, UnixMillis};
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::trust::{ClientVerifier, Trust};
use crate::review::User;

/// How long to cache the role on a connection while trust stays the same: certificates expire
/// meanwhile.
const ROLE_TTL: Duration = Duration::from_secs(10);

/// The certificate chain of a client's handshake, which verified only that it has the key.
#[derive(Debug, Default)]
pub(crate) struct PeerCertificates {
    chain: Vec<CertificateDer<'static>>,
    /// Locked only to copy or replace.
    cached: Mutex<Option<CachedRole>>,
}

/// Roles of a client certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct CertificateRole {
    /// True if it may name users in headers.
    pub(crate) front_proxy: bool,
    /// The user it authenticates.
    pub(crate) client: Option<User>,
}

#[derive(Clone, Debug)]
struct CachedRole {
    trust: Arc<Trust>,
    at: Monotonic,
    role: Arc<CertificateRole>,
}

/// Contents of the client's own certificate.
struct Subject {
    common_name: String,
    organizations: Vec<String>,
    /// True if its extended key usage allows client authentication explicitly.
    client_auth: bool,
}

// === impl PeerCertificates ===

impl PeerCertificates {
    /// The certificates of a finished handshake, the client's own first.
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self {
            chain,
            cached: Mutex::default(),
        }
    }

    /// True if the client sent a certificate.
    pub(crate) fn is_some(&self) -> bool {
        !self.chain.is_empty()
    }

    /// Their role under `trust`.
    pub(crate) fn role(&self, trust: &Arc<Trust>, now: Now) -> Arc<CertificateRole> {
        let cached = self.cached.lock().clone();
        if let Some(cached) = cached {
            let fresh = now.monotonic.since(cached.at) < ROLE_TTL;
            if fresh && Arc::ptr_eq(&cached.trust, trust) {
                return cached.role;
            }
        }
        let role = Arc::new(role_of(&self.chain, trust, now.wall));
        *self.cached.lock() = Some(CachedRole {
            trust: Arc::clone(trust),
            at: now.monotonic,
            role: Arc::clone(&role),
        });
        role
    }
}

fn role_of(chain: &[CertificateDer<'static>], trust: &Trust, now: UnixMillis) -> CertificateRole {
    let nobody = CertificateRole::default();
    let Some((own, intermediates)) = chain.split_first() else {
        return nobody;
    };
    let Some(subject) = subject(own).filter(|subject| subject.client_auth) else {
        return nobody;
    };
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
    let issued_by = |ca: &ClientVerifier| ca.verify_client_cert(own, intermediates, now).is_ok();
    let front_proxy = trust.front_proxy.as_ref().is_some_and(|proxy| {
        let names = &proxy.allowed_names;
        (names.is_empty() || names.contains(&subject.common_name)) && issued_by(&proxy.ca)
    });
    let is_client =
        !subject.common_name.is_empty() && trust.clients.as_ref().is_some_and(issued_by);
    CertificateRole {
        front_proxy,
        client: is_client.then(|| User {
            name: subject.common_name,
            groups: subject.organizations,
            ..User::default()
        }),
    }
}

/// `None` if the certificate cannot be parsed: it then has no role. Of several common names the
/// last counts, as in Go.
fn subject(certificate: &CertificateDer<'_>) -> Option<Subject> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let usage = parsed.extended_key_usage().ok()??;
    let subject = parsed.subject();
    let common_name = match subject.iter_common_name().last() {
        Some(name) => name.as_str().ok()?,
        None => "",
    };
    let organizations = subject
        .iter_organization()
        .map(|name| name.as_str().map(str::to_owned))
        .collect::<Result<_, _>>()
        .ok()?;
    Some(Subject {
        common_name: common_name.to_owned(),
        organizations,
        client_auth: usage.value.client_auth || usage.value.any,
    })
}
