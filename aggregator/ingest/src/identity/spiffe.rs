//! SPIFFE identities in client certificates: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, as
//! service meshes issue them, proves the namespace; `spiffe://TRUST-DOMAIN/ns/NAMESPACE/pod/NAME`
//! the pod.

use aggregator_core::pod::PodKey;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::{Claim, unauthenticated};
use crate::close_reason::Refusal;

/// The claim that `certificate` proves within `trust_domain`.
pub(super) fn claim(
    certificate: &CertificateDer<'_>,
    trust_domain: &str,
) -> Result<Claim, Refusal> {
    let uri = uri(certificate)
        .ok_or_else(|| unauthenticated("the client certificate has no SPIFFE identity"))?;
    let refused = |why: &str| Err(Refusal::NotItsPod(format!("the identity {uri} {why}")));
    let Some((domain, path)) = uri
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.split_once('/'))
    else {
        return refused("is not a SPIFFE ID");
    };
    if domain != trust_domain {
        return refused(&format!("is not in the trust domain {trust_domain}"));
    }
    let segments: Vec<&str> = path.split('/').collect();
    match segments[..] {
        ["ns", namespace, "sa", _] => Ok(Claim::Namespace(namespace.to_owned())),
        ["ns", namespace, "pod", name] => Ok(Claim::Pod {
            pod: PodKey::new(namespace, name),
            uid: String::new(),
        }),
        _ => refused(
            "names neither a service account (ns/NAMESPACE/sa/ACCOUNT) nor a pod (ns/NAMESPACE/pod/NAME)",
        ),
    }
}

/// The one URI of the certificate: a SPIFFE certificate has exactly one (X509-SVID, section 2).
fn uri(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
    let uri = uris.next()?;
    uris.next().is_none().then_some(uri)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let name = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        params.subject_alt_names = uris.iter().map(name).collect();
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    /// Accounts prove a namespace, pods themselves, and everything else nothing.
    #[test]
    fn proves_what_it_says() {
        let domain = "cluster.local";
        let account = certificate(&["spiffe://cluster.local/ns/prod/sa/jazz"]);
        let proved = claim(&account, domain).unwrap();
        assert_eq!(proved, Claim::Namespace("prod".to_owned()));
        let pod = certificate(&["spiffe://cluster.local/ns/prod/pod/jazz-1"]);
        assert!(matches!(claim(&pod, domain).unwrap(), Claim::Pod { .. }));
        for (uris, reason) in [
            (&["spiffe://other/ns/prod/sa/jazz"][..], "foreign_pod"),
            (&["spiffe://cluster.local/prod/jazz"], "foreign_pod"),
            (&["https://cluster.local/ns/prod/sa/jazz"], "foreign_pod"),
            (&[], "unauthenticated"),
            (
                &[
                    "spiffe://cluster.local/ns/a/sa/b",
                    "spiffe://cluster.local/ns/b/sa/b",
                ],
                "unauthenticated",
            ),
        ] {
            let refused = claim(&certificate(uris), domain).unwrap_err();
            assert_eq!(refused.reason(), reason, "{uris:?}");
        }
    }
}
