//! Certificates of a test: a CA and whom it vouches for.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate CA; its key never leaves memory.
#[derive(Debug)]
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
}

/// A certificate and its key, PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

// === impl CertificateAuthority ===

impl CertificateAuthority {
    /// A new CA called `name`.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).context("certificate parameters")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().context("generate a key")?;
        let certificate = params.self_signed(&key).context("sign the CA")?;
        let pem = certificate.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// A server called `names` (DNS names and addresses).
    pub fn server(&self, names: &[&str]) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).context("names of a server")?;
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client with this common name and these organisations: user and groups.
    pub fn client(&self, common_name: &str, organisations: &[&str]) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::new()).context("certificate parameters")?;
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        for organisation in organisations {
            params
                .distinguished_name
                .push(DnType::OrganizationName, *organisation);
        }
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A certificate for servers alone, with the common name of a client.
    pub fn server_as(&self, common_name: &str) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::new()).context("certificate parameters")?;
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A workload of a mesh, by its SPIFFE identity.
    pub fn workload(&self, uri: &str) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::new()).context("certificate parameters")?;
        let name = uri.try_into().context("a SPIFFE identity")?;
        params.subject_alt_names = vec![SanType::URI(name)];
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity> {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().context("generate a key")?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .context("sign a certificate")?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

// === impl Identity ===

impl Identity {
    pub fn to_rustls(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let certificates = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).context("read a key")?;
        Ok((certificates, key))
    }
}

/// The certificates in `pem`.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    let certificates: Result<Vec<_>, _> = certificates.collect();
    certificates.context("read certificates")
}
