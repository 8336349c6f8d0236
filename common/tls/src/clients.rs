//! Verifiers of client certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use tokio_util::sync::CancellationToken;

use crate::files;
use crate::reloadable_cert::{TlsError, certificates};

/// Accepts any certificate by any issuer, or none; verifies only that the client has the key. Like
/// Go's `RequestClientCert`: the issuer is verified after the handshake.
#[derive(Debug)]
struct Any(WebPkiSupportedAlgorithms);

/// A verifier that accepts any certificate, or none. The caller must verify the issuer later.
pub fn any() -> Arc<dyn ClientCertVerifier> {
    let provider = ring::default_provider();
    Arc::new(Any(provider.signature_verification_algorithms))
}

/// A CA file that is reloaded when it changes.
#[derive(Debug)]
pub struct WatchedClientCas {
    path: PathBuf,
    read: String,
    verifier: Arc<ReloadableVerifier>,
}

/// A verifier that can be swapped while it is used.
#[derive(Debug)]
struct ReloadableVerifier(RwLock<Arc<dyn ClientCertVerifier>>);

/// A verifier that requires a certificate by one of the CAs in `pem`.
fn of_ca(pem: &str, what: &str) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, what)? {
        roots.add(certificate)?;
    }
    let provider = Arc::new(ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = builder.build().map_err(|source| TlsError::NoCa {
        what: what.to_owned(),
        source,
    })?;
    Ok(verifier)
}

// === impl WatchedClientCas ===

impl WatchedClientCas {
    pub fn load(path: &Path) -> Result<Self, TlsError> {
        let read = files::text(path)?;
        let verifier = of_ca(&read, &path.display().to_string())?;
        Ok(Self {
            path: path.to_owned(),
            read,
            verifier: Arc::new(ReloadableVerifier(RwLock::new(verifier))),
        })
    }

    /// A verifier that requires a certificate by one of the CAs last loaded.
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier) as Arc<dyn ClientCertVerifier>
    }

    /// Reloads the file; true if it changed. On an error the previous CAs stay in use.
    pub fn reload(&mut self) -> Result<bool, TlsError> {
        let read = files::text(&self.path)?;
        if read == self.read {
            return Ok(false);
        }
        let verifier = of_ca(&read, &self.path.display().to_string())?;
        *self.verifier.0.write() = verifier;
        self.read = read;
        Ok(true)
    }

    /// Reloads it on changes until `stop`.
    pub async fn follow(mut self, stop: CancellationToken) {
        let file = self.path.display().to_string();
        files::poll(&file, stop, || self.reload()).await;
    }
}

// === impl ReloadableVerifier ===

impl ReloadableVerifier {
    fn current(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0.read())
    }
}

impl ClientCertVerifier for ReloadableVerifier {
    /// Empty: the returned slice could not change with the file, and clients work without hints.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.current().verify_client_cert(own, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current()
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current()
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current().supported_verify_schemes()
    }
}

// === impl Any ===

impl ClientCertVerifier for Any {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};

    use super::*;
    use crate::CertificateAuthority;

    /// The certificate of a client of `ca`.
    fn client(ca: &CertificateAuthority) -> CertificateDer<'static> {
        let key = KeyPair::from_pem(ca.key()).unwrap();
        let issuer = Issuer::from_ca_cert_pem(ca.certificate(), key).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let own = KeyPair::generate().unwrap();
        params.signed_by(&own, &issuer).unwrap().der().clone()
    }

    /// Whom a file's CAs sign is believed as the file changes; one that cannot be read changes
    /// nothing.
    #[test]
    fn believes_the_file_as_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let [old, new] = ["old", "new"].map(|name| CertificateAuthority::new(name).unwrap());
        fs::write(&file, old.certificate()).unwrap();
        let mut followed = WatchedClientCas::load(&file).unwrap();
        let verifier = followed.verifier();
        let [of_old, of_new] = [&old, &new].map(client);
        let known = |own: &CertificateDer<'_>| {
            let outcome = verifier.verify_client_cert(own, &[], UnixTime::now());
            outcome.is_ok()
        };
        assert_eq!((known(&of_old), known(&of_new)), (true, false));
        assert!(!followed.reload().unwrap());
        fs::write(&file, "garbage").unwrap();
        assert!(followed.reload().is_err());
        assert_eq!((known(&of_old), known(&of_new)), (true, false));
        fs::write(&file, new.certificate()).unwrap();
        assert!(followed.reload().unwrap());
        assert_eq!((known(&of_old), known(&of_new)), (false, true));
    }
}
