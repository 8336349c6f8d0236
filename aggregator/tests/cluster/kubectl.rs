//! The real kubectl, with a client certificate and with a token, verifying the server by the
//! `caBundle`'s CA.

use std::process::Output;

use tests_support::kubernetes::KnownUser;
use tests_support::kubernetes::objects::SECRET;
use tokio::process::Command;

use crate::control_plane::{Cluster, PATIENCE, PODS};

async fn kubectl(cluster: &Cluster, credentials: &[&str], arguments: &[&str]) -> Output {
    let home = cluster.directory.path();
    let config = home.join("empty");
    std::fs::write(&config, "").unwrap();
    let ca = home.join("ca.pem");
    let secret = cluster
        .server
        .objects()
        .get(SECRET, "meshmeter", "meshmeter-api-ca")
        .unwrap();
    let pem = tests_support::kubernetes::proxy::decode(secret["data"]["tls.crt"].as_str().unwrap());
    std::fs::write(&ca, pem.unwrap()).unwrap();
    let program = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let output = Command::new(&program)
        .env("HOME", home)
        .env("KUBECONFIG", &config)
        .args(["--server", &format!("https://{}", cluster.addresses.api)])
        .args(["--tls-server-name", "meshmeter-api.meshmeter.svc"])
        .arg("--certificate-authority")
        .arg(&ca)
        .args(credentials)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .expect("kubectl ends in time");
    output.unwrap_or_else(|error| {
        panic!("{program}: {error}; run scripts/test, which installs kubectl, or set KUBECTL")
    })
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Raw metrics, versions and resources, for a user by certificate and for one by token; a stranger
/// hears why not.
#[tokio::test(flavor = "multi_thread")]
async fn works_with_certificate_and_token() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.allow("jane");
    let identity = cluster.server.ca().client("jane", &["dev"]).unwrap();
    let [certificate, key] =
        ["jane.pem", "jane.key"].map(|name| cluster.directory.path().join(name));
    std::fs::write(&certificate, &identity.certificate).unwrap();
    std::fs::write(&key, &identity.key).unwrap();
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let known = KnownUser {
        username: "jane".to_owned(),
        audiences: vec!["https://kubernetes.default.svc".to_owned()],
        ..KnownUser::default()
    };
    cluster.server.add_token("janes-token", known);
    let by_certificate = ["--client-certificate", &certificate, "--client-key", &key];
    let by_token = ["--token", "janes-token"];
    for credentials in [&by_certificate[..], &by_token[..]] {
        let output = kubectl(&cluster, credentials, &["get", "--raw", PODS]).await;
        let (list, error) = text(&output);
        let list: serde_json::Value =
            serde_json::from_str(&list).unwrap_or_else(|_| panic!("{error}"));
        assert_eq!(list["items"].as_array().unwrap().len(), 2);
        let versions = text(&kubectl(&cluster, credentials, &["api-versions"]).await).0;
        assert_eq!(
            versions,
            "custom.metrics.k8s.io/v1beta1\ncustom.metrics.k8s.io/v1beta2\nexternal.metrics.k8s.io/v1beta1\nview.meshmeter.io/v1\n"
        );
        let (resources, error) = text(&kubectl(&cluster, credentials, &["api-resources"]).await);
        assert!(resources.contains("ExternalMetricValueList"), "{resources}");
        assert_eq!(error, "");
    }
    let output = kubectl(&cluster, &["--token", "unknown"], &["get", "--raw", PODS]).await;
    assert!(!output.status.success());
    let (_, error) = text(&output);
    assert!(error.contains("Unauthorized"), "{error}");
    cluster.server.add_token(
        "johns-token",
        KnownUser {
            username: "john".to_owned(),
            audiences: vec!["https://kubernetes.default.svc".to_owned()],
            ..KnownUser::default()
        },
    );
    let output = kubectl(
        &cluster,
        &["--token", "johns-token"],
        &["get", "--raw", PODS],
    )
    .await;
    let (_, error) = text(&output);
    assert!(
        error.contains("User \"john\" cannot get resource \"pods/appmesh_requests_per_second\""),
        "{error}"
    );
    cluster.stop().await;
}
