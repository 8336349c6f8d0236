//! TLS of calls: what an Envoy of App Mesh asks of certificates, beside the policies printed.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use mesh_control_plane::envoy::{CLUSTER, Ports, Snapshot};
use mesh_convert::{Channel, Conversion, Lack};
use prost::Message as _;
use serde_json::Value;

use crate::schemas::read_strictly;
use crate::{converted, read};

pub(crate) const TLS: &str = include_str!("../fixtures/tls.yaml");

/// Service and port, server name, and names of which the certificate has to have one.
type Asked = (String, String, BTreeSet<String>);

/// By the clusters of the caller.
fn of_envoy(caller: &str) -> BTreeSet<Asked> {
    let (report, meshes) = read(TLS);
    assert!(!report.refuses(), "{report:?}");
    let workload = meshes.node_of(caller).unwrap();
    let snapshot = Snapshot::new(&workload, &Ports::default());
    let clusters = snapshot.of(CLUSTER).values();
    let clusters = clusters.map(|any| Cluster::decode(&any.value[..]).unwrap());
    clusters.filter_map(|cluster| asked(&cluster)).collect()
}

fn asked(cluster: &Cluster) -> Option<Asked> {
    let socket = cluster.transport_socket.as_ref()?;
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        panic!("{socket:?}");
    };
    let tls = UpstreamTlsContext::decode(&any.value[..]).unwrap();
    let common = tls.common_tls_context.unwrap();
    let validation = match common.validation_context_type? {
        ValidationContextType::ValidationContext(context) => context,
        ValidationContextType::CombinedValidationContext(context) => {
            context.default_validation_context.unwrap()
        }
        other => panic!("{other:?}"),
    };
    let names = validation.match_typed_subject_alt_names.iter();
    let names = names.map(
        |name| match name.matcher.as_ref().unwrap().match_pattern.as_ref() {
            Some(MatchPattern::Exact(name)) => name.clone(),
            other => panic!("{other:?}"),
        },
    );
    // cds_egress_m_books_prod_http_8080, and what it is a backend of.
    let parts: Vec<_> = cluster.name.split('_').collect();
    let target = format!("{} {}-{}", parts[3], parts[5], parts[6]);
    Some((target, tls.sni, names.collect()))
}

/// By the policies; those for all ports have no name of a port.
fn of_policies(conversion: &Conversion) -> BTreeSet<Asked> {
    let documents = conversion.documents.iter();
    let policies = documents.filter(|one| one["kind"] == "BackendTLSPolicy");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    policies
        .map(|policy| {
            let target = &policy["spec"]["targetRefs"][0];
            let section = target["sectionName"].as_str().unwrap_or("http-8080");
            let validation = &policy["spec"]["validation"];
            let hostname = text(&validation["hostname"]);
            let names = match validation["subjectAltNames"].as_array() {
                None => BTreeSet::from([hostname.clone()]),
                Some(names) => {
                    let names = names.iter();
                    names
                        .map(|name| match name["type"].as_str() {
                            Some("URI") => text(&name["uri"]),
                            _ => text(&name["hostname"]),
                        })
                        .collect()
                }
            };
            (
                format!("{} {section}", target["name"].as_str().unwrap()),
                hostname,
                names,
            )
        })
        .collect()
}

#[test]
fn certificates_are_asked_for_as_before() {
    let conversion = converted(TLS, Channel::Standard);
    read_strictly(&conversion.documents, Channel::Standard);
    let policies = of_policies(&conversion);
    assert_eq!(policies.len(), 2);
    assert_eq!(policies, of_envoy("mesh/m/virtualNode/web_prod"));
}

/// One caller agrees; one has no policy, and one and the gateway have another one.
#[test]
fn callers_that_did_otherwise_are_named() {
    let conversion = converted(TLS, Channel::Standard);
    let findings = conversion.findings.iter();
    let different: Vec<_> = findings
        .filter(|finding| finding.lack == Lack::Different)
        .map(|finding| (&*finding.what, &*finding.path))
        .collect();
    assert_eq!(
        different,
        [
            (
                "VirtualGateway prod/edge",
                "spec.backendDefaults.clientPolicy.tls"
            ),
            (
                "VirtualNode prod/api",
                "spec.backendDefaults.clientPolicy.tls"
            ),
            ("VirtualNode prod/worker", ""),
        ]
    );
}
