//! What is wrong, or cannot be said to a mesh, is refused by the option's name; what a user writes
//! stays a value.

use common_names::Role;
use mesh_core::injection::{Carrier, Directions};
use mesh_render::options::Target::{
    self, AppMesh, Consul, EnvoyGateway, Istio, IstioEnvoyFilter, Kuma, Static,
};
use mesh_render::options::{Address, Options};
use mesh_render::render;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::cases;

const CA: &str = "-----BEGIN CERTIFICATE-----";

/// Each target with each change is refused with an error that begins like this.
macro_rules! refused {
    ($([$($target:expr),+] $change:expr => $expected:expr;)+) => {$(
        for target in [$($target),+] {
            let mut options = cases::plain(target);
            let change: fn(&mut Options) = $change;
            change(&mut options);
            let error = render(target, &options).unwrap_err().to_string();
            assert!(error.starts_with($expected), "{target:?}: {error}");
        }
    )+};
}

fn aggregator(host: &str, port: u16) -> Vec<Address> {
    let host = host.to_owned();
    vec![Address { host, port }]
}

fn fields(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

#[test]
fn values_are_refused_by_name() {
    refused! {
        [Consul] |o| o.name = "Metal".to_owned() => "--name: a DNS label";
        [Consul] |o| o.namespace = Some("a: b".into()) => "--namespace: ";
        [Consul] |o| o.workload = Some("metal\n---\nkind: Pod".into()) => "--workload: ";
        [Consul] |o| o.workload = Some("-metal".into()) => "--workload: ";
        [Consul] |o| o.aggregators.clear() => "--aggregator: 1 to 4";
        [Consul] |o| o.aggregators = vec![cases::aggregator(0); 5] => "--aggregator: 1 to 4";
        [Consul] |o| o.aggregators = aggregator("", 1) => "--aggregator: HOST";
        [Consul] |o| o.aggregators = aggregator("a b", 1) => "--aggregator: HOST";
        [Consul] |o| o.aggregators = aggregator("a\"", 1) => "--aggregator: HOST";
        [Consul] |o| o.aggregators = aggregator("a..b", 1) => "--aggregator: HOST";
        [Consul] |o| o.aggregators = aggregator("-a", 1) => "--aggregator: HOST";
        [Consul] |o| o.aggregators = aggregator("outbound|1||a", 1) => "--aggregator: HOST";
        [Consul] |o| o.aggregators = aggregator("a", 0) => "--aggregator: HOST";
    }
}

/// A dynamic module is asked for by name, plays one role, and not beside another module of ours.
#[test]
fn a_dynamic_module_has_conditions() {
    fn native(options: &mut Options) {
        options.carrier = Carrier::Module;
        options.image = None;
        options.module_file = Some("/lib/libmeshmeter_filter.so".into());
    }
    refused! {
        [Static] |o| { native(o); o.carrier = Carrier::Wasm; } => "--module-file: a dynamic module";
        [Static] |o| { native(o); o.role = Role::AccessLog; } => "--role: the dynamic module";
        [Static] |o| { native(o); o.upstream_log = true; } => "--upstream-log: the dynamic module";
        [Static] |o| { native(o); o.module_file = Some("/a.wasm".into()); } => "--module-file: --carrier";
        [Consul] |o| native(o) => "--carrier cannot be rendered for consul";
        [Static] |o| { native(o); o.module_file = None; } => "--module-file: --carrier";
    }
    for target in [Static, IstioEnvoyFilter, Kuma] {
        let mut options = cases::plain(target);
        native(&mut options);
        let text = render(target, &options).unwrap();
        assert!(text.contains("DynamicModuleFilter"), "{text}");
        assert!(text.contains("/lib/libmeshmeter_filter.so"), "{text}");
        assert!(text.contains("do_not_close: true"), "{text}");
        assert!(!text.contains("wasm.v3"), "{text}");
    }
}

#[test]
fn values_of_modules_and_tls_are_refused_by_name() {
    refused! {
        [Consul] |o| o.image = Some("oci://a".into()) => "--image: ";
        [Consul] |o| o.image = Some("a\nb".into()) => "--image: ";
        [Static] |o| o.module_file = Some("a.wasm".into()) => "--module-file: ";
        [Istio] |o| o.module_image = Some("a b".into()) => "--module-image: ";
        [Istio] |o| o.module_url = Some("https://a/b".into())
            => "--module-image: --module-image, --module-url";
        [Istio] |o| o.module_sha256 = Some("0a".into()) => "--module-sha256: 64";
        [Kuma] |o| drop(o.selector.insert("a b".to_owned(), String::new())) => "--selector: ";
        [Consul] |o| o.aggregator_ca = Some("a".into()) => "--aggregator-ca-file: a PEM";
        [Consul] |o| o.aggregator_token = true => "--aggregator-token: it needs TLS";
        [Consul] |o| o.aggregator_server_name = Some("a".into())
            => "--aggregator-server-name: it needs TLS";
        [Consul] |o| {
            o.aggregators = aggregator("::1", 1);
            o.aggregator_ca = Some(CA.into());
        } => "--aggregator-server-name: an aggregator by IP address";
    }
}

#[test]
fn plugin_configurations_are_checked_by_the_filter() {
    refused! {
        [Istio, Static, AppMesh] |o| o.plugin_config = fields(&json!({"responses": "every"}))
            => "--plugin-config: `responses`";
        [Istio, Static, AppMesh] |o| o.plugin_config = fields(&json!({"max_serie": 1}))
            => "--plugin-config: unknown field `max_serie`";
        [Istio, Static, AppMesh] |o| o.plugin_config = fields(&json!({"dimensions": ["path"]}))
            => "--plugin-config: `dimensions";
        [Istio, Static, AppMesh] |o| o.plugin_config = fields(&json!({"role": "filter"}))
            => "--plugin-config: `role` comes from the other options";
        [Istio, Static, AppMesh] |o| o.plugin_config = fields(&json!({"aggregators": []}))
            => "--plugin-config: `aggregators` comes from the other options";
    }
}

#[test]
fn what_a_mesh_cannot_be_told_is_refused() {
    for target in [Istio, EnvoyGateway, Consul] {
        let cannot = |option| format!("--{option} cannot be rendered for {}: ", target.as_str());
        refused! {
            [target] |o| o.upstream_log = true => &cannot("upstream-log");
            [target] |o| o.role = Role::AccessLog => &cannot("role");
        }
    }
    refused! {
        [EnvoyGateway, Consul] |o| o.direction = Directions::Outbound => "--direction cannot";
        [EnvoyGateway, Consul] |o| drop(o.selector.insert("a".to_owned(), String::new()))
            => "--selector cannot";
        [Static] |o| o.direction = Directions::Both => "--direction cannot be rendered for static";
        [Static] |o| o.namespace = Some("prod".into())
            => "--namespace cannot be rendered for static";
        [Istio] |o| {
            o.aggregator_ca = Some(CA.into());
            o.aggregator_token = true;
        } => "--aggregator-token cannot be rendered for istio: ";
        [IstioEnvoyFilter, Consul, Kuma, AppMesh, Static] |o| o.module_image = Some("a".into())
            => "--module-";
        [Istio, EnvoyGateway, Static] |o| o.image = Some("a".into()) => "--";
        [Consul] |o| o.upstream = Some("http://a".into())
            => "--upstream cannot be rendered for consul";
        [Consul] |o| o.listen = "[::]:1".parse().ok() => "--listen cannot be rendered for consul";
        [Istio] |o| o.aggregators = aggregator("10.0.0.1", 1) => "--aggregator cannot";
    }
}

#[test]
fn what_a_mesh_needs_is_named() {
    refused! {
        [Istio, IstioEnvoyFilter, EnvoyGateway, Consul, Kuma, AppMesh] |o| o.namespace = None
            => "--namespace is needed for";
        [IstioEnvoyFilter, EnvoyGateway, Consul, Kuma, AppMesh] |o| o.workload = None
            => "--workload is needed for";
        // Else Envoys would have the filter, but not its file, and refuse their listeners.
        [IstioEnvoyFilter, Kuma] |o| o.selector.clear() => "--selector is needed for";
        [IstioEnvoyFilter, Kuma] |o| {
            o.image = None;
            o.upstream_log = true;
            o.module_file = Some("/a".into());
        } => "--log-module-file is needed for";
        [IstioEnvoyFilter, Consul, Kuma, AppMesh] |o| o.image = None => "--image is needed for";
        [Istio, EnvoyGateway] |o| o.module_image = None => "--module-image is needed for";
        [AppMesh] |o| o.upstream = None => "--upstream is needed for";
        [Static] |o| o.module_file = None => "--module-file is needed for";
        [Static] |o| o.listen = None => "--listen is needed for";
        [Static] |o| o.application = None => "--application is needed for";
    }
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
    if matches!(target, Istio | Target::IstioWasmPlugin) {
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
