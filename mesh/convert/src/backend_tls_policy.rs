//! A `BackendTLSPolicy`: whose certificates are trusted, and the names that they have to have.

use std::net::IpAddr;

use mesh_control_plane::mesh::{Key, acm_secret_of_trust};
use mesh_control_plane::resources::Trust;
use serde_json::{Value, json};

use crate::finding::Lack;
use crate::hostnames;
use crate::routes::GROUP;

/// Names of the certificate at most.
const NAMES_MAX: usize = 5;

/// Longest URI in a certificate, in bytes.
const URI_BYTES_MAX: usize = 253;

/// The field with the names, from the policy on.
const NAMES: &str = ".validation.subjectAlternativeNames";

#[derive(Debug)]
pub(crate) struct BackendTlsPolicy<'a> {
    service: &'a Key,
    /// Item of `caCertificateRefs`.
    authority: Value,
    /// The name that is asked for (SNI), and that the certificate has to have if it needs no other.
    hostname: String,
    /// Items of `subjectAltNames`.
    names: Vec<Value>,
}

// === impl BackendTlsPolicy ===

impl<'a> BackendTlsPolicy<'a> {
    /// Of a Service whose certificate has one of `names`, or else `discovered`, its name in service
    /// discovery. `None` if the name cannot be said. Fields are from the client policy on.
    pub(crate) fn of(
        service: &'a Key,
        trust: &Trust,
        (names, discovered): (&[String], &str),
        find: &mut impl FnMut(Lack, &str, &str),
    ) -> Option<Self> {
        let (said, unsaid) = said(names);
        let sni = discovered.to_ascii_lowercase();
        let Key { namespace, name } = service;
        let is_precise = hostnames::is_precise(&sni);
        let first = said.iter().find_map(|name| name["hostname"].as_str());
        let hostname = match first {
            _ if is_precise => sni,
            Some(first) => {
                let why = format!(
                    "the server name (SNI) in calls to the Service {namespace}/{name} is {first}, and was {discovered}, which Gateway API does not take"
                );
                find(Lack::Different, NAMES, &why);
                first.to_owned()
            }
            None => String::new(),
        };
        let is_nameless = said.is_empty() && !names.is_empty();
        if is_nameless || hostname.is_empty() {
            let why = format!(
                "no BackendTLSPolicy of the Service {namespace}/{name} is printed for it: none of the names of the certificate can be said"
            );
            find(Lack::NotConverted, NAMES, &why);
            return None;
        }
        for (unsaid, taken) in unsaid {
            let why = format!(
                "a certificate of the Service {namespace}/{name} that has no name but {unsaid} is refused: Gateway API takes {taken}"
            );
            find(Lack::Different, NAMES, &why);
        }
        let is_default = said.iter().all(|name| name["hostname"] == hostname);
        Some(Self {
            service,
            authority: authority(service, trust, find),
            hostname,
            // Without any it is the host name, which all implementations take.
            names: if is_default { Vec::new() } else { said },
        })
    }

    /// For a port, by its name, or for all ports.
    pub(crate) fn document(&self, section: Option<&String>) -> Value {
        let Key { namespace, name } = self.service;
        let mut target = json!({"group": "", "kind": "Service", "name": name});
        // A Service has no dots in its name.
        let mut own_name = name.clone();
        if let Some(section) = section {
            target["sectionName"] = json!(section);
            own_name = format!("{name}.{section}");
        }
        let mut validation = json!({
            "caCertificateRefs": [self.authority],
            "hostname": self.hostname,
        });
        if !self.names.is_empty() {
            validation["subjectAltNames"] = json!(self.names);
        }
        json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "BackendTLSPolicy",
            "metadata": {"name": own_name, "namespace": namespace},
            "spec": {"targetRefs": [target], "validation": validation},
        })
    }
}

/// Items of `subjectAltNames`, and the names that are none of them, with what is taken instead.
fn said(names: &[String]) -> (Vec<Value>, Vec<(&String, String)>) {
    let (mut said, mut unsaid) = (Vec::new(), Vec::new());
    for name in names {
        match alternative_name(name) {
            None => unsaid.push((name, "names of hosts and URIs alone".to_owned())),
            Some(value) if said.contains(&value) => {}
            Some(_) if said.len() == NAMES_MAX => {
                unsaid.push((name, format!("{NAMES_MAX} names at most")));
            }
            Some(value) => said.push(value),
        }
    }
    (said, unsaid)
}

/// `None` if Gateway API does not take it.
fn alternative_name(name: &str) -> Option<Value> {
    if let Some((scheme, rest)) = name.split_once("://") {
        let is_uri = !scheme.is_empty()
            && !scheme.contains([':', '/', '?', '#'])
            && !rest.is_empty()
            && name.len() <= URI_BYTES_MAX;
        return is_uri.then(|| json!({"type": "URI", "uri": name}));
    }
    let host = name.to_ascii_lowercase();
    let is_host = name.parse::<IpAddr>().is_err() && hostnames::is_precise(&host);
    is_host.then(|| json!({"type": "Hostname", "hostname": host}))
}

/// Where the certificate authorities are, in the namespace of the Service.
fn authority(service: &Key, trust: &Trust, find: &mut impl FnMut(Lack, &str, &str)) -> Value {
    let Key { namespace, name } = service;
    if let Some(secret) = acm_secret_of_trust(trust) {
        let why = format!(
            "ca.crt is taken from the Secret {namespace}/{secret}, which is up to the implementation: all take a ConfigMap"
        );
        find(Lack::Unspecified, ".validation.trust.acm", &why);
        return json!({"group": "", "kind": "Secret", "name": secret});
    }
    let config_map = format!("{name}-ca");
    let (field, from) = match trust {
        Trust::File(file) => ("file", file.certificate_chain.clone()),
        Trust::Sds(sds) => ("sds", sds.secret_name.clone()),
        Trust::Acm(trust) => ("acm", trust.arns.join(", ")),
    };
    let why = format!(
        "Gateway API takes certificate authorities from objects of the cluster alone: make the ConfigMap {namespace}/{config_map} with ca.crt from {from}"
    );
    find(
        Lack::NotConverted,
        &format!(".validation.trust.{field}"),
        &why,
    );
    json!({"group": "", "kind": "ConfigMap", "name": config_map})
}

#[cfg(test)]
mod tests {
    use mesh_control_plane::resources::FileTrust;

    use super::*;

    /// Names of the policy and of service discovery, `hostname` and `subjectAltNames`, and the
    /// number of findings about names.
    #[test]
    fn names_are_those_of_the_certificate() {
        let long = format!("spiffe://example.com/{}", "a".repeat(URI_BYTES_MAX));
        let (a, uri) = ("a.example.com", "spiffe://example.com/a");
        let none: &[&str] = &[];
        let many: &[&str] = &["a", "b", "c", "d", "e", "f", "A"];
        for (names, discovered, expected, findings) in [
            (none, "one.prod", Some(("one.prod", none)), 0),
            (none, "One.Prod", Some(("one.prod", none)), 0),
            (&["one.prod"], "one.prod", Some(("one.prod", none)), 0),
            (&["ONE.prod"], "one.prod", Some(("one.prod", none)), 0),
            (&[a], "one.prod", Some(("one.prod", &[a])), 0),
            (
                &[uri, "one.prod"],
                "one.prod",
                Some(("one.prod", &[uri, "one.prod"])),
                0,
            ),
            // Another server name is asked for.
            (&[uri, a], "one_1.prod", Some((a, &[uri, a])), 1),
            (&[a], "one_1.prod", Some((a, none)), 1),
            // Names that Gateway API does not take.
            (
                &[a, "*.prod", "10.0.0.1", &long],
                "one.prod",
                Some(("one.prod", &[a])),
                3,
            ),
            (many, "one.prod", Some(("one.prod", &many[..5])), 1),
            (&["*.prod"], "one.prod", None, 1),
            (&[uri], "one_1.prod", None, 1),
            (none, "one_1.prod", None, 1),
        ] {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let service = Key::new("prod", "one");
            let trust = Trust::File(FileTrust {
                certificate_chain: "/ca.crt".to_owned(),
            });
            let mut found = 0;
            let mut find = |_: Lack, field: &str, _: &str| found += usize::from(field == NAMES);
            let policy = BackendTlsPolicy::of(&service, &trust, (&names, discovered), &mut find);
            assert_eq!(found, findings, "{names:?}, {discovered}");
            let said = policy.map(|policy| {
                let names = policy.names.iter();
                let names = names.map(|name| name["uri"].as_str().or(name["hostname"].as_str()));
                let names = names.map(|name| name.unwrap_or_default().to_owned());
                (policy.hostname.clone(), names.collect::<Vec<_>>())
            });
            let expected = expected.map(|(hostname, names): (&str, &[&str])| {
                let names = names.iter().map(|name| (*name).to_owned());
                (hostname.to_owned(), names.collect::<Vec<_>>())
            });
            assert_eq!(said, expected, "{names:?}, {discovered}");
        }
    }
}
