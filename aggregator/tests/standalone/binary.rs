//! The program itself: exit codes, signals, the files it reads and writes.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::app::{ANY, App, PATIENCE, eventually};

fn meshmeter() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshmeter"));
    command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// SIGTERM ends it with exit code 0; the addresses file is whole and says where it listened; logs
/// are JSON.
#[tokio::test(flavor = "multi_thread")]
async fn ends_on_sigterm() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("addresses.json");
    let child = meshmeter()
        .args([
            "serve",
            "--standalone",
            "--log-format",
            "json",
            "--ingest-listen",
            ANY,
        ])
        .args([
            "--api-listen",
            ANY,
            "--admin-listen",
            ANY,
            "--addresses-file",
        ])
        .arg(&file)
        .spawn()
        .unwrap();
    let text = eventually("the addresses file", async || {
        std::fs::read_to_string(&file).ok()
    })
    .await;
    let addresses: Value = serde_json::from_str(&text).unwrap();
    for listener in ["ingest", "api", "admin"] {
        let address = addresses[listener].as_str().unwrap();
        assert!(
            address.starts_with("127.0.0.1:") && !address.ends_with(":0"),
            "{address}"
        );
    }
    let pid = child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let log = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines.iter().any(|line| line["message"] == "listening"),
        "{log}"
    );
    assert_eq!(lines.last().unwrap()["message"], "ended", "{log}");
}

/// What cannot run says why, with the exit code of a usage error, and starts nothing.
#[tokio::test(flavor = "multi_thread")]
async fn refuses_bad_flags() {
    for (flags, expected) in [
        (
            vec!["serve", "--ingest-identity", "none"],
            "--ingest-identity none: any pod could speak for any other",
        ),
        (
            vec!["serve", "--standalone", "--remote-write-url", "x"],
            "--remote-write-url: \"x\"",
        ),
        (
            vec!["serve", "--standalone", "--api-listen", "0.0.0.0:0"],
            "--api-listen 0.0.0.0:0",
        ),
        (
            vec!["serve", "--standalone", "--drain-seconds", "301"],
            "--drain-seconds",
        ),
        (
            vec!["serve", "--standalone", "--pods-file", "Cargo.toml"],
            "--pods-file Cargo.toml: is not a list of pods",
        ),
    ] {
        let output = meshmeter().args(&flags).output().await.unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {error}");
        assert!(error.contains(expected), "{flags:?}: {error}");
    }
}

/// Outside a cluster, a stranger hears what to do.
#[tokio::test(flavor = "multi_thread")]
async fn says_that_there_is_no_cluster() {
    let any = "127.0.0.1:0";
    let output = meshmeter()
        .args(["serve", "--ingest-listen", any, "--api-listen", any])
        .args(["--admin-listen", any])
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    let hint = "give --kubeconfig, or --standalone to run without a cluster";
    assert!(error.contains(hint), "{error}");
}

/// `check` names what answered, or what did not and why.
#[tokio::test(flavor = "multi_thread")]
async fn checks_that_the_api_answers() {
    let app = App::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("kubeconfig");
    let server = format!("https://{}", app.addresses.api);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": server, "insecure-skip-tls-verify": true}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "users": [{"name": "a", "user": {}}],
    });
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    for (group, code, expected) in [
        (
            "custom.metrics.k8s.io/v1beta2",
            0,
            "custom.metrics.k8s.io/v1beta2: answered",
        ),
        (
            "external.metrics.k8s.io/v1beta1",
            0,
            "external.metrics.k8s.io/v1beta1: answered",
        ),
        (
            "custom.metrics.k8s.io/v1",
            1,
            "custom.metrics.k8s.io/v1: not registered",
        ),
    ] {
        let mut command = meshmeter();
        command.args(["check", "--group", group, "--kubeconfig"]);
        let output = command.arg(&file).output().await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{group}: {said}");
        assert!(said.contains(expected), "{group}: {said}");
    }
    app.stop().await;
}

/// Under the plugin's name the program has the operator's commands alone, in kubectl's words, and
/// says what to do where there is no cluster.
#[tokio::test(flavor = "multi_thread")]
async fn is_a_kubectl_plugin() {
    let folder = tempfile::TempDir::new().unwrap();
    let plugin = folder.path().join("kubectl-meshmeter");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_meshmeter"), &plugin).unwrap();
    let run = async |words: &[&str]| {
        let mut command = Command::new(&plugin);
        command.env_clear().env("HOME", folder.path()).args(words);
        let output = command.output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, help, _) = run(&["--help"]).await;
    assert_eq!(code, Some(0));
    assert!(
        help.contains("Usage: kubectl meshmeter <COMMAND>"),
        "{help}"
    );
    assert!(!help.contains("\n  serve "), "{help}");
    for (words, code, expected) in [
        (
            &["top", "pods"][..],
            1,
            "error: no kubeconfig: set KUBECONFIG",
        ),
        (&["check"], 2, "error: no kubeconfig: set KUBECONFIG"),
        (&["serve"], 2, "unrecognized subcommand 'serve'"),
        (
            &["explain", "deployment", "x"],
            1,
            "only an HPA is: hpa NAME",
        ),
        (
            &["explain", "hpa", "x", "--at", "noon"],
            1,
            "--at noon: not a time",
        ),
        (
            &["top", "pods", "--help"],
            0,
            "  kubectl meshmeter top pods\n",
        ),
        (&["completion", "fish"], 0, "complete -c kubectl-meshmeter"),
    ] {
        let (exit, said, error) = run(words).await;
        assert_eq!(exit, Some(code), "{words:?}: {error}");
        let said = said + &error;
        assert!(said.contains(expected), "{words:?}: {said}");
    }
}
