//! What is wrong, or cannot be said to a mesh, is refused by the option's name; what a user writes
//! stays a value.

use common_names::Role;
use mesh_core::injection::Directions;
use mesh_render::options::{Address, Options, Target};
use mesh_render::render;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::cases;

#[track_caller]
fn refused(target: Target, change: impl FnOnce(&mut Options), expected: &str) {
    let mut options = cases::plain(target);
    change(&mut options);
    let error = render(target, &options).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn values_are_refused_by_name() {
    let consul = Target::Consul;
    refused(
        consul,
        |o| "Metal".clone_into(&mut o.name),
        "--name: a DNS label",
    );
    refused(
        consul,
        |o| o.namespace = Some("a: b".into()),
        "--namespace: ",
    );
    refused(
        consul,
        |o| o.workload = Some("metal\n---\nkind: Pod".into()),
        "--workload: ",
    );
    refused(
        consul,
        |o| o.workload = Some("-metal".into()),
        "--workload: ",
    );
    refused(consul, |o| o.aggregators.clear(), "--aggregator: 1 to 4");
    refused(
        consul,
        |o| o.aggregators = vec![cases::aggregator(0); 5],
        "--aggregator: 1 to 4",
    );
    for host in ["", "a b", "a\"", "a..b", "-a", "outbound|1||a"] {
        let host = host.to_owned();
        refused(
            consul,
            |o| o.aggregators = vec![Address { host, port: 1 }],
            "--aggregator: HOST",
        );
    }
    refused(
        consul,
        |o| {
            o.aggregators = vec![Address {
                host: "a".to_owned(),
                port: 0,
            }];
        },
        "--aggregator: HOST",
    );
}

#[test]
fn values_of_modules_and_tls_are_refused_by_name() {
    let consul = Target::Consul;
    refused(consul, |o| o.image = Some("oci://a".into()), "--image: ");
    refused(consul, |o| o.image = Some("a\nb".into()), "--image: ");
    refused(
        Target::Static,
        |o| o.module_file = Some("a.wasm".into()),
        "--module-file: ",
    );
    refused(
        Target::Istio,
        |o| o.module_image = Some("a b".into()),
        "--module-image: ",
    );
    refused(
        Target::Istio,
        |o| o.module_url = Some("https://a/b".into()),
        "--module-image: --module-image, --module-url",
    );
    refused(
        Target::Istio,
        |o| o.module_sha256 = Some("0a".into()),
        "--module-sha256: 64",
    );
    refused(
        Target::Kuma,
        |o| {
            o.selector.insert("a b".to_owned(), String::new());
        },
        "--selector: ",
    );
    refused(
        consul,
        |o| o.aggregator_ca = Some("a".into()),
        "--aggregator-ca-file: a PEM",
    );
    refused(
        consul,
        |o| o.aggregator_token = true,
        "--aggregator-token: it needs TLS",
    );
    refused(
        consul,
        |o| o.aggregator_server_name = Some("a".into()),
        "--aggregator-server-name: it needs TLS",
    );
    refused(
        consul,
        |o| {
            o.aggregators = vec![Address {
                host: "::1".to_owned(),
                port: 1,
            }];
            o.aggregator_ca = Some("-----BEGIN CERTIFICATE-----".into());
        },
        "--aggregator-server-name: an aggregator by IP address",
    );
}

#[test]
fn plugin_configurations_are_checked_by_the_filter() {
    let config = |value: Value| value.as_object().cloned().unwrap();
    for (value, expected) in [
        (
            json!({"responses": "every"}),
            "--plugin-config: `responses`",
        ),
        (
            json!({"max_serie": 1}),
            "--plugin-config: unknown field `max_serie`",
        ),
        (
            json!({"dimensions": ["path"]}),
            "--plugin-config: `dimensions",
        ),
        (
            json!({"role": "filter"}),
            "--plugin-config: `role` comes from the other options",
        ),
        (
            json!({"aggregators": []}),
            "--plugin-config: `aggregators` comes from the other options",
        ),
    ] {
        for target in [Target::Istio, Target::Static, Target::AppMesh] {
            refused(
                target,
                |o| o.plugin_config = config(value.clone()),
                expected,
            );
        }
    }
}

#[test]
fn what_a_mesh_cannot_be_told_is_refused() {
    use Target::{Consul, EnvoyGateway, Istio, Static};

    for target in [Istio, EnvoyGateway, Consul] {
        let name = target.as_str();
        refused(
            target,
            |o| o.upstream_log = true,
            &format!("--upstream-log cannot be rendered for {name}: "),
        );
        refused(
            target,
            |o| o.role = Role::AccessLog,
            &format!("--role cannot be rendered for {name}: "),
        );
    }
    for target in [EnvoyGateway, Consul] {
        refused(
            target,
            |o| o.direction = Directions::Outbound,
            "--direction cannot",
        );
        refused(
            target,
            |o| {
                o.selector.insert("a".to_owned(), String::new());
            },
            "--selector cannot",
        );
    }
    refused(
        Static,
        |o| o.direction = Directions::Both,
        "--direction cannot be rendered for static",
    );
    refused(
        Static,
        |o| o.namespace = Some("prod".into()),
        "--namespace cannot be rendered for static",
    );
}

#[test]
fn what_a_mesh_cannot_be_told_of_tls_and_modules_is_refused() {
    use Target::{AppMesh, Consul, EnvoyGateway, Istio, IstioEnvoyFilter, Kuma, Static};

    let secure = |o: &mut Options| {
        o.aggregator_ca = Some("-----BEGIN CERTIFICATE-----".into());
        o.aggregator_token = true;
    };
    refused(
        Istio,
        secure,
        "--aggregator-token cannot be rendered for istio: ",
    );
    for target in [IstioEnvoyFilter, Consul, Kuma, AppMesh, Static] {
        refused(target, |o| o.module_image = Some("a".into()), "--module-");
    }
    for target in [Istio, EnvoyGateway, Static] {
        refused(target, |o| o.image = Some("a".into()), "--");
    }
    refused(
        Consul,
        |o| o.upstream = Some("http://a".into()),
        "--upstream cannot be rendered for consul",
    );
    refused(
        Consul,
        |o| o.listen = "[::]:1".parse().ok(),
        "--listen cannot be rendered for consul",
    );
    refused(
        Istio,
        |o| {
            o.aggregators = vec![Address {
                host: "10.0.0.1".to_owned(),
                port: 1,
            }];
        },
        "--aggregator cannot",
    );
}

#[test]
fn what_a_mesh_needs_is_named() {
    use Target::{AppMesh, Consul, EnvoyGateway, Istio, IstioEnvoyFilter, Kuma, Static};

    for target in [Istio, IstioEnvoyFilter, EnvoyGateway, Consul, Kuma, AppMesh] {
        refused(target, |o| o.namespace = None, "--namespace is needed for");
    }
    for target in [IstioEnvoyFilter, EnvoyGateway, Consul, Kuma, AppMesh] {
        refused(target, |o| o.workload = None, "--workload is needed for");
    }
    // Else Envoys would have the filter, but not its file, and refuse their listeners.
    for target in [IstioEnvoyFilter, Kuma] {
        refused(target, |o| o.selector.clear(), "--selector is needed for");
        refused(
            target,
            |o| {
                o.image = None;
                o.upstream_log = true;
                o.module_file = Some("/a".into());
            },
            "--log-module-file is needed for",
        );
    }
    for target in [IstioEnvoyFilter, Consul, Kuma, AppMesh] {
        refused(target, |o| o.image = None, "--image is needed for");
    }
    for target in [Istio, EnvoyGateway] {
        refused(
            target,
            |o| o.module_image = None,
            "--module-image is needed for",
        );
    }
    refused(AppMesh, |o| o.upstream = None, "--upstream is needed for");
    refused(
        Static,
        |o| o.module_file = None,
        "--module-file is needed for",
    );
    refused(Static, |o| o.listen = None, "--listen is needed for");
    refused(
        Static,
        |o| o.application = None,
        "--application is needed for",
    );
}

/// Every text in `value`.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
        _ => {}
    }
}

/// Whether `wanted` is a value somewhere, also of JSON or YAML within a text.
fn holds(value: &Value, wanted: &str) -> bool {
    let mut found = Vec::new();
    texts(value, &mut found);
    found.iter().any(|text| {
        let prefixes = ["--plugin-config=", "file://"];
        let rest = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix));
        let rest = rest.unwrap_or(text);
        let inner = || tests_manifests::documents(rest).unwrap_or_default();
        let structured = |inner: &Value| inner.is_object() || inner.is_array();
        rest == wanted
            || inner()
                .iter()
                .any(|inner| structured(inner) && holds(inner, wanted))
    })
}

/// `text` as each free text that `target` takes, and the value that it becomes.
fn with_free_text(target: Target, text: &str) -> [(Options, String); 3] {
    let mut by_configuration = cases::plain(target);
    by_configuration.plugin_config = Map::from_iter([("cluster".to_owned(), text.into())]);
    let mut by_file = cases::plain(target);
    let file = format!("/{text}");
    by_file.image = None;
    by_file.module_image = None;
    by_file.module_file = Some(file.clone());
    let mut by_authority = cases::plain(target);
    let authority = format!("-----BEGIN CERTIFICATE-----{text}");
    if target == Target::Istio {
        by_authority.selector = [("app".to_owned(), "metal".to_owned())].into();
    }
    by_authority.workload = by_authority.workload.or(Some("metal".to_owned()));
    by_authority.aggregator_ca = Some(authority.clone());
    [
        (by_configuration, text.to_owned()),
        (by_file, file),
        (by_authority, authority),
    ]
}

proptest! {
    /// Hostile texts do not break out: as many documents as with a harmless one, and the text is
    /// found again as a value; or it is refused.
    #[test]
    fn texts_stay_values(hostile in r#"(\PC|[\n\r\t"'\\:#{}\[\]|>&*!%@`,-]){1,40}"#, nth in 0_usize..7) {
        let target = Target::ALL[nth];
        let harmless = with_free_text(target, "a");
        for ((options, wanted), (other, _)) in with_free_text(target, &hostile).iter().zip(&harmless) {
            let Ok(text) = render(target, options) else {
                continue;
            };
            let read = tests_manifests::documents(&text).unwrap();
            let expected = tests_manifests::documents(&render(target, other).unwrap()).unwrap();
            prop_assert_eq!(read.len(), expected.len());
            prop_assert!(read.iter().any(|value| holds(value, wanted)), "{}", text);
        }
    }

    /// Names are taken as Kubernetes takes them, or refused.
    #[test]
    fn names_are_labels(name in r"\PC{0,70}", nth in 0_usize..6) {
        let target = Target::ALL[nth];
        let mut options = cases::plain(target);
        options.workload = options.workload.and(Some(name.clone()));
        options.name = name.clone();
        if let Ok(text) = render(target, &options) {
            prop_assert!(name.len() <= 63 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            tests_manifests::check(&text).unwrap();
        }
    }
}
