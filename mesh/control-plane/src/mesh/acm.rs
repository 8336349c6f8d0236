//! Certificates of AWS Certificate Manager (ACM), which is not there: Kubernetes secrets take their
//! places, mounted into Envoy's container.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Mesh;
use crate::resources::{
    AcmTrust, Certificate, ClientPolicy, ClientTls, FileCertificate, FileTrust, ListenerTls, Trust,
    Validation, VirtualGatewaySpec, VirtualNodeSpec,
};

/// Folder with a folder for each secret, in Envoy's container.
pub const ACM_PATH: &str = "/etc/meshmeter-acm";

/// ARNs at most: more than all certificates of a large mesh.
const ARNS_MAX: usize = 10_000;
/// Longest name of a Kubernetes object, in bytes.
const SECRET_BYTES_MAX: usize = 253;

/// Kubernetes secrets by the ARN of the certificate, or certificate authority, that they stand for.
///
/// A secret has `tls.crt` and `tls.key` for a certificate, and `ca.crt` for an authority, as
/// cert-manager writes them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AcmMap(BTreeMap<String, String>);

// === impl AcmMap ===

impl AcmMap {
    /// Reads YAML: a map of ARNs to names of secrets.
    pub fn parse(text: &str) -> Result<Self, String> {
        let all: BTreeMap<String, String> =
            serde_saphyr::from_str(text).map_err(|error| format!("no map of ARNs: {error}"))?;
        if all.len() > ARNS_MAX {
            return Err(format!("more than {ARNS_MAX} ARNs"));
        }
        for (arn, secret) in &all {
            if !arn.starts_with("arn:") {
                return Err(format!("{arn:?} is not an ARN"));
            }
            if !is_name(secret) {
                return Err(format!("{arn}: {secret:?} is not the name of a secret"));
            }
        }
        Ok(Self(all))
    }

    /// Puts files in the place of the certificates that the map names; others stay.
    pub(super) fn resolve(&self, mesh: &mut Mesh) {
        if self.0.is_empty() {
            return;
        }
        // Most meshes have none, and then no object is copied.
        if mesh.nodes.values().any(|node| has_arns(&Use::of(node))) {
            self.nodes(mesh);
        }
        let mut gateways = mesh.gateways.values();
        if gateways.any(|gateway| has_arns(&Use::of_gateway(gateway))) {
            self.gateways(mesh);
        }
    }

    fn gateways(&self, mesh: &mut Mesh) {
        for gateway in Arc::make_mut(&mut mesh.gateways).values_mut() {
            let listeners = gateway.listeners.iter_mut();
            for tls in listeners.filter_map(|of| of.tls.as_mut()) {
                self.listener(tls);
            }
            let defaults = gateway.backend_defaults.as_mut();
            if let Some(policy) = defaults.and_then(|defaults| defaults.client_policy.as_mut()) {
                self.policy(policy);
            }
        }
    }

    fn nodes(&self, mesh: &mut Mesh) {
        for node in Arc::make_mut(&mut mesh.nodes).values_mut() {
            for tls in node.listeners.iter_mut().filter_map(|of| of.tls.as_mut()) {
                self.listener(tls);
            }
            let defaults = node.backend_defaults.as_mut();
            if let Some(policy) = defaults.and_then(|defaults| defaults.client_policy.as_mut()) {
                self.policy(policy);
            }
            for backend in &mut node.backends {
                if let Some(policy) = &mut backend.virtual_service.client_policy {
                    self.policy(policy);
                }
            }
        }
    }

    fn listener(&self, tls: &mut ListenerTls) {
        if let Certificate::Acm(certificate) = &tls.certificate
            && let Some(secret) = self.0.get(&certificate.arn)
        {
            tls.certificate = Certificate::File(FileCertificate {
                certificate_chain: file(secret, "tls.crt"),
                private_key: file(secret, "tls.key"),
            });
        }
        if let Some(validation) = &mut tls.validation {
            self.validation(validation);
        }
    }

    fn policy(&self, policy: &mut ClientPolicy) {
        if let Some(tls) = &mut policy.tls {
            self.validation(&mut tls.validation);
        }
    }

    fn validation(&self, validation: &mut Validation) {
        if let Trust::Acm(trust) = &validation.trust
            && let Some(secret) = self.common(trust)
        {
            validation.trust = Trust::File(FileTrust {
                certificate_chain: file(secret, "ca.crt"),
            });
        }
    }

    /// The secret of all authorities: Envoy reads one file.
    fn common(&self, trust: &AcmTrust) -> Option<&str> {
        let mut secrets = trust.arns.iter().map(|arn| self.0.get(arn));
        let first = secrets.next()??;
        secrets
            .all(|secret| secret == Some(first))
            .then_some(first.as_str())
    }
}

/// The secrets of [`AcmMap`] that the Envoys of a workload read.
pub fn acm_secrets(node: &VirtualNodeSpec) -> Vec<String> {
    secrets(&Use::of(node))
}

/// The same of a gateway.
pub fn acm_secrets_of_gateway(gateway: &VirtualGatewaySpec) -> Vec<String> {
    secrets(&Use::of_gateway(gateway))
}

/// Where an object uses TLS.
struct Use<'a> {
    listeners: Vec<&'a ListenerTls>,
    policies: Vec<&'a ClientTls>,
}

// === impl Use ===

impl<'a> Use<'a> {
    fn of(node: &'a VirtualNodeSpec) -> Self {
        let listeners = node.listeners.iter();
        let backends = node.backends.iter();
        let own = backends.filter_map(|backend| backend.virtual_service.own_tls());
        Self {
            listeners: listeners.filter_map(|of| of.tls.as_ref()).collect(),
            policies: node.default_tls().into_iter().chain(own).collect(),
        }
    }

    fn of_gateway(gateway: &'a VirtualGatewaySpec) -> Self {
        let listeners = gateway.listeners.iter();
        Self {
            listeners: listeners.filter_map(|of| of.tls.as_ref()).collect(),
            policies: gateway.default_tls().into_iter().collect(),
        }
    }

    fn validations(&self) -> impl Iterator<Item = &'a Validation> {
        let listeners = self.listeners.iter();
        let of_listeners = listeners.filter_map(|tls| tls.validation.as_ref());
        of_listeners.chain(self.policies.iter().map(|tls| &tls.validation))
    }
}

fn secrets(of: &Use<'_>) -> Vec<String> {
    let certificates = of
        .listeners
        .iter()
        .filter_map(|tls| match &tls.certificate {
            Certificate::File(file) => Some(file.certificate_chain.as_str()),
            Certificate::Sds(_) | Certificate::Acm(_) => None,
        });
    let authorities = of.validations().filter_map(|of| match &of.trust {
        Trust::File(file) => Some(file.certificate_chain.as_str()),
        Trust::Sds(_) | Trust::Acm(_) => None,
    });
    let mut secrets: Vec<_> = certificates
        .chain(authorities)
        .filter_map(secret_of)
        .collect();
    secrets.sort();
    secrets.dedup();
    secrets
}

/// The secret of [`AcmMap`] that a certificate is of.
pub fn acm_secret_of(certificate: &Certificate) -> Option<String> {
    match certificate {
        Certificate::File(file) => secret_of(&file.certificate_chain),
        Certificate::Sds(_) | Certificate::Acm(_) => None,
    }
}

/// The same of the authorities that are trusted.
pub fn acm_secret_of_trust(trust: &Trust) -> Option<String> {
    match trust {
        Trust::File(file) => secret_of(&file.certificate_chain),
        Trust::Sds(_) | Trust::Acm(_) => None,
    }
}

fn secret_of(path: &str) -> Option<String> {
    let rest = path.strip_prefix(ACM_PATH)?.strip_prefix('/')?;
    let (secret, _) = rest.split_once('/')?;
    is_name(secret).then(|| secret.to_owned())
}

fn file(secret: &str, name: &str) -> String {
    format!("{ACM_PATH}/{secret}/{name}")
}

fn has_arns(of: &Use<'_>) -> bool {
    let is_of_acm = |tls: &&ListenerTls| matches!(tls.certificate, Certificate::Acm(_));
    let mut validations = of.validations();
    of.listeners.iter().any(is_of_acm)
        || validations.any(|validation| matches!(validation.trust, Trust::Acm(_)))
}

/// A name of a Kubernetes object, which is a path segment, too.
fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().last()];
    text.len() <= SECRET_BYTES_MAX
        && ends.iter().all(|end| end.is_some_and(is_plain))
        && text
            .bytes()
            .all(|byte| is_plain(byte) || b"-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = "arn:aws:acm-pca:us-west-2:111122223333:certificate-authority/1";
    const OTHER: &str = "arn:aws:acm-pca:us-west-2:111122223333:certificate-authority/2";

    #[test]
    fn a_map_is_read_or_refused_by_its_line() {
        for (text, expected) in [
            (format!("{CA}: ca"), None),
            ("{}".to_owned(), None),
            (format!("{CA}: ../ca"), Some("is not the name of a secret")),
            (format!("{CA}: \"\""), Some("is not the name of a secret")),
            ("ca: ca".to_owned(), Some("is not an ARN")),
            (format!("[{CA}]"), Some("no map of ARNs")),
        ] {
            let error = AcmMap::parse(&text).err();
            let is_expected = match (&error, expected) {
                (Some(error), Some(expected)) => error.contains(expected),
                (error, expected) => error.is_none() && expected.is_none(),
            };
            assert!(is_expected, "{text}: {error:?}");
        }
    }

    /// Envoy reads the authorities of one file.
    #[test]
    fn authorities_have_one_secret() {
        let trust = |arns: &[&str]| AcmTrust {
            arns: arns.iter().map(|arn| (*arn).to_owned()).collect(),
        };
        for (map, arns, expected) in [
            (format!("{CA}: ca"), vec![CA], Some("ca")),
            (
                format!("{CA}: ca\n{OTHER}: ca"),
                vec![CA, OTHER],
                Some("ca"),
            ),
            (format!("{CA}: ca\n{OTHER}: cb"), vec![CA, OTHER], None),
            (format!("{CA}: ca"), vec![CA, OTHER], None),
            (format!("{CA}: ca"), vec![], None),
        ] {
            let map = AcmMap::parse(&map).unwrap();
            assert_eq!(map.common(&trust(&arns)), expected, "{arns:?}");
        }
    }

    #[test]
    fn secrets_are_those_of_the_paths() {
        assert_eq!(
            secret_of("/etc/meshmeter-acm/ca/ca.crt"),
            Some("ca".to_owned())
        );
        for path in [
            "/certs/ca.crt",
            "/etc/meshmeter-acm/../x",
            "/etc/meshmeter-acm",
        ] {
            assert_eq!(secret_of(path), None, "{path}");
        }
    }
}
