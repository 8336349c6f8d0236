//! The operator's commands against the program that they are part of.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::app::App;
use crate::sidecar::{Sidecar, inbound};

/// Exit code, stdout and stderr of `meshmeter` with these words, asking `app`.
async fn run(app: &App, words: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshmeter"));
    let server = format!("https://{}", app.addresses.api);
    command
        .args(words.split_whitespace())
        .args(["--insecure-skip-tls-verify", "--server", &server])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Two pods of 10 and 20 requests a second, as people see them.
#[tokio::test(flavor = "multi_thread")]
async fn top_shows_what_sidecars_count() {
    let app = App::start().await;
    let mut sidecars = Vec::new();
    for (pod, total) in [("jazz-1", 100), ("jazz-2", 200)] {
        let mut sidecar = Sidecar::connect(app.addresses.ingest, pod, "jazz").await;
        sidecar.report(vec![inbound(total, total * 2)]).await;
        sidecars.push(sidecar);
    }
    let (code, said, error) = run(&app, "top pods -n prod").await;
    assert_eq!(code, Some(0), "{error}");
    let rows: Vec<Vec<_>> = said
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{said}");
    // The busiest first.
    assert_eq!((rows[1][0], rows[2][0]), ("jazz-2", "jazz-1"), "{said}");
    let rate: f64 = rows[1][1].parse().unwrap();
    assert!((rate - 20.0).abs() < 0.5, "{said}");
    let (code, said, _) = run(&app, "top pods -A -l app=jazz -o json").await;
    assert_eq!(code, Some(0));
    let list: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{said}");
    for (words, expected) in [
        ("top namespaces -o name", "namespace/prod\n"),
        ("top pods -n prod -l app=metal", ""),
        ("top pods jazz-1 -n prod -o name", "pod/jazz-1\n"),
    ] {
        let (code, said, error) = run(&app, words).await;
        assert_eq!(
            (code, said.as_str()),
            (Some(0), expected),
            "{words}: {error}"
        );
    }
    for (words, expected) in [
        ("top pods nobody -n prod", "no nobody among the pods here"),
        ("explain hpa nobody -n prod", "nobody"),
        ("timeline hpa nobody -n prod", "nobody"),
        ("top pods -n prod -l =", "labelSelector"),
    ] {
        let (code, said, error) = run(&app, words).await;
        assert_eq!((code, said.as_str()), (Some(1), ""), "{words}: {error}");
        assert!(
            error.starts_with("error: ") && error.contains(expected),
            "{words}: {error}"
        );
    }
    app.stop().await;
}
