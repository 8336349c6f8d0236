//! TLS of listeners and of calls: what Envoy is told, and which values are refused.

use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::FilterChain;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    DownstreamTlsContext, UpstreamTlsContext,
};
use mesh_control_plane::mesh::{AcmMap, Meshes, acm_secrets};
use prost::Message;

use crate::{Cluster, DJAPP, LISTENER, Listener, Snapshot, mesh, parse, snapshot, with};
use mesh_control_plane::envoy::CLUSTER;

const FILE: &str = "file: {certificateChain: /certs/tls.crt, privateKey: /certs/tls.key}";
const TRUST: &str = "trust: {file: {certificateChain: /certs/ca.crt}}";
const CERTIFICATE_ARN: &str = "arn:aws:acm:us-west-2:111122223333:certificate/1";
const AUTHORITY_ARN: &str = "arn:aws:acm-pca:us-west-2:111122223333:certificate-authority/1";

/// djapp whose jazz-v1 has this TLS in its listener, and whose dj has these fields.
fn djapp(listener: &str, caller: &str) -> String {
    let port = "    - portMapping:\n        port: 9080\n        protocol: http\n";
    let of = |name: &str| DJAPP.find(&format!("kind: VirtualNode\nmetadata:\n  name: {name}\n"));
    let (dj, jazz) = (of("dj").unwrap(), of("jazz-v1").unwrap());
    let mut text = DJAPP.to_owned();
    let mut edits = vec![
        (
            dj + DJAPP[dj..].find("spec:\n").unwrap() + 6,
            format!("  {caller}\n"),
        ),
        (
            jazz + DJAPP[jazz..].find(port).unwrap() + port.len(),
            format!("      {listener}\n"),
        ),
    ];
    edits.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    for (at, line) in edits {
        if !line.trim().is_empty() {
            text.insert_str(at, &line);
        }
    }
    text
}

fn decoded<M: Message + Default>(socket: &TransportSocket) -> M {
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        panic!("{socket:?}");
    };
    M::decode(&any.value[..]).unwrap()
}

fn cluster(snapshot: &Snapshot, name: &str) -> Cluster {
    Cluster::decode(&snapshot.resources[CLUSTER][name].value[..]).unwrap()
}

fn upstream(cluster: &Cluster) -> Option<UpstreamTlsContext> {
    cluster.transport_socket.as_ref().map(decoded)
}

/// Names that the server's certificate may have; `None` if it is not checked.
fn names(context: &UpstreamTlsContext) -> Option<Vec<String>> {
    let common = context.common_tls_context.as_ref().unwrap();
    let context = match common.validation_context_type.as_ref()? {
        ValidationContextType::ValidationContext(context) => context,
        ValidationContextType::CombinedValidationContext(combined) => {
            combined.default_validation_context.as_ref().unwrap()
        }
        other => panic!("{other:?}"),
    };
    let all = context.match_typed_subject_alt_names.iter();
    let all = all.map(|name| format!("{:?}", name.matcher.as_ref().unwrap().match_pattern));
    Some(
        all.map(|text| text.split('"').nth(1).unwrap_or_default().to_owned())
            .collect(),
    )
}

fn ingress_chains(text: &str) -> (Vec<FilterChain>, usize) {
    let snapshot = snapshot(&mesh(text), "jazz-v1");
    let name = "lds_ingress_0.0.0.0_15000";
    let listener = Listener::decode(&snapshot.resources[LISTENER][name].value[..]).unwrap();
    (listener.filter_chains, listener.listener_filters.len())
}

/// STRICT has a chain of TLS, PERMISSIVE one more and the inspector that tells them apart, and
/// DISABLED none. `validation` asks clients for a certificate.
#[test]
fn a_mode_has_its_chains() {
    let validation = format!(", validation: {{{TRUST}}}");
    for (mode, validation, with_tls, inspected) in [
        ("STRICT", "", &[true][..], false),
        ("STRICT", &validation, &[true], false),
        ("PERMISSIVE", &validation, &[true, false], true),
        ("DISABLED", "", &[false], false),
    ] {
        let tls = format!("tls: {{mode: {mode}, certificate: {{{FILE}}}{validation}}}");
        let (chains, filters) = ingress_chains(&djapp(&tls, ""));
        let sockets = chains.iter().map(|chain| chain.transport_socket.as_ref());
        let found: Vec<_> = sockets.clone().map(|socket| socket.is_some()).collect();
        assert_eq!(found, with_tls, "{mode}");
        assert_eq!(filters, 1 + usize::from(inspected), "{mode}");
        for socket in sockets.flatten() {
            let context: DownstreamTlsContext = decoded(socket);
            let asks = context.require_client_certificate.is_some();
            assert_eq!(asks, !validation.is_empty(), "{mode}");
        }
    }
}

/// Which TLS dj uses with jazz-v1, and by which names it knows it.
#[test]
fn a_policy_decides_about_calls() {
    let strict = format!("tls: {{mode: STRICT, certificate: {{{FILE}}}}}");
    let permissive = strict.replace("STRICT", "PERMISSIVE");
    let policy = |more: &str, validation: &str| {
        format!(
            "backendDefaults: {{clientPolicy: {{tls: {{{more}validation: {{{TRUST}{validation}}}}}}}}}"
        )
    };
    let named = ", subjectAlternativeNames: {match: {exact: [\"spiffe://a/b\", jazz]}}";
    let host = "jazz-v1.prod.svc.cluster.local";
    let unchecked: Option<&[&str]> = None;
    for (listener, caller, expected) in [
        ("", String::new(), None),
        (&strict, String::new(), Some(unchecked)),
        (&permissive, String::new(), None),
        ("", policy("", ""), Some(Some(&[host][..]))),
        (
            &strict,
            policy("", named),
            Some(Some(&["spiffe://a/b", "jazz"])),
        ),
        (&strict, policy("ports: [9080], ", ""), Some(Some(&[host]))),
        (&strict, policy("ports: [9081], ", ""), Some(unchecked)),
        ("", policy("ports: [9081], ", ""), None),
        (&strict, policy("enforce: false, ", ""), Some(unchecked)),
        (&permissive, policy("enforce: false, ", ""), None),
    ] {
        let snapshot = snapshot(&mesh(&djapp(listener, &caller)), "dj");
        let cluster = cluster(&snapshot, "cds_egress_dj-app_jazz-v1_prod_http_9080");
        let tls = upstream(&cluster);
        let found = tls.as_ref().map(names);
        let expected = expected.map(|names| {
            names.map(|names| {
                names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<Vec<_>>()
            })
        });
        assert_eq!(found, expected, "{listener} {caller}");
        // Health checks say in TLS which version of HTTP they speak.
        let checks = &cluster.health_checks;
        let said = checks.iter().all(|check| check.tls_options.is_some());
        assert_eq!(said, tls.is_some(), "{listener} {caller}");
    }
}

/// A backend with a policy of its own has clusters of its own; with the same policy it has those of
/// all.
#[test]
fn a_backend_may_have_its_own_policy() {
    let tls = |ca: &str| {
        format!(
            "clientPolicy: {{tls: {{validation: {{trust: {{file: {{certificateChain: {ca}}}}}}}}}}}"
        )
    };
    let backend = "          name: jazz\n";
    assert!(DJAPP.contains(backend));
    let default = format!("backendDefaults: {{{}}}", tls("/a.crt"));
    for (own, expected) in [
        ("/a.crt", "cds_egress_dj-app_jazz-v1_prod_http_9080"),
        (
            "/b.crt",
            "cds_egress_dj-app_jazz-v1_prod_http_9080_jazz_prod",
        ),
    ] {
        let with_own = format!("{backend}        {}\n", tls(own));
        let text = djapp("", &default).replacen(backend, &with_own, 1);
        let snapshot = snapshot(&mesh(&text), "dj");
        let cluster = cluster(&snapshot, expected);
        let context = format!("{:?}", upstream(&cluster).unwrap());
        assert!(context.contains(own), "{context}");
        let metal = self::cluster(&snapshot, "cds_egress_dj-app_metal-v1_prod_http_9080");
        assert!(format!("{:?}", upstream(&metal)).contains("/a.crt"));
        let routes = format!("{:?}", crate::route(&snapshot, "rds_egress_http_9080"));
        assert!(routes.contains(&format!("{expected:?}")), "{routes}");
    }
}

/// A health check of another port has the TLS of that port.
#[test]
fn health_checks_have_the_tls_of_their_port() {
    let strict = format!("tls: {{mode: STRICT, certificate: {{{FILE}}}}}");
    for (port, matches) in [("", 0), ("port: 9080", 0), ("port: 9999", 1)] {
        let text = djapp(&strict, "");
        let text = text.replace("path: '/ping'", &format!("path: /ping\n        {port}"));
        let text = text.replace("path: /ping\n", &format!("path: /ping\n        {port}\n"));
        let cluster = cluster(
            &snapshot(&mesh(&text), "dj"),
            "cds_egress_dj-app_jazz-v1_prod_http_9080",
        );
        let check = &cluster.health_checks[0];
        assert_eq!(cluster.transport_socket_matches.len(), matches, "{port}");
        let chosen = check.transport_socket_match_criteria.is_some();
        assert_eq!(chosen, matches > 0, "{port}");
        assert_eq!(check.tls_options.is_none(), matches > 0, "{port}");
    }
}

/// ACM is a map to secrets; without it the object is refused by the ARN.
#[test]
fn acm_is_a_map_to_secrets() {
    let text = with(
        "VirtualNode",
        &format!(
            "{{listeners: [{{portMapping: {{port: 1, protocol: http}}, tls: {{mode: STRICT, \
             certificate: {{acm: {{certificateARN: \"{CERTIFICATE_ARN}\"}}}}}}}}], \
             backendDefaults: {{clientPolicy: {{tls: {{validation: \
             {{trust: {{acm: {{certificateAuthorityARNs: [\"{AUTHORITY_ARN}\"]}}}}}}}}}}}}}}"
        ),
    );
    for (map, expected) in [
        (String::new(), Some(CERTIFICATE_ARN)),
        (format!("{CERTIFICATE_ARN}: web"), Some(AUTHORITY_ARN)),
        (
            format!("{CERTIFICATE_ARN}: web\n{AUTHORITY_ARN}: roots"),
            None,
        ),
    ] {
        let acm = if map.is_empty() {
            AcmMap::default()
        } else {
            AcmMap::parse(&map).unwrap()
        };
        let before = Meshes::with_acm(acm);
        let (meshes, refused) = Meshes::parse([("a.yaml", text.as_str())], &before);
        let why = refused.first().map(|refused| refused.why.as_str());
        if let Some(arn) = expected {
            assert!(why.unwrap().contains(arn), "{refused:?}");
        } else {
            assert_eq!(why, None);
            let node = meshes.node_of("mesh/dj-app/virtualNode/x_prod").unwrap();
            assert_eq!(acm_secrets(node.spec), ["roots", "web"]);
            let listener = &snapshot(&meshes, "x").resources[LISTENER]["lds_ingress_0.0.0.0_15000"];
            let listener = Listener::decode(&listener.value[..]).unwrap();
            let socket = listener.filter_chains[0].transport_socket.as_ref();
            let context = format!("{:?}", decoded::<DownstreamTlsContext>(socket.unwrap()));
            assert!(
                context.contains("/etc/meshmeter-acm/web/tls.key"),
                "{context}"
            );
        }
        // The meshes that follow have the same map.
        let (_, again) = Meshes::parse([("a.yaml", text.as_str())], &meshes);
        assert_eq!(again.len(), refused.len());
    }
}

/// Values that Envoy would reject, or that have no meaning, by the field.
#[test]
fn bad_values_are_refused_by_name() {
    let long = "a".repeat(2_049);
    let many = vec!["a"; 101].join(", ");
    let names = |names: &str| {
        format!(
            "certificate: {{{FILE}}}, validation: {{{TRUST}, subjectAlternativeNames: {{match: {{exact: [{names}]}}}}}}"
        )
    };
    let exact = "spec.listeners[0].tls.validation.subjectAlternativeNames.match.exact";
    for (tls, why) in [
        (
            "certificate: {}".to_owned(),
            "spec.listeners[0].tls.certificate: one of file, sds and acm",
        ),
        (
            format!("certificate: {{{FILE}, sds: {{secretName: a}}}}"),
            "tls.certificate: one of file, sds and acm",
        ),
        (
            "certificate: {file: {certificateChain: a, privateKey: /b}}".to_owned(),
            "tls.certificate.file.certificateChain: \"a\" is not an absolute path",
        ),
        (
            format!("certificate: {{file: {{certificateChain: /a, privateKey: /{long}}}}}"),
            "tls.certificate.file.privateKey",
        ),
        (
            "certificate: {sds: {secretName: \"\"}}".to_owned(),
            "tls.certificate.sds.secretName: a name of 0 bytes",
        ),
        (
            format!("certificate: {{{FILE}}}, validation: {{trust: {{}}}}"),
            "tls.validation.trust: one of file, sds and acm",
        ),
        (names(""), &format!("{exact}: 0 names")),
        (names(&many), &format!("{exact}: 101 names")),
        (names(&long), &format!("{exact}: a name of 2049 bytes")),
        (names("\"a b\""), &format!("{exact}: \"a b\" is not a name")),
    ] {
        let spec = format!(
            "{{listeners: [{{portMapping: {{port: 1, protocol: http}}, tls: {{mode: STRICT, {tls}}}}}]}}"
        );
        let (_, refused) = parse(&with("VirtualNode", &spec));
        assert_eq!(refused.len(), 1, "{tls}");
        assert!(refused[0].why.contains(why), "{tls}: {}", refused[0]);
    }
}

/// The same of policies, which have two places.
#[test]
fn bad_policies_are_refused_by_name() {
    for (tls, why) in [
        (
            format!(
                "certificate: {{acm: {{certificateARN: \"{CERTIFICATE_ARN}\"}}}}, validation: {{{TRUST}}}"
            ),
            "certificate.acm: App Mesh has no certificates of ACM for clients",
        ),
        (
            format!("ports: [0], validation: {{{TRUST}}}"),
            "ports: 0 is no port",
        ),
        (
            format!("certificate: {{{FILE}}}"),
            "missing field `validation`",
        ),
        (
            "validation: {trust: {acm: {certificateAuthorityARNs: []}}}".to_owned(),
            "certificateAuthorityARNs: 0 ARNs, 1 to 3 are taken",
        ),
    ] {
        for (field, spec) in [
            (
                "spec.backendDefaults.clientPolicy.tls",
                format!("{{backendDefaults: {{clientPolicy: {{tls: {{{tls}}}}}}}}}"),
            ),
            (
                "spec.backends[0].virtualService",
                format!(
                    "{{backends: [{{virtualService: {{virtualServiceRef: {{name: jazz}}, clientPolicy: {{tls: {{{tls}}}}}}}}}]}}"
                ),
            ),
        ] {
            let (_, refused) = parse(&with("VirtualNode", &spec));
            assert_eq!(refused.len(), 1, "{tls}");
            let found = &refused[0].why;
            assert!(
                found.contains(why) && found.starts_with(field),
                "{tls}: {found}"
            );
        }
    }
}
