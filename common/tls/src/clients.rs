//! Which client certificates a handshake takes.

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

/// Takes any certificate, or none, whoever signed it; that the client holds its key is verified. As
/// Go's `RequestClientCert`: only afterwards it can be told which CA a certificate belongs to.
#[derive(Debug)]
struct Any(WebPkiSupportedAlgorithms);

/// A verifier that takes any certificate, or none. What it is good for must be judged later.
pub fn any() -> Arc<dyn ClientCertVerifier> {
    let provider = ring::default_provider();
    Arc::new(Any(provider.signature_verification_algorithms))
}

/// The CAs in a file, believed as it changes.
#[derive(Debug)]
pub struct WatchedClientCas {
    path: PathBuf,
    read: String,
    believed: Arc<Believed>,
}

/// A verifier that can be swapped while it is used.
#[derive(Debug)]
struct Believed(RwLock<Arc<dyn ClientCertVerifier>>);

/// A verifier that wants a certificate of one of the CAs in `pem`.
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
    /// Reads the file for the first time.
    pub fn load(path: &Path) -> Result<Self, TlsError> {
        let read = files::text(path)?;
        let verifier = of_ca(&read, &path.display().to_string())?;
        Ok(Self {
            path: path.to_owned(),
            read,
            believed: Arc::new(Believed(RwLock::new(verifier))),
        })
    }

    /// Wants a certificate of one of the CAs that are in the file by then.
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.believed) as Arc<dyn ClientCertVerifier>
    }

    /// Reads the file again; true if it changed and is believed now. If it cannot be used, what was
    /// believed stays.
    pub fn reload(&mut self) -> Result<bool, TlsError> {
        let read = files::text(&self.path)?;
        if read == self.read {
            return Ok(false);
        }
        let verifier = of_ca(&read, &self.path.display().to_string())?;
        let mut believed = self.believed.0.write();
        *believed = verifier;
        self.read = read;
        Ok(true)
    }

    /// Reads it again and again until `stop`.
    pub async fn follow(mut self, stop: CancellationToken) {
        let file = self.path.display().to_string();
        files::again(&file, stop, || self.reload()).await;
    }
}

// === impl Believed ===

impl Believed {
    fn now(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0.read())
    }
}

impl ClientCertVerifier for Believed {
    /// None: a hint cannot change with the file, and clients do without one.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.now().verify_client_cert(own, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now()
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now()
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.now().supported_verify_schemes()
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
