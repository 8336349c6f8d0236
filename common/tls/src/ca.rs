//! A CA of our own: for API certificates that kube-apiserver verifies by the `caBundle` of the
//! `APIService`.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::reloadable_cert::TlsError;

/// How long a CA is valid: it is replaced by deleting its secret.
const CA_VALID: Duration = Duration::days(3650);

/// How long a certificate is valid. It is reissued each day.
const CERTIFICATE_VALID: Duration = Duration::days(90);

/// Certificates are valid from this long before now, for peers whose clocks are behind.
const LEEWAY: Duration = Duration::hours(1);

/// The same for a CA, which is not reissued after our clock, if it was ahead, has been corrected.
const CA_LEEWAY: Duration = Duration::days(365);

/// A CA's certificate and key.
#[derive(Debug)]
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    key: String,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

// === impl CertificateAuthority ===

impl CertificateAuthority {
    /// A new CA called `name`.
    pub fn new(name: &str) -> Result<Self, TlsError> {
        let failed = |source| TlsError::Make {
            names: name.to_owned(),
            source,
        };
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        valid_for(&mut params, CA_LEEWAY, CA_VALID);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Self {
            certificate,
            key: key.serialize_pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The CA of `certificate` and `key` (PEM).
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let failed = |source| TlsError::Make {
            names: "a CA".to_owned(),
            source,
        };
        let pair = KeyPair::from_pem(key).map_err(failed)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(certificate, pair).map_err(failed)?,
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, PEM.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A new server certificate for `names` (DNS names and IP addresses).
    pub fn issue(&self, names: &[String]) -> Result<Issued, TlsError> {
        let failed = |source| TlsError::Make {
            names: names.join(", "),
            source,
        };
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        if let Some(name) = names.first() {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        valid_for(&mut params, LEEWAY, CERTIFICATE_VALID);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a certificate is made for now, which no core decides upon"
)]
fn valid_for(params: &mut CertificateParams, leeway: Duration, duration: Duration) {
    let now = OffsetDateTime::from(std::time::SystemTime::now());
    params.not_before = now - leeway;
    params.not_after = now + duration;
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::crypto::ring;
    use rustls::pki_types::{ServerName, UnixTime};
    use std::sync::Arc;
    use x509_parser::certificate::X509Certificate;
    use x509_parser::prelude::FromDer as _;

    use super::*;
    use crate::reloadable_cert::certificates;

    fn verifies(ca: &str, issued: &Issued, name: &'static str) -> bool {
        verifies_at(UnixTime::now(), ca, issued, name)
    }

    fn verifies_at(now: UnixTime, ca: &str, issued: &Issued, name: &'static str) -> bool {
        let mut roots = RootCertStore::empty();
        for root in certificates(ca, "ca").unwrap() {
            roots.add(root).unwrap();
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let chain = certificates(&issued.certificate, "leaf").unwrap();
        let name = ServerName::try_from(name).unwrap();
        let verifier = verifier.build().unwrap();
        verifier
            .verify_server_cert(&chain[0], &[], &name, &[], now)
            .is_ok()
    }

    /// A CA outlives a step of the clock by months, and a certificate one by minutes.
    #[test]
    fn clocks_may_be_behind() {
        let now = UnixTime::now().as_secs();
        let before =
            |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(now - seconds));
        let ca = CertificateAuthority::new("meshmeter").unwrap();
        let issued = ca.issue(&["a".to_owned()]).unwrap();
        let (pem, hour) = (ca.certificate(), 60 * 60);
        assert!(verifies_at(before(hour / 2), pem, &issued, "a"));
        assert!(!verifies_at(before(2 * hour), pem, &issued, "a"));
        let chain = certificates(pem, "ca").unwrap();
        let (_, parsed) = X509Certificate::from_der(&chain[0]).unwrap();
        let begins = parsed.validity().not_before.timestamp();
        assert!(begins < i64::try_from(now - 360 * 24 * hour).unwrap());
    }

    /// A CA that was stored and read again issues what its certificate vouches for, for its names
    /// only.
    #[test]
    fn issues_after_a_restart() {
        let made = CertificateAuthority::new("meshmeter").unwrap();
        let read = CertificateAuthority::from_pem(made.certificate(), made.key()).unwrap();
        let issued = read.issue(&["meshmeter.mesh.svc".to_owned()]).unwrap();
        assert!(verifies(made.certificate(), &issued, "meshmeter.mesh.svc"));
        assert!(!verifies(made.certificate(), &issued, "other.mesh.svc"));
        let other = CertificateAuthority::new("meshmeter").unwrap();
        assert!(!verifies(
            other.certificate(),
            &issued,
            "meshmeter.mesh.svc"
        ));
    }
}
