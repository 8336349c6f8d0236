//! The client certificate of a connection, judged against each CA separately and again when trust
//! changes.

use std::sync::Arc;
use std::time::Duration;

use common_time::{Monotonic, Now, UnixMillis};
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::trust::{ClientVerifier, Trust};
use crate::review::User;

/// How long a judgement holds on a connection while trust stays the same: certificates expire
/// meanwhile.
const JUDGEMENT_TTL: Duration = Duration::from_secs(10);

/// The certificates that a client showed in its handshake. That it holds the key was verified
/// there, and nothing else.
#[derive(Debug, Default)]
pub(crate) struct PeerCertificates {
    chain: Vec<CertificateDer<'static>>,
    /// Guards the last judgement; held only to copy or replace it.
    judged: Mutex<Option<Judged>>,
}

/// What a client certificate is good for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct CertificateRole {
    /// It may speak for others.
    pub(crate) front_proxy: bool,
    /// It speaks for this user.
    pub(crate) client: Option<User>,
}

#[derive(Clone, Debug)]
struct Judged {
    trust: Arc<Trust>,
    at: Monotonic,
    standing: Arc<CertificateRole>,
}

/// What the client's own certificate says.
struct Subject {
    common_name: String,
    organizations: Vec<String>,
    /// True if it is meant for clients, expressly.
    client_auth: bool,
}

// === impl PeerCertificates ===

impl PeerCertificates {
    /// The certificates of a finished handshake, the client's own first.
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self {
            chain,
            judged: Mutex::default(),
        }
    }

    /// True if the client showed any.
    pub(crate) fn is_some(&self) -> bool {
        !self.chain.is_empty()
    }

    /// What they are good for under `trust`.
    pub(crate) fn standing(&self, trust: &Arc<Trust>, now: Now) -> Arc<CertificateRole> {
        let held = self.judged.lock().clone();
        if let Some(held) = held {
            let fresh = now.monotonic.since(held.at) < JUDGEMENT_TTL;
            if fresh && Arc::ptr_eq(&held.trust, trust) {
                return held.standing;
            }
        }
        let standing = Arc::new(judge(&self.chain, trust, now.wall));
        *self.judged.lock() = Some(Judged {
            trust: Arc::clone(trust),
            at: now.monotonic,
            standing: Arc::clone(&standing),
        });
        standing
    }
}

fn judge(chain: &[CertificateDer<'static>], trust: &Trust, now: UnixMillis) -> CertificateRole {
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

/// `None` if the certificate cannot be read; it then is good for nothing. Of several common names
/// the last counts, as in Go.
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
