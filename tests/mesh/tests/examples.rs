//! App Mesh's public examples (aws/aws-app-mesh-examples), which are not in this repository: what
//! the linter says of each, and some of them with traffic. Only where `MESHMETER_APP_MESH_EXAMPLES`
//! is the path of a checkout.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test helper may panic; the table is what a reader of the test wants"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests_mesh::plain::{answer, wait_answer};
use tests_mesh::versions::Version;
use tests_mesh::{EGRESS, Mesh, on_each_version};
use tests_support::artifacts;
use tests_support::djapp::Behaviour;
use tests_support::skipped;

const CHECKOUT: &str = "MESHMETER_APP_MESH_EXAMPLES";

/// Folders of manifests, below `walkthroughs` but for the last.
const FOLDERS: [&str; 29] = [
    "eks-app-mesh-cross-account-acm/mesh",
    "eks-app-mesh-multi-account/mesh",
    "eks-getting-started/infrastructure/appmesh_templates",
    "howto-k8s-alb",
    "howto-k8s-cloudmap",
    "howto-k8s-connection-pools",
    "howto-k8s-cross-cluster",
    "howto-k8s-egress",
    "howto-k8s-envoy-logging-custom-format",
    "howto-k8s-fargate",
    "howto-k8s-grpc",
    "howto-k8s-grpc-ingress-v2",
    "howto-k8s-http-headers",
    "howto-k8s-http-ingress-v2",
    "howto-k8s-http2",
    "howto-k8s-ingress-gateway",
    "howto-k8s-ipv6/v1beta2/cloud",
    "howto-k8s-ipv6/v1beta2/dns",
    "howto-k8s-metrics-extension",
    "howto-k8s-mtls-file-based",
    "howto-k8s-mtls-sds-based",
    "howto-k8s-multi-region",
    "howto-k8s-multiple-listeners",
    "howto-k8s-outlier-detection",
    "howto-k8s-retry-policy",
    "howto-k8s-timeout-policy",
    "howto-k8s-tls-acm",
    "howto-k8s-tls-file-based",
    "../examples/apps/djapp",
];

/// Those that share a mesh with another AWS account.
const OF_SEVERAL_ACCOUNTS: [&str; 2] = [
    "eks-app-mesh-cross-account-acm/mesh",
    "eks-app-mesh-multi-account/mesh",
];

/// What a reader of an example puts in by hand.
const BY_HAND: [(&str, &str); 1] = [(
    "virtualServiceARN: colorapp-service-ARN",
    "virtualServiceARN: arn:aws:appmesh:us-west-2:111122223333:mesh/mesh-name/virtualService/colorapp.app-namespace.svc.cluster.local",
)];

/// The mesh that the text of `eks-getting-started` has the reader create.
const GETTING_STARTED: &str = "apiVersion: appmesh.k8s.aws/v1beta2\nkind: Mesh\nmetadata: {name: yelb}\nspec: {namespaceSelector: {matchLabels: {mesh: yelb}}}\n";

/// The walkthrough applies these one after the other, with the same name.
const STEPS: [&str; 2] = [
    "appmesh-virtual-router-appserver-v1-v2.yaml",
    "appmesh-virtual-router-appserver-v2.yaml",
];

/// ARNs of `howto-k8s-tls-acm`, and secrets for them.
const ARNS: [(&str, &str, &str); 2] = [
    (
        "ROOT_CA_ARN",
        "arn:aws:acm-pca:us-west-2:111122223333:certificate-authority/1",
        "roots",
    ),
    (
        "CERTIFICATE_ARN",
        "arn:aws:acm:us-west-2:111122223333:certificate/1",
        "web",
    ),
];

fn checkout() -> Option<PathBuf> {
    let path = std::env::var_os(CHECKOUT).map(PathBuf::from);
    if path.is_none() {
        skipped::say(
            "App Mesh's public examples",
            &format!("set {CHECKOUT} to a checkout of aws/aws-app-mesh-examples"),
        );
    }
    path
}

/// All files with App Mesh resources below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::read_to_string(&path)
            .is_ok_and(|text| text.contains("appmesh.k8s.aws/v1beta2"))
            && !path
                .extension()
                .is_some_and(|end| end == "sh" || end == "md")
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Copies the files of an example, with what is put in by hand, into one folder.
fn prepared(examples: &Path, folder: &str) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    let source = examples.join("walkthroughs").join(folder);
    let steps = |path: &Path| STEPS.iter().any(|step| path.ends_with(step));
    let files = files(&source).into_iter().filter(|path| !steps(path));
    // By number, so that a later one replaces an earlier one, as with `kubectl apply`.
    for (number, path) in files.enumerate() {
        let text = fs::read_to_string(&path).unwrap();
        let text = BY_HAND
            .iter()
            .fold(text, |text, (before, after)| text.replace(before, after));
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::write(target.path().join(format!("{number}-{name}")), text).unwrap();
    }
    if folder.starts_with("eks-getting-started") {
        fs::write(target.path().join("mesh.yaml"), GETTING_STARTED).unwrap();
    }
    target
}

/// The linter serves 27 of the 29 whole; the others are meshes of several accounts.
#[test]
fn the_linter_serves_the_examples() {
    let Some(examples) = checkout() else {
        return;
    };
    let acm = tempfile::NamedTempFile::new().unwrap();
    let lines = ARNS.map(|(_, arn, secret)| format!("{arn}: {secret}\n"));
    fs::write(acm.path(), lines.concat()).unwrap();
    let mut refused = BTreeSet::new();
    for folder in FOLDERS {
        let manifests = prepared(&examples, folder);
        let output = Command::new(artifacts::mesh().unwrap())
            .args(["control-plane", "lint", "--json", "--tolerate-placeholders"])
            .args(ARNS.map(|(name, arn, _)| format!("--set={name}={arn}")))
            .arg("--acm-map")
            .arg(acm.path())
            .arg(manifests.path())
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let states = states(&report);
        println!("{folder:<55} {states:?}");
        if output.status.code() != Some(0) {
            refused.insert(folder);
            let (report, log) = (output.stdout, output.stderr);
            let [report, log] =
                [report, log].map(|text| String::from_utf8_lossy(&text).into_owned());
            println!("{report}\n{log}");
        }
    }
    assert_eq!(refused, BTreeSet::from(OF_SEVERAL_ACCOUNTS));
}

/// Fields by what becomes of them.
fn states(report: &Value) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    let mut add = |value: &Value| {
        if let Some(state) = value["effect"].as_str() {
            *states.entry(state.to_owned()).or_default() += 1;
        }
    };
    visit(report, &mut add);
    states
}

fn visit(value: &Value, with: &mut dyn FnMut(&Value)) {
    with(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| visit(item, with)),
        Value::Object(fields) => fields.values().for_each(|field| visit(field, with)),
        _ => {}
    }
}

/// An example with traffic.
struct Example {
    /// Below the checkout.
    files: &'static [&'static str],
    nodes: &'static [&'static str],
    /// The node that calls, or the port of the gateway `ingress-gw`.
    from: Caller,
    /// Head of a request, and every node that answers it.
    requests: &'static [(&'static str, &'static [&'static str])],
}

enum Caller {
    Node(&'static str),
    Gateway(u16),
}

const EXAMPLES: [Example; 10] = [
    Example {
        files: &["examples/apps/djapp/2_meshed_application/meshed_app.yaml"],
        nodes: &["jazz-v1", "metal-v1"],
        from: Caller::Node("dj"),
        requests: &[
            (
                "GET / HTTP/1.1\nhost: jazz.prod.svc.cluster.local",
                &["jazz-v1"],
            ),
            (
                "GET / HTTP/1.1\nhost: metal.prod.svc.cluster.local",
                &["metal-v1"],
            ),
        ],
    },
    Example {
        files: &["walkthroughs/howto-k8s-http-headers/v1beta2/manifest.yaml.template"],
        nodes: &["white", "blue", "red", "yellow", "green"],
        from: Caller::Node("front"),
        requests: &[
            (
                "GET / HTTP/1.1\nhost: color.prod.svc.cluster.local",
                &["white"],
            ),
            (
                "GET / HTTP/1.1\nhost: color.prod.svc.cluster.local\ncolor_header: blue",
                &["blue"],
            ),
            (
                "GET / HTTP/1.1\nhost: color.prod.svc.cluster.local\ncolor_header: x.green.y",
                &["green"],
            ),
            (
                "GET / HTTP/1.1\nhost: color.prod.svc.cluster.local\ncolor_header: red.2",
                &["red"],
            ),
            (
                "GET / HTTP/1.1\nhost: color.prod.svc.cluster.local\ncolor_header: other",
                &["yellow"],
            ),
        ],
    },
    Example {
        files: &["walkthroughs/howto-k8s-cloudmap/v1beta2/manifest.yaml.template"],
        nodes: &["colorapp-red", "colorapp-blue"],
        from: Caller::Node("front"),
        requests: &[(
            "GET / HTTP/1.1\nhost: colorapp.prod.svc.cluster.local",
            &["colorapp-red", "colorapp-blue"],
        )],
    },
    Example {
        files: &["walkthroughs/howto-k8s-timeout-policy/v1beta2/manifest.yaml.template"],
        nodes: &["colorapp-red", "colorapp-blue"],
        from: Caller::Node("front"),
        requests: &[(
            "GET / HTTP/1.1\nhost: colorapp.prod.pvt.aws.local",
            &["colorapp-red", "colorapp-blue"],
        )],
    },
    Example {
        files: &["walkthroughs/howto-k8s-retry-policy/v1beta2/manifest.yaml.template"],
        nodes: &["blue"],
        from: Caller::Node("front"),
        requests: &[(
            "GET / HTTP/1.1\nhost: color.prod.svc.cluster.local",
            &["blue"],
        )],
    },
    Example {
        files: &["walkthroughs/howto-k8s-fargate/v1beta2/manifest.yaml.template"],
        nodes: &["blue", "green"],
        from: Caller::Node("front"),
        requests: &[(
            "GET / HTTP/1.1\nhost: color.prod.svc.cluster.local",
            &["blue", "green"],
        )],
    },
    Example {
        files: &["walkthroughs/howto-k8s-outlier-detection/v1beta2/manifest.yaml.template"],
        nodes: &["colorapp"],
        from: Caller::Node("front"),
        requests: &[(
            "GET / HTTP/1.1\nhost: colorapp.prod.svc.cluster.local",
            &["colorapp"],
        )],
    },
    Example {
        files: &["walkthroughs/howto-k8s-connection-pools/v1beta2/manifest.yaml.template"],
        nodes: &["red", "green"],
        from: Caller::Gateway(8088),
        requests: &[
            ("GET /paths/red HTTP/1.1\nhost: shop", &["red"]),
            ("GET /paths/green HTTP/1.1\nhost: shop", &["green"]),
        ],
    },
    Example {
        files: &["walkthroughs/howto-k8s-ingress-gateway/v1beta2/manifest.yaml.template"],
        nodes: &["white", "blue", "red", "yellow", "green"],
        from: Caller::Gateway(8088),
        requests: &[
            (
                "GET /headers HTTP/1.1\nhost: shop\ncolor_header: blue",
                &["blue"],
            ),
            ("GET /paths/red HTTP/1.1\nhost: shop", &["red"]),
            ("GET /paths/green/x HTTP/1.1\nhost: shop", &["green"]),
        ],
    },
    Example {
        files: &[
            "walkthroughs/howto-k8s-http-ingress-v2/v1beta2/manifest.yaml.template",
            "walkthroughs/howto-k8s-http-ingress-v2/v1beta2/gatewayroutes/header-match.yaml.template",
            "walkthroughs/howto-k8s-http-ingress-v2/v1beta2/gatewayroutes/path-match.yaml.template",
            "walkthroughs/howto-k8s-http-ingress-v2/v1beta2/gatewayroutes/prefix-match.yaml.template",
            "walkthroughs/howto-k8s-http-ingress-v2/v1beta2/gatewayroutes/query-match.yaml.template",
            "walkthroughs/howto-k8s-http-ingress-v2/v1beta2/gatewayroutes/rewrite-path.yaml.template",
            "walkthroughs/howto-k8s-http-ingress-v2/v1beta2/gatewayroutes/rewrite-prefix.yaml.template",
        ],
        nodes: &["white", "blue", "red", "yellow", "green"],
        from: Caller::Gateway(8088),
        requests: &[
            (
                "GET / HTTP/1.1\nhost: shop\ncolor_header: yellow",
                &["yellow"],
            ),
            ("GET /paths/green HTTP/1.1\nhost: shop", &["green"]),
            ("GET /paths/blue HTTP/1.1\nhost: shop", &["blue"]),
            (
                "GET /query?color_type=white HTTP/1.1\nhost: shop",
                &["white"],
            ),
            ("GET /rewrite/path/blue HTTP/1.1\nhost: shop", &["blue"]),
            ("GET /test/x HTTP/1.1\nhost: shop", &["red"]),
        ],
    },
];

on_each_version!(examples_run);

/// Each request reaches the nodes that the example says, through real Envoys.
async fn examples_run(version: Version) {
    let Some(checkout) = checkout() else {
        return;
    };
    for example in EXAMPLES {
        let name = example.files[0];
        let texts = example.files.iter().map(|file| {
            let text = fs::read_to_string(checkout.join(file)).unwrap();
            placed(&text)
        });
        let text = texts.collect::<Vec<_>>().join("\n---\n");
        let mut mesh = Mesh::of(version, &text).await.unwrap();
        let mut pods = Vec::new();
        for node in example.nodes {
            pods.push(mesh.pod(node, Behaviour::new(node), None).await.unwrap());
        }
        let (address, _caller) = match example.from {
            Caller::Node(node) => {
                let mut pod = mesh.pod(node, Behaviour::new(node), None).await.unwrap();
                (
                    pod.envoy.wait_listener(EGRESS).await.unwrap(),
                    (Some(pod), None),
                )
            }
            Caller::Gateway(port) => {
                let mut gateway = mesh.gateway("ingress-gw", None).await.unwrap();
                (gateway.listener(port).await.unwrap(), (None, Some(gateway)))
            }
        };
        for (head, expected) in example.requests {
            wait_answer(address, head, "200").await.unwrap();
            let mut answered = BTreeSet::new();
            for _ in 0..20 * expected.len() {
                let (status, body) = answer(address, head).await.unwrap();
                assert_eq!(status, "200", "{name}: {head}");
                let mut nodes = example.nodes.iter();
                answered.insert(*nodes.find(|node| body.contains(**node)).unwrap());
            }
            assert_eq!(
                answered,
                expected.iter().copied().collect(),
                "{name}: {head}"
            );
        }
        println!("{name}: {} requests as expected", example.requests.len());
    }
}

/// With the names of the mesh and the namespace that pods of tests have.
fn placed(text: &str) -> String {
    let named = [
        ("${MESH_NAME}", "dj-app"),
        ("${APP_NAMESPACE}", "prod"),
        ("${CLOUDMAP_NAMESPACE}", "cloud.local"),
    ];
    let text = named.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    });
    // Images and the like, of objects that are not ours.
    let mut parts = text.split("${");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| {
        let (name, rest) = part.split_once('}').unwrap();
        text + &name.to_ascii_lowercase() + rest
    })
}
