//! The chart renders, equally by both Helms, and every manifest is what an API server would take:
//! unknown fields and kinds are failures.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tests_deploy::helm::{CHART, Helm, Release, chart, default_values, example, examples};
use tests_deploy::{find, list, read, root, text};
use tests_manifests::Object;

/// With this variable the test writes what it would compare.
const WRITE: &str = "MESHMETER_WRITE_REFERENCE";
/// What manifests have besides an example's values: those who apply them have no `helm install
/// --create-namespace`, and the dashboards are files already.
const MANIFESTS: &str = "namespace: {create: true}\ndashboards: {enabled: false}\n";

/// A choice each, over the defaults.
const CHOICES: [&str; 29] = [
    "mesh: none",
    "mesh: istio\nmeshedNamespaces: [a, b]\nistio: {api: WasmPlugin, direction: both}",
    "mesh: istio\nmeshedNamespaces: [a]\nistio: {selector: {app: jazz}, pluginConfig: {responses: 'off'}}",
    "mesh: istio\nnamespace: {create: true}",
    "meshedNamespaces: [prod]",
    "appMesh: {controlPlane: other, upstream: 'https://appmesh-envoy-management.eu-west-1.amazonaws.com'}",
    "appMesh: {injectEnvoy: true, failurePolicy: Ignore, xdsProxyArgs: [--direction=both], events: false}",
    "appMesh: {injectEnvoy: true, sdsSocket: /run/spire/sockets/agent.sock, acm: {'arn:aws:acm:a': b}}",
    "appMesh: {crds: true}",
    "ingest: {tls: permissive}",
    "ingest: {tls: required, identity: token}",
    "api: {custom: false}",
    "api: {external: false, view: false, viewRole: false}",
    "api: {certificate: {source: cert-manager}}",
    "api: {certificate: {source: secret, secretName: mine, ca: '-----BEGIN CERTIFICATE-----'}}",
    "remoteWrite: {receiver: other, url: 'https://mimir.example:8443/api/v1/push', auth: {type: basic, user: me, secretName: mimir}}",
    "remoteWrite: {receiver: other, url: 'http://prometheus:9090/api/v1/write', output: sums, queue: {disk: false}}\nnetworkPolicies: {enabled: true, receiverNamespace: ''}",
    "remoteWrite: {receiver: amp, url: 'https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-0/api/v1/remote_write', output: sums, aws: {credentials: pod-identity}}",
    "networkPolicies: {enabled: true, prometheusNamespace: prometheus}",
    "monitoring: {enabled: true, labels: {release: prometheus}}",
    "alerts: {enabled: true, labels: {release: prometheus}}",
    "dashboards: {enabled: true}",
    "flowControl: {enabled: false}",
    "image: {registry: 'localhost:5000', tag: '1', pullSecrets: [a], mesh: {digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}}",
    "aggregator: {replicas: 3, watchNamespaces: [a, b], watchAutoscalers: false, drainSeconds: 30, nodeSelector: {a: b}, tolerations: [{operator: Exists}], podAnnotations: {a: b}, serviceAccountAnnotations: {a: b}, extraArgs: [--ready-wait=5], extraEnv: [{name: A, value: b}], extraVolumes: [{name: a, emptyDir: {}}], extraVolumeMounts: [{name: a, mountPath: /a}], priorityClassName: ''}",
    "aggregator: {reads: {autoscalers: 1000, keep: pod, mib: 1024}, resources: {limits: {memory: 1Gi}}}",
    "aggregator: {reads: {keep: volume, storageClass: gp3}}\nremoteWrite: {receiver: other, url: 'http://prometheus:9090/api/v1/write'}",
    "injector: {replicas: null, podAnnotations: {a: b}, extraEnv: [{name: A, value: b}], extraArgs: [--mesh=a], tolerations: [{operator: Exists}]}",
    "controlPlane: {replicas: null, podAnnotations: {a: b}, extraEnv: [{name: A, value: b}], extraArgs: [--watch-namespace=a], nodeSelector: {a: b}}",
];

/// Two objects of one name would be one in a cluster.
fn are_distinct(objects: &[Object], what: &str) {
    let mut seen = BTreeSet::new();
    for object in objects {
        let key = (
            &object.api_version,
            &object.kind,
            &object.namespace,
            &object.name,
        );
        assert!(seen.insert(key), "{what}: twice {key:?}");
    }
}

/// As a set: the two Helms differ in the order of kinds that they have no order for.
fn sorted(mut objects: Vec<Object>) -> Vec<Object> {
    objects.sort_by_key(|object| {
        let namespace = object.namespace.clone();
        (object.kind.clone(), namespace, object.name.clone())
    });
    objects
}

/// Both Helms render the same.
fn is_rendered(release: &Release<'_>, what: &str) -> Vec<Object> {
    let [four, three] = Helm::ALL.map(|helm| sorted(release.objects(helm).unwrap()));
    assert_eq!(four, three, "{what}");
    are_distinct(&four, what);
    four
}

/// `helm lint --strict` finds nothing in any usual case.
#[test]
fn every_example_is_linted() {
    for name in examples().unwrap() {
        let release = Release {
            example: Some(&name),
            ..Release::default()
        };
        for helm in Helm::ALL {
            release.lint(helm).unwrap();
        }
    }
}

/// Every usual case and every choice, strictly, to distinct objects of namespaces that are meant.
#[test]
fn everything_renders() {
    let examples = examples().unwrap();
    assert!(examples.len() >= 7, "{examples:?}");
    let examples = examples.iter().map(|name| Release {
        example: Some(name),
        ..Release::default()
    });
    let choices = CHOICES.iter().map(|values| Release {
        values,
        ..Release::default()
    });
    for release in examples.chain(choices) {
        let what = format!("{release:?}");
        let objects = is_rendered(&release, &what);
        find(&objects, "StatefulSet", "meshmeter").unwrap();
        for object in &objects {
            let meant = [None, Some("meshmeter"), Some("kube-system")];
            let namespace = object.namespace.as_deref();
            let elsewhere = what.contains("amespaces: [") || what.contains("istio");
            assert!(
                meant.contains(&namespace) || elsewhere,
                "{what}: {object:?}"
            );
        }
    }
}

/// The files for those without Helm are the chart's, each of an example.
#[test]
fn manifests_are_the_charts() {
    let folder = root().join("deploy/manifests");
    let mut expected = BTreeSet::new();
    for name in examples().unwrap() {
        let release = Release {
            example: Some(&name),
            values: MANIFESTS,
            arguments: &["--skip-tests"],
            ..Release::default()
        };
        let rendered = release.text(Helm::Four).unwrap();
        let head = format!(
            "# Written by `cargo xtask reference` from {CHART} with examples/{name}.yaml: change those.\n"
        );
        let manifest = head + &rendered;
        let file = folder.join(format!("{name}.yaml"));
        if std::env::var_os(WRITE).is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, &manifest).unwrap();
        }
        let committed = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == manifest,
            "{} is not what the chart renders: `cargo xtask reference` writes it",
            file.display()
        );
        tests_manifests::check(&committed).unwrap();
        expected.insert(format!("{name}.yaml"));
    }
    let there = fs::read_dir(&folder).unwrap();
    let there: BTreeSet<String> = there
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, expected);
}

/// The package has what the templates read, and nothing for those who work on it; its version is
/// the workspace's.
#[test]
fn the_package_is_whole() {
    let ignored = read(&format!("{CHART}/.helmignore")).unwrap();
    for file in ["alerts/README.md", "dashboards/README.md"] {
        assert!(ignored.contains(&format!("/{file}\n")), "{file}");
        assert!(root().join(CHART).join(file).is_file(), "{file}");
    }
    let text_of = read(&format!("{CHART}/Chart.yaml")).unwrap();
    let about = &tests_manifests::documents(&text_of).unwrap()[0];
    for field in ["version", "appVersion"] {
        assert_eq!(about[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
}

/// The three ways to a certificate: never without verification, RBAC for what each needs only, and
/// a caBundle only where nobody else writes one.
#[test]
fn certificates_are_always_verified() {
    let ca = "-----BEGIN CERTIFICATE-----";
    let ways = ["self-managed", "cert-manager", "secret"].map(|source| {
        let ca = if source == "secret" { ca } else { "" };
        let values = format!("api: {{certificate: {{source: {source}, ca: '{ca}'}}}}");
        (source, chart(&values).unwrap())
    });
    for (way, objects) in &ways {
        let services = objects.iter().filter(|object| object.kind == "APIService");
        let services: Vec<&Value> = services.map(|object| &object.value).collect();
        assert_eq!(services.len(), 4, "{way}");
        for service in services {
            let spec = &service["spec"];
            assert!(spec["insecureSkipTLSVerify"].is_null(), "{way}");
            assert_eq!(spec["caBundle"].is_null(), *way != "secret", "{way}");
            let injected = &service["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
            let expected = (*way == "cert-manager").then_some("meshmeter/meshmeter-api");
            assert_eq!(injected.as_str(), expected, "{way}");
        }
        let registers = find(objects, "ClusterRole", "meshmeter:registration").is_ok();
        assert_eq!(registers, *way == "self-managed", "{way}");
    }
    // What cert-manager writes is what the aggregator reads, for the names that kube-apiserver asks
    // for.
    let managed = &ways[1].1;
    let certificate = &find(managed, "Certificate", "meshmeter-api").unwrap().value["spec"];
    let set = &find(managed, "StatefulSet", "meshmeter").unwrap().value;
    let volumes = list(&set["spec"]["template"]["spec"]["volumes"]);
    assert_eq!(
        volumes[0]["secret"]["secretName"],
        certificate["secretName"]
    );
    let names = list(&certificate["dnsNames"]);
    assert!(
        names.contains(&"meshmeter-api.meshmeter.svc".into()),
        "{names:?}"
    );
}

/// The door that a fleet moves through differs from the closed one by a single variable of the
/// aggregator.
#[test]
fn a_permissive_port_has_all_that_a_closed_one_has() {
    let with = |mode: &str| chart(&format!("ingest: {{tls: {mode}, identity: token}}")).unwrap();
    let closed = with("required");
    let mut permissive = with("permissive");
    let mode = json!({"name": "MESHMETER_INGEST_TLS_MODE", "value": "permissive"});
    let set = permissive
        .iter_mut()
        .find(|object| object.kind == "StatefulSet");
    let containers = &mut set.unwrap().value["spec"]["template"]["spec"]["containers"];
    let variables = containers[0]["env"].as_array_mut().unwrap();
    let all = variables.len();
    variables.retain(|variable| *variable != mode);
    assert_eq!(variables.len(), all - 1);
    let values = |objects: &[Object]| -> Vec<Value> {
        objects.iter().map(|object| object.value.clone()).collect()
    };
    assert_eq!(values(&permissive), values(&closed));
}

/// Each group can be left to another server.
#[test]
fn the_api_can_be_left_to_another() {
    for (values, groups) in [
        ("api: {custom: false, external: false, view: false}", ""),
        ("api: {custom: false, external: false}", "view"),
        ("api: {custom: false}", "external view"),
        ("api: {external: false}", "custom custom view"),
        ("api: {view: false}", "custom custom external"),
    ] {
        let objects = chart(values).unwrap();
        let services = objects.iter().filter(|object| object.kind == "APIService");
        let found: Vec<&str> = services
            .map(|service| {
                let group = text(&service.value["spec"]["group"]);
                group.split('.').next().unwrap()
            })
            .collect();
        assert_eq!(found.join(" "), groups, "{values}");
        let tests = find(&objects, "Pod", "meshmeter-test");
        assert_eq!(tests.is_ok(), !groups.is_empty(), "{values}");
    }
}

/// What programs write, or an autoscaler: Helm 4 applies on the server's side, and would fight
/// them.
#[test]
fn fields_of_others_are_left_out() {
    let objects = chart("injector: {replicas: null}\ncontrolPlane: {replicas: null}").unwrap();
    for name in ["meshmeter-injector", "meshmeter-control-plane"] {
        let deployment = &find(&objects, "Deployment", name).unwrap().value;
        assert!(deployment["spec"]["replicas"].is_null(), "{name}");
    }
    let all = objects.iter().map(|object| object.value.to_string());
    assert!(!all.collect::<String>().contains("caBundle"));
}

/// The webhook's scope: only where it was asked for, and by what it risks.
#[test]
fn the_webhook_fails_where_a_pod_would_have_no_envoy() {
    for (values, policy, seconds) in [
        ("appMesh: {injectEnvoy: false}", "Ignore", 3),
        ("appMesh: {injectEnvoy: true}", "Fail", 10),
        (
            "appMesh: {injectEnvoy: true, failurePolicy: Ignore}",
            "Ignore",
            3,
        ),
        ("appMesh: {failurePolicy: Fail}", "Fail", 10),
    ] {
        let objects = chart(values).unwrap();
        let name = "aa-meshmeter-injector";
        let webhook = &find(&objects, "MutatingWebhookConfiguration", name)
            .unwrap()
            .value;
        let webhook = &webhook["webhooks"][0];
        assert_eq!(webhook["failurePolicy"], policy, "{values}");
        assert_eq!(webhook["timeoutSeconds"], seconds, "{values}");
        let conditions = list(&webhook["matchConditions"]).len();
        assert_eq!(conditions, usize::from(policy == "Fail"), "{values}");
        let namespaces = &webhook["namespaceSelector"];
        let labels = &namespaces["matchLabels"];
        assert_eq!(*labels, json!({"meshmeter.io/inject": "enabled"}));
        let untouched = &namespaces["matchExpressions"][0];
        let expected = ["kube-system", "kube-public", "kube-node-lease", "meshmeter"];
        assert_eq!(untouched["operator"], "NotIn");
        assert_eq!(list(&untouched["values"]), expected);
        assert_eq!(
            webhook["objectSelector"]["matchExpressions"][0]["values"],
            json!(["disabled"])
        );
    }
}

/// The only hook is the test: `helm uninstall` runs nothing, pulls nothing and waits for nobody.
#[test]
fn nothing_runs_when_it_goes() {
    for name in examples().unwrap() {
        for object in example(&name, "").unwrap() {
            let annotations = &object.value["metadata"]["annotations"];
            let hook = text(&annotations["helm.sh/hook"]);
            assert_eq!(hook == "test", object.kind == "Pod", "{object:?}");
            assert!(["", "test"].contains(&hook), "{object:?}");
            let kept = !annotations["helm.sh/resource-policy"].is_null();
            assert_eq!(
                kept,
                object.kind == "CustomResourceDefinition",
                "{object:?}"
            );
            assert!(object.value["metadata"]["finalizers"].is_null());
        }
    }
}

/// Images have the workspace's version; what the injector gives pods is its own image, also under a
/// new name.
#[test]
fn images_agree() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let version = env!("CARGO_PKG_VERSION");
    for (values, aggregator, mesh) in [
        (
            String::new(),
            format!("registry.example.com/meshmeter/aggregator:{version}"),
            format!("registry.example.com/meshmeter/mesh:{version}"),
        ),
        (
            format!(
                "image: {{registry: 'localhost:5000/a', tag: x, aggregator: {{name: b}}, mesh: {{digest: '{digest}'}}}}"
            ),
            "localhost:5000/a/b:x".to_owned(),
            format!("localhost:5000/a/mesh@{digest}"),
        ),
    ] {
        let objects = chart(&values).unwrap();
        let mut seen = 0;
        for template in tests_deploy::pods::templates(&objects) {
            for container in template.containers() {
                let image = text(&container["image"]);
                assert!([aggregator.as_str(), &mesh].contains(&image), "{image}");
                seen += 1;
            }
        }
        // With the pod of `helm test`.
        assert_eq!(seen, 4);
        let injector = find(&objects, "Deployment", "meshmeter-injector").unwrap();
        let container = &injector.value["spec"]["template"]["spec"]["containers"][0];
        let variables = tests_deploy::pods::variables(container, &objects).unwrap();
        assert_eq!(variables["MESHMETER_IMAGE"], mesh);
    }
}

/// Values that the documents show are taken, each over the defaults.
#[test]
fn documented_values_are_taken() {
    let readme = read("deploy/README.md").unwrap();
    let readme = readme.split("```yaml\n").nth(1).unwrap();
    let readme = readme.split("```").next().unwrap();
    let readme = readme
        .lines()
        .map(|line| line.strip_prefix("   ").unwrap_or(line));
    let readme = readme.collect::<Vec<_>>().join("\n");
    let walkthrough = read("docs/walkthrough.md").unwrap();
    let parts = walkthrough.split("walkthrough.yaml <<END\n").skip(1);
    let parts: Vec<&str> = parts
        .map(|part| part.split("END\n").next().unwrap())
        .collect();
    assert_eq!(parts.len(), 2);
    let walkthrough = parts
        .concat()
        .replace("$AWS_REGION", "eu-west-1")
        .replace("$AWS_ACCOUNT_ID", "111122223333")
        .replace("$REGISTRY", "registry.example.com/meshmeter")
        .replace('$', "");
    for values in [readme, walkthrough] {
        chart(&values).unwrap();
    }
}

/// The schema has every value, and no other.
#[test]
fn the_schema_has_every_value() {
    let schema: Value =
        serde_json::from_str(&read(&format!("{CHART}/values.schema.json")).unwrap()).unwrap();
    let mut differing = Vec::new();
    compare(&default_values().unwrap(), &schema, "", &mut differing);
    assert!(differing.is_empty(), "{differing:?}");
}

/// Values that have no property, and properties that have no value.
fn compare(values: &Value, schema: &Value, path: &str, differing: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let Some(values) = values.as_object() else {
        return;
    };
    assert_eq!(schema["additionalProperties"], false, "{path}");
    for (key, value) in values {
        let path = format!("{path}.{key}");
        match properties.get(key) {
            Some(schema) => compare(value, schema, &path, differing),
            None => differing.push(format!("{path}: not in the schema")),
        }
    }
    for key in properties.keys() {
        // Helm's own.
        if !values.contains_key(key) && key != "global" {
            differing.push(format!("{path}.{key}: no value"));
        }
    }
}
