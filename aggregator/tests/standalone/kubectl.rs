//! The real kubectl against the API: what an operator types, with an empty kubeconfig.

use std::process::Output;

use tempfile::TempDir;
use tokio::process::Command;

use crate::app::{App, PATIENCE, V2};
use crate::sidecar::{Sidecar, inbound};

/// Runs kubectl with `arguments`. The token stands for "no user": without one kubectl asks for a
/// name.
async fn kubectl(app: &App, arguments: &[&str]) -> Output {
    let home = TempDir::new().unwrap();
    let config = home.path().join("config");
    std::fs::write(&config, "").unwrap();
    let program = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let output = Command::new(&program)
        .env("HOME", home.path())
        .env("KUBECONFIG", &config)
        .args(["--server", &format!("https://{}", app.addresses.api)])
        .args(["--insecure-skip-tls-verify", "--token", "none"])
        .args(arguments)
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(PATIENCE, output)
        .await
        .expect("kubectl ends in time")
    {
        Ok(output) => output,
        Err(error) => {
            panic!("{program}: {error}; run scripts/test, which installs kubectl, or set KUBECTL")
        }
    }
}

fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// `get --raw` with the URL of an HPA gives its list; a mistake gives the sentence of the Status.
#[tokio::test(flavor = "multi_thread")]
async fn gets_raw_metrics() {
    let app = App::start().await;
    let mut sidecar = Sidecar::connect(app.addresses.ingest, "jazz-1", "jazz").await;
    sidecar.report(vec![inbound(100, 100)]).await;
    let url = format!(
        "{V2}/namespaces/prod/pods/%2A/appmesh_requests_per_second?labelSelector=app%3Djazz"
    );
    let list: serde_json::Value =
        serde_json::from_str(&stdout(&kubectl(&app, &["get", "--raw", &url]).await)).unwrap();
    assert_eq!(list["items"][0]["describedObject"]["name"], "jazz-1");
    assert_eq!(list["items"].as_array().unwrap().len(), 1);

    let url = format!("{V2}/namespaces/prod/pods/%2A/nothing");
    let output = kubectl(&app, &["get", "--raw", &url]).await;
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("(NotFound): the server could not find the metric nothing for pods"),
        "{error}"
    );
    drop(sidecar);
    app.stop().await;
}

/// Discovery satisfies kubectl, old or new, aggregated or legacy: both versions, and no complaint.
#[tokio::test(flavor = "multi_thread")]
async fn lists_versions_and_resources() {
    let app = App::start().await;
    let versions = stdout(&kubectl(&app, &["api-versions"]).await);
    assert_eq!(
        versions,
        "custom.metrics.k8s.io/v1beta1\ncustom.metrics.k8s.io/v1beta2\nexternal.metrics.k8s.io/v1beta1\nview.meshmeter.io/v1\n"
    );
    // kubectl hides resources with a slash in their names, which all custom metrics have and no
    // external one.
    let output = kubectl(&app, &["api-resources"]).await;
    let resources = stdout(&output);
    let external = |line: &&str| line.contains("ExternalMetricValueList");
    assert_eq!(resources.lines().filter(external).count(), 5, "{resources}");
    assert!(!resources.contains("pods/"), "{resources}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    app.stop().await;
}
