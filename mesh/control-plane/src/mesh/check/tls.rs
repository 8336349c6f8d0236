//! Checks TLS: Envoy rejects a listener or cluster with a path or name that it cannot use.

use crate::resources::{AcmTrust, Certificate, ClientTls, ListenerTls, Trust, Validation};

/// Longest path, in bytes, as in App Mesh's schema.
const PATH_BYTES_MAX: usize = 255;
/// Longest name of a secret, or of a certificate, in bytes: that of a SPIFFE ID.
const NAME_BYTES_MAX: usize = 2_048;
/// Names of a certificate at most, and ports of a policy at most.
const NAMES_MAX: usize = 100;
/// Certificate authorities of ACM at most, as in App Mesh's schema.
const AUTHORITIES_MAX: usize = 3;

pub(super) fn listener_fault(tls: Option<&ListenerTls>) -> Option<String> {
    of_listener(tls?).map(|why| format!("tls.{why}"))
}

fn of_listener(tls: &ListenerTls) -> Option<String> {
    certificate_fault(&tls.certificate).or_else(|| validation_fault(tls.validation.as_ref()?))
}

/// `policy` of calls; the fault names its field from the policy on.
pub(super) fn client_fault(policy: &ClientTls) -> Option<String> {
    let certificate = match policy.certificate.as_ref() {
        Some(Certificate::Acm(_)) => Some(
            "certificate.acm: App Mesh has no certificates of ACM for clients: use file or sds"
                .to_owned(),
        ),
        certificate => certificate.and_then(certificate_fault),
    };
    certificate
        .or_else(|| validation_fault(&policy.validation))
        .or_else(|| {
            let ports = &policy.ports;
            if ports.len() > NAMES_MAX {
                return Some(format!("ports: more than {NAMES_MAX} ports"));
            }
            ports.contains(&0).then(|| "ports: 0 is no port".to_owned())
        })
}

fn certificate_fault(certificate: &Certificate) -> Option<String> {
    match certificate {
        Certificate::File(file) => {
            let field = "certificate.file";
            path_fault(field, "certificateChain", &file.certificate_chain)
                .or_else(|| path_fault(field, "privateKey", &file.private_key))
        }
        Certificate::Sds(secret) => text_fault("certificate.sds.secretName", &secret.secret_name),
        Certificate::Acm(certificate) => Some(unmapped(
            "certificate.acm.certificateARN",
            &format!("{} has no secret", certificate.arn),
        )),
    }
}

fn validation_fault(validation: &Validation) -> Option<String> {
    let of_trust = match &validation.trust {
        Trust::File(file) => {
            let field = "validation.trust.file";
            path_fault(field, "certificateChain", &file.certificate_chain)
        }
        Trust::Sds(secret) => text_fault("validation.trust.sds.secretName", &secret.secret_name),
        Trust::Acm(trust) => Some(authorities_fault(trust)),
    };
    of_trust.or_else(|| {
        let names = &validation.subject_alternative_names.as_ref()?.r#match.exact;
        let field = "validation.subjectAlternativeNames.match.exact";
        if names.is_empty() || names.len() > NAMES_MAX {
            let count = names.len();
            return Some(format!(
                "{field}: {count} names, 1 to {NAMES_MAX} are taken"
            ));
        }
        names.iter().find_map(|name| text_fault(field, name))
    })
}

fn authorities_fault(trust: &AcmTrust) -> String {
    let field = "validation.trust.acm.certificateAuthorityARNs";
    let count = trust.arns.len();
    if !(1..=AUTHORITIES_MAX).contains(&count) {
        return format!("{field}: {count} ARNs, 1 to {AUTHORITIES_MAX} are taken");
    }
    unmapped(
        field,
        &format!("{} have no secret in common", trust.arns.join(", ")),
    )
}

/// Says what stands in for ACM.
fn unmapped(field: &str, what: &str) -> String {
    format!("{field}: {what}: there is no ACM here, name a Kubernetes secret for it in --acm-map")
}

fn path_fault(parent: &str, field: &str, path: &str) -> Option<String> {
    let is_path = path.starts_with('/') && path.len() <= PATH_BYTES_MAX;
    (!is_path || path.contains(char::is_control)).then(|| {
        format!(
            "{parent}.{field}: {path:?} is not an absolute path of at most {PATH_BYTES_MAX} bytes in Envoy's container"
        )
    })
}

fn text_fault(field: &str, text: &str) -> Option<String> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        let bytes = text.len();
        return Some(format!(
            "{field}: a name of {bytes} bytes, 1 to {NAME_BYTES_MAX} are taken"
        ));
    }
    let is_invalid = |c: char| c.is_control() || c.is_whitespace();
    text.contains(is_invalid)
        .then(|| format!("{field}: {text:?} is not a name"))
}
