//! A pod whose sidecar is ours runs here as the kubelet would start it: what `inject` prints, in
//! its order, on a real Envoy. Only paths, ports and addresses are replaced.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests_mesh::{INGRESS, Mesh};
use tests_support::aggregator::{Aggregator, Options as AggregatorOptions};
use tests_support::artifacts::{self, Module};
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::{Envoy, Options};
use tests_support::process::Process;
use tests_support::{clock, http as client};

const NODE_ID: &str = "mesh/dj-app/virtualNode/jazz-v1_prod";
const PATIENCE: Duration = Duration::from_secs(30);

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: jazz-v1, namespace: prod}
spec:
  selector: {matchLabels: {app: jazz}}
  template:
    metadata:
      labels: {app: jazz}
      annotations: {meshmeter.io/virtual-node: jazz-v1}
    spec:
      containers:
      - {name: jazz, image: jazz, ports: [{containerPort: 9080}]}
---
apiVersion: v1
kind: Service
metadata: {name: jazz, namespace: prod}
spec: {selector: {app: jazz}, ports: [{port: 9080}]}
";

/// What `meshmeter-mesh inject` makes of `manifest`.
fn inject(manifest: &str, further: &[&str]) -> Output {
    let mut process = Command::new(artifacts::mesh().unwrap())
        .args([
            "inject",
            "--image=mesh:1",
            "--upstream=http://control-plane:18000",
        ])
        .args(["--aggregator=aggregator:7470"])
        .args(further)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    // It may have ended over its flags before it reads.
    drop(input.write_all(manifest.as_bytes()));
    drop(input);
    process.wait_with_output().unwrap()
}

const STOCK: [&str; 4] = [
    "--inject-envoy",
    "--envoy-image=envoy:1",
    "--redirect-image=redirect:1",
    "--mesh=dj-app",
];

fn container<'a>(template: &'a Value, name: &str) -> &'a Value {
    let all = template["spec"]["initContainers"].as_array().unwrap();
    all.iter().find(|one| one["name"] == name).unwrap()
}

fn args(container: &Value, replaced: &[(&str, &str)]) -> Vec<String> {
    let args = container["args"].as_array().unwrap().iter();
    args.map(|arg| {
        replaced
            .iter()
            .fold(arg.as_str().unwrap().to_owned(), |arg, (from, to)| {
                arg.replace(from, to)
            })
    })
    .collect()
}

/// The template of the deployment, as JSON of `inject`.
fn template(further: &[&str]) -> Value {
    let mut flags = STOCK.to_vec();
    flags.extend(further);
    flags.push("--output=json");
    let output = inject(MANIFEST, &flags);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    // The service has no pods, and that is said.
    assert!(
        said.contains("Service prod/jazz: left as it is: this kind has no pod template"),
        "{said}"
    );
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    list["items"][0]["spec"]["template"].clone()
}

/// Runs the init container with its volumes in `folder`.
fn prepare(template: &Value, folder: &Path) {
    let text = folder.to_str().unwrap();
    let modules = Module::Filter.path().unwrap();
    let mut args = args(
        container(template, "meshmeter-init"),
        &[("/etc/meshmeter", text), ("/mnt/meshmeter", text)],
    );
    args.push(format!("--from={}", modules.parent().unwrap().display()));
    let prepared = Command::new(artifacts::mesh().unwrap())
        .args(args)
        .output()
        .unwrap();
    assert!(
        prepared.status.success(),
        "{}",
        String::from_utf8_lossy(&prepared.stderr)
    );
}

#[test]
fn envoy_takes_what_is_prepared() {
    let folder = TempDir::new().unwrap();
    let template = template(&[]);
    prepare(&template, folder.path());
    let path = folder.path().to_str().unwrap();
    let validated = Command::new(artifacts::envoy().unwrap())
        .args(args(
            container(&template, "envoy"),
            &[("/etc/meshmeter", path)],
        ))
        .args(["--mode", "validate"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&validated.stderr);
    assert!(validated.status.success(), "{said}");
    let file = folder.path().join("envoy.yaml");
    // The pod may start again on the same volumes.
    let module = folder.path().join("meshmeter-filter.wasm");
    assert!(!fs::metadata(&module).unwrap().permissions().readonly());
    prepare(&template, folder.path());
    let bootstrap: Value = serde_saphyr::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(
        bootstrap["node"],
        json!({"id": NODE_ID, "cluster": NODE_ID})
    );
}

/// Starts the pod's xDS proxy, with what it mounts in `folder`, and says where Envoy connects.
async fn xds_proxy(
    template: &Value,
    folder: &Path,
    control_plane: SocketAddr,
    aggregator: &Aggregator,
) -> (Process, SocketAddr) {
    let path = folder.to_str().unwrap();
    let addresses = folder.join("addresses.json");
    let mut xds_proxy = args(
        container(template, "meshmeter-xds-proxy"),
        &[
            ("127.0.0.1:15090", "127.0.0.1:0"),
            ("0.0.0.0:15091", "127.0.0.1:0"),
            ("control-plane:18000", &control_plane.to_string()),
            ("aggregator:7470", &aggregator.ingest().to_string()),
            ("/opt/meshmeter", path),
        ],
    );
    xds_proxy.push(format!("--addresses-file={}", addresses.display()));
    let identity = [
        ("POD_NAMESPACE", "prod"),
        ("POD_NAME", "jazz-v1"),
        ("POD_UID", "uid-jazz-v1"),
    ];
    let identity = identity.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let log = folder.join("xds-proxy.log");
    let mut xds_proxy =
        Process::spawn(&artifacts::mesh().unwrap(), &xds_proxy, &identity, &log).unwrap();
    let listens: Value = clock::wait_for("addresses", PATIENCE, async || {
        xds_proxy.check_running()?;
        let text = fs::read(&addresses).ok();
        Ok(text.map(|text| serde_json::from_slice(&text)).transpose()?)
    })
    .await
    .unwrap();

    (xds_proxy, listens["xds"].as_str().unwrap().parse().unwrap())
}

/// The pod starts in the order of its containers, serves, is counted, and shows its pages to
/// nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_injected_pod_runs() {
    let aggregator = Aggregator::start(&AggregatorOptions::default())
        .await
        .unwrap();
    let mesh = Mesh::start((1, 1)).await.unwrap();
    let app = App::start((Ipv4Addr::LOCALHOST, 0).into(), Behaviour::jazz_v1())
        .await
        .unwrap();
    let folder = TempDir::new().unwrap();
    let template = template(&[]);
    prepare(&template, folder.path());
    let (mut xds_proxy, xds) =
        xds_proxy(&template, folder.path(), mesh.control_plane(), &aggregator).await;
    let bootstrap = fs::read_to_string(folder.path().join("envoy.yaml")).unwrap();
    let bootstrap: Value = serde_saphyr::from_str(&bootstrap).unwrap();
    let mut envoy = Envoy::start(&here(bootstrap, xds, app.address()), &Options::default())
        .await
        .unwrap();
    let ingress = envoy.wait_listener(INGRESS).await.unwrap();
    for _ in 0..5 {
        assert_eq!(client::get(ingress, "/").await.unwrap().status, 200);
    }
    shows_nothing_else(envoy.listener("meshmeter_status").unwrap()).await;
    // The application first, then the sidecar, then the xDS proxy: the last report has all.
    told(&aggregator, |told| told > 0).await;
    for _ in 0..5 {
        assert_eq!(client::get(ingress, "/").await.unwrap().status, 200);
    }
    let counted = envoy
        .stats()
        .await
        .unwrap()
        .get("http.ingress.downstream_rq_total");
    assert!(counted >= 10, "{counted}");
    drop(app);
    envoy.terminate().await.unwrap();
    xds_proxy.terminate(PATIENCE).await.unwrap();
    told(&aggregator, |told| told == counted).await;
}

/// What the probe asks, and what Prometheus reads; not what ends Envoy or shows its secrets.
async fn shows_nothing_else(status: SocketAddr) {
    for (page, expected) in [
        ("/ready", 200),
        ("/stats/prometheus", 200),
        ("/config_dump", 404),
        ("/certs", 404),
        ("/", 404),
        ("/ready/../quitquitquit", 404),
    ] {
        assert_eq!(
            client::get(status, page).await.unwrap().status,
            expected,
            "{page}"
        );
    }
    assert_eq!(
        client::post(status, "/quitquitquit").await.unwrap().status,
        404
    );
}

/// Waits until the aggregator knows as many requests of the pod.
async fn told(aggregator: &Aggregator, enough: impl Fn(u64) -> bool) {
    clock::wait_for("reports", PATIENCE, async || {
        let pods = aggregator.pods().await?;
        let pod = pods.find("prod", "jazz-v1");
        let told = pod.and_then(|pod| pod.requests("inbound"));
        Ok(told.is_some_and(&enough).then_some(()))
    })
    .await
    .unwrap();
}

/// The bootstrap with the addresses of this machine; traffic is not redirected here, so the node's
/// metadata says where it goes.
fn here(mut bootstrap: Value, xds: SocketAddr, application: SocketAddr) -> Value {
    bootstrap["node"]["metadata"] = json!({
        "meshmeter.ingress": "127.0.0.1:0",
        "meshmeter.egress": "127.0.0.1:0",
        "meshmeter.application": application.to_string(),
    });
    let moved = [
        (15_090, xds),
        (9_901, own_admin()),
        (15_092, SocketAddr::from(([127, 0, 0, 1], 0))),
    ];
    move_ports(&mut bootstrap, &moved);
    bootstrap
}

/// The bootstrap names it twice, so that the kernel cannot choose. Each process has a loopback
/// address of its own.
fn own_admin() -> SocketAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, high | 0x80, middle, low], 9_901))
}

fn move_ports(value: &mut Value, moved: &[(u16, SocketAddr)]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| move_ports(item, moved)),
        Value::Object(fields) => {
            let port = fields.get("port_value").and_then(Value::as_u64);
            if let Some((_, to)) = moved.iter().find(|(from, _)| port == Some((*from).into())) {
                fields.insert("address".to_owned(), to.ip().to_string().into());
                fields.insert("port_value".to_owned(), to.port().into());
            }
            fields
                .values_mut()
                .for_each(|field| move_ports(field, moved));
        }
        _ => {}
    }
}

/// A secret file that Envoy follows, and the flags that belong together.
#[test]
fn the_token_has_a_secret_file() {
    let folder = TempDir::new().unwrap();
    let prepared = Command::new(artifacts::mesh().unwrap())
        .args(["prepare", "--token-secret", "--config"])
        .arg(folder.path())
        .status();
    assert!(prepared.unwrap().success());
    let secret: Value =
        serde_json::from_slice(&fs::read(folder.path().join("token.json")).unwrap()).unwrap();
    let secret = &secret["resources"][0]["generic_secret"]["secret"];
    assert_eq!(secret["filename"], "/var/run/secrets/meshmeter/token");
    assert_eq!(
        secret["watched_directory"]["path"],
        "/var/run/secrets/meshmeter"
    );
    let output = inject(MANIFEST, &["--aggregator-token"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--aggregator-ca-file"), "{said}");
}

/// A CA goes into every pod; a key must not.
#[test]
fn only_certificates_become_the_ca() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ca.crt");
    let flag = format!("--aggregator-ca-file={}", file.display());
    let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    fs::write(&file, certificate).unwrap();
    let output = inject(MANIFEST, &[&flag]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("MESHMETER_AGGREGATOR_CA"), "{printed}");
    for wrong in [
        String::new(),
        format!("{certificate}-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"),
        certificate.repeat(2_000),
    ] {
        fs::write(&file, wrong).unwrap();
        let output = inject(MANIFEST, &[&flag]);
        assert!(!output.status.success() && output.stdout.is_empty());
        assert!(String::from_utf8_lossy(&output.stderr).contains("--aggregator-ca-file"));
    }
}

/// The exit code says whether all pods were injected.
#[test]
fn a_dry_run_tells_by_its_exit_code() {
    let (deployment, _) = MANIFEST.split_once("---").unwrap();
    let output = inject(deployment, &[]);
    assert!(output.status.success());
    let printed: Value =
        serde_saphyr::from_str(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(printed["kind"], "Deployment");
    assert_eq!(
        container(&printed["spec"]["template"], "meshmeter-xds-proxy")["restartPolicy"],
        "Always"
    );
    let left = deployment.replace(
        "app: jazz}\n      annotations",
        "app: jazz, meshmeter.io/inject: disabled}\n      annotations",
    );
    let output = inject(&left, &[]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("Deployment prod/jazz-v1: left as it is: meshmeter.io/inject is disabled"),
        "{said}"
    );
    let printed: Value =
        serde_saphyr::from_str(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(printed, serde_saphyr::from_str::<Value>(&left).unwrap());
}

/// With a `ConfigMap` the pod has no certificates of its own; one that could not be there is
/// refused.
#[test]
fn authorities_are_followed_by_name() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ca.crt");
    let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    fs::write(&file, certificate).unwrap();
    let flag = format!("--aggregator-ca-file={}", file.display());
    let output = inject(MANIFEST, &[&flag, "--aggregator-ca-configmap=meshmeter-ca"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("optional: true"), "{printed}");
    assert!(!printed.contains("BEGIN CERTIFICATE"), "{printed}");
    for flags in [
        &["--aggregator-ca-configmap=meshmeter-ca"][..],
        &[&flag, "--aggregator-ca-configmap="],
        &[&flag, "--aggregator-ca-configmap=a/b"],
        &[&flag, "--aggregator-ca-configmap=A"],
    ] {
        let output = inject(MANIFEST, flags);
        assert!(!output.status.success(), "{flags:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("--aggregator-ca-"), "{said}");
    }
}
