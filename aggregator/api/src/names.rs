//! Validates names of Kubernetes objects.

/// Bytes of a namespace's name: a DNS label (RFC 1123).
const LABEL_BYTES_MAX: usize = 63;

/// Bytes of a pod's name: a DNS subdomain (RFC 1123).
const SUBDOMAIN_BYTES_MAX: usize = 253;

const LABEL_RULE: &str =
    "at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit";
const SUBDOMAIN_RULE: &str = "at most 253 lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit";

/// The rule for names of namespaces, if `name` breaks it.
pub fn namespace_fault(name: &str) -> Option<&'static str> {
    let valid = name.len() <= LABEL_BYTES_MAX && is_label(name);
    (!valid).then_some(LABEL_RULE)
}

/// The rule for names of pods, if `name` breaks it.
pub fn pod_name_fault(name: &str) -> Option<&'static str> {
    let valid = name.len() <= SUBDOMAIN_BYTES_MAX && name.split('.').all(is_label);
    (!valid).then_some(SUBDOMAIN_RULE)
}

/// The rule for names of services, if `name` breaks it.
pub fn service_name_fault(name: &str) -> Option<&'static str> {
    namespace_fault(name)
}

fn is_label(name: &str) -> bool {
    let is_allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !name.is_empty()
        && name.bytes().all(is_allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kubernetes would not create is not looked up either.
    #[test]
    fn knows_possible_names() {
        for (name, namespace, pod) in [
            ("prod", true, true),
            ("web-0", true, true),
            ("n1.example", false, true),
            ("", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("a..b", false, false),
            ("Prod", false, false),
            ("a/b", false, false),
        ] {
            assert_eq!(
                namespace_fault(name).is_none(),
                namespace,
                "namespace {name}"
            );
            assert_eq!(pod_name_fault(name).is_none(), pod, "pod {name}");
        }
        assert!(namespace_fault(&"n".repeat(64)).is_some());
        assert!(pod_name_fault(&"n".repeat(254)).is_some());
    }
}
