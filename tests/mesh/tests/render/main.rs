//! What `meshmeter-mesh render` prints is what real Envoys take: the static bootstrap runs and is
//! counted exactly, plainly and with TLS and a token; the patches for meshes are put into a base
//! configuration as those meshes do, and validated.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::artifacts::{self, Module};
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::{self, Envoy};
use tests_support::kubernetes::objects::POD;
use tests_support::kubernetes::{ApiServer, CertificateAuthority};
use tests_support::{clock, http};

use patches::{
    apply_consul, apply_envoy_filter, apply_envoy_gateway, apply_istio, apply_proxy_patch, base,
    of_kind,
};

mod patches;

const PATIENCE: Duration = Duration::from_mins(1);
const NAMESPACE: &str = "prod";
const POD_NAME: &str = "metal-1";
const SERVER_NAME: &str = "meshmeter.meshmeter.svc";
const REQUESTS: u64 = 25;

/// The documents that `render` prints.
fn render(target: &str, flags: &[&str]) -> Vec<Value> {
    let output = Command::new(artifacts::mesh().unwrap())
        .args(["render", "--for", target])
        .args(flags)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    tests_manifests::documents(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

/// What the kubelet tells a pod.
fn environment() -> Vec<(String, String)> {
    let variables = [
        ("POD_NAMESPACE", NAMESPACE),
        ("POD_NAME", POD_NAME),
        ("POD_UID", "uid-metal-1"),
        ("NODE_NAME", "loopback"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    variables.into()
}

async fn app() -> App {
    let any = ([127, 0, 0, 1], 0).into();
    App::start(any, Behaviour::metal_v1()).await.unwrap()
}

/// Runs the bootstrap, sends requests, and waits until the aggregator has exactly those.
async fn counts_exactly(aggregator: &Aggregator, flags: &[&str], logger: bool) {
    let app = app().await;
    let application = app.address().to_string();
    let filter = Module::Filter.path().unwrap().display().to_string();
    let log = Module::Log.path().unwrap().display().to_string();
    let ingest = aggregator.ingest().to_string();
    let mut all = vec![
        "--listen=127.0.0.1:0",
        "--admin-listen=127.0.0.1:0",
        "--application",
        &application,
        "--aggregator",
        &ingest,
        "--log-module-file",
        &log,
        "--upstream-log",
    ];
    if logger {
        all.push("--role=access-log");
    } else {
        all.extend(["--module-file", &filter]);
    }
    all.extend(flags);
    let bootstrap = render("static", &all).remove(0);
    let options = envoy::Options {
        env: environment(),
        ..envoy::Options::default()
    };
    let envoy = Envoy::start(&bootstrap, &options).await.unwrap();
    let listener = envoy.listener("inbound").unwrap();
    for _ in 0..REQUESTS {
        http::get_ok(listener, "/").await.unwrap();
    }
    assert_eq!(app.served(), REQUESTS);
    let arrived = clock::wait_for("all requests", PATIENCE, async || {
        let pods = aggregator.pods().await?;
        let pod = pods.find(NAMESPACE, POD_NAME);
        let counts = pod.map(|pod| (pod.requests("inbound"), pod.attempts()));
        Ok((counts == Some((Some(REQUESTS), Some(REQUESTS)))).then_some(()))
    });
    if let Err(error) = arrived.await {
        panic!("{error:#}\n{}", aggregator.log_tail());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_static_bootstrap_counts_exactly() {
    for logger in [false, true] {
        let aggregator = Aggregator::start(&Options::default()).await.unwrap();
        let flags = ["--responses=code", "--dimensions=cluster"];
        counts_exactly(&aggregator, &flags, logger).await;
    }
}

/// An aggregator that wants tokens, over TLS; its CA and Envoy's secret file are in `folder`.
async fn secured(server: &ApiServer, folder: &Path) -> Aggregator {
    let file = |name: &str| folder.join(name);
    let ca = CertificateAuthority::new("meshmeter-ingest").unwrap();
    let issued = ca.server(&[SERVER_NAME]).unwrap();
    let token = file("token");
    // As the aggregator verifies it by itself.
    let signed = server.pod_token("meshmeter", NAMESPACE, POD_NAME, "uid-metal-1");
    let signed = signed.unwrap();
    let secret = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "token",
        "generic_secret": {"secret": {"filename": token, "watched_directory": {"path": folder}}},
    }]});
    for (name, text) in [
        ("ca.pem", ca.pem.as_str()),
        ("tls.crt", issued.certificate.as_str()),
        ("tls.key", issued.key.as_str()),
        ("token", signed.as_str()),
        ("token.json", secret.to_string().as_str()),
    ] {
        std::fs::write(file(name), text).unwrap();
    }
    let pod = json!({
        "metadata": {
            "namespace": NAMESPACE, "name": POD_NAME, "uid": "uid-metal-1", "labels": {"app": "metal"}},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    });
    server.objects().apply(POD, pod);
    server.write_kubeconfig(&file("kubeconfig")).unwrap();
    let files = [
        ("--kubeconfig", "kubeconfig"),
        ("--ingest-cert-file", "tls.crt"),
        ("--ingest-key-file", "tls.key"),
    ];
    let files = files.map(|(flag, name)| [flag.to_owned(), file(name).display().to_string()]);
    let mut flags: Vec<String> = files.into_iter().flatten().collect();
    flags.extend(["--ingest-identity".to_owned(), "token".to_owned()]);
    let options = Options {
        flags,
        ..Options::default()
    };
    Aggregator::start(&options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_static_bootstrap_counts_over_tls_with_a_token() {
    let server = ApiServer::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let aggregator = secured(&server, folder.path()).await;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let flags = [
        format!("--aggregator-ca-file={}", file("ca.pem")),
        format!("--aggregator-server-name={SERVER_NAME}"),
        "--aggregator-token".to_owned(),
        format!("--aggregator-token-file={}", file("token.json")),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    counts_exactly(&aggregator, &flags, false).await;
}

/// Puts into a configuration what a mesh would, of what `render` printed.
type Apply = fn(&mut Value, &[Value]);

/// Runs the base configuration with what the mesh would have put in, and waits until the aggregator
/// has each request.
async fn runs(target: &str, apply: Apply, more: &[&str]) {
    let app = app().await;
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let ingest = match target {
        // A ServiceEntry has names, no addresses.
        "istio" | "istio-wasmplugin" => format!("localhost:{}", aggregator.ingest().port()),
        _ => aggregator.ingest().to_string(),
    };
    let shared = ["--namespace", NAMESPACE, "--aggregator", &ingest];
    let mut config = base(app.address());
    apply(&mut config, &render(target, &[&shared[..], more].concat()));
    let options = envoy::Options {
        env: environment(),
        ..envoy::Options::default()
    };
    let envoy = Envoy::start(&config, &options).await.unwrap();
    for _ in 0..REQUESTS {
        let listener = envoy.listener("inbound").unwrap();
        http::get_ok(listener, "/").await.unwrap();
    }
    let arrived = clock::wait_for("all requests", PATIENCE, async || {
        let pods = aggregator.pods().await?;
        let pod = pods.find(NAMESPACE, POD_NAME);
        let count = pod.and_then(|pod| pod.requests("inbound"));
        Ok((count == Some(REQUESTS)).then_some(()))
    });
    if let Err(error) = arrived.await {
        panic!("{target} {more:?}: {error:#}\n{}", aggregator.log_tail());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn meshes_patches_count_exactly() {
    let file = |module: Module| module.path().unwrap().display().to_string();
    let (filter, log) = (file(Module::Filter), file(Module::Log));
    let plain = ["--module-file", &filter];
    let logs = [
        "--upstream-log",
        "--direction=both",
        "--log-module-file",
        &log,
    ];
    let both = [&plain[..], &logs].concat();
    let logger = ["--role=access-log", "--log-module-file", &log];
    let consul = ["--workload=metal", "--module-file", &filter];
    let image = "--module-image=registry.example.com/meshmeter/filter:0.2.0";
    let cases: [(&str, Apply, &[&str]); 9] = [
        ("istio", apply_istio, &[image]),
        ("istio-wasmplugin", apply_istio, &[image]),
        ("istio-envoyfilter", apply_envoy_filter, &plain),
        ("istio-envoyfilter", apply_envoy_filter, &both),
        ("istio-envoyfilter", apply_envoy_filter, &logger),
        ("kuma", apply_proxy_patch, &both),
        ("kuma", apply_proxy_patch, &logger),
        ("consul", apply_consul, &consul),
        (
            "envoy-gateway",
            apply_envoy_gateway,
            &["--workload=gateway", image],
        ),
    ];
    for (target, apply, flags) in cases {
        runs(target, apply, flags).await;
    }
}

/// With TLS and a token: Envoy itself finds every field in order.
#[test]
fn secure_patches_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let ca = CertificateAuthority::new("meshmeter-ingest").unwrap();
    std::fs::write(file("ca.pem"), &ca.pem).unwrap();
    let ca = file("ca.pem").display().to_string();
    let filter = Module::Filter.path().unwrap().display().to_string();
    let shared = [
        "--namespace=prod",
        "--workload=metal",
        "--aggregator=meshmeter-0.meshmeter-ingest.meshmeter.svc.cluster.local:7470",
        "--aggregator-token",
        "--aggregator-ca-file",
        &ca,
    ];
    let of_file = ["--module-file", &filter, "--selector=app=metal"];
    let cases: [(&str, Apply, &[&str]); 4] = [
        ("istio-envoyfilter", apply_envoy_filter, &of_file),
        ("kuma", apply_proxy_patch, &of_file),
        ("consul", apply_consul, &of_file[..2]),
        (
            "envoy-gateway",
            apply_envoy_gateway,
            &["--module-image=registry.example.com/filter:0.2.0"],
        ),
    ];
    for (target, apply, flags) in cases {
        let flags = [&shared[..], flags].concat();
        let documents = render(target, &flags);
        let mut config = base(([127, 0, 0, 1], 1).into());
        apply(&mut config, &documents);
        // The ConfigMap's file, where it is here.
        let secret = of_kind(&documents, "ConfigMap")["data"]["token.json"].as_str();
        std::fs::write(file("token.json"), secret.unwrap()).unwrap();
        let text = config.to_string();
        let here = file("token.json").display().to_string();
        assert!(text.contains("/etc/meshmeter/token.json"));
        let text = text.replace("/etc/meshmeter/token.json", &here);
        std::fs::write(file("envoy.json"), text).unwrap();
        let output = Command::new(artifacts::envoy().unwrap())
            .args(["--mode", "validate", "-c"])
            .arg(file("envoy.json"))
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{target}: {said}");
    }
}
