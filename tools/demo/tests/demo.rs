//! The demo as a whole, as its user runs it.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_support::clock;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Longest time for a run, on a busy machine.
const RUN_MAX: Duration = Duration::from_mins(2);

fn start(seconds: &str) -> Result<Child> {
    Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["--seconds", seconds, "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start the demo")
}

async fn output(child: Child) -> Result<Output> {
    let output = timeout(RUN_MAX, child.wait_with_output()).await;
    output.context("the demo did not end")?.context("wait")
}

/// Processes whose parent is `pid`.
fn children_of(pid: u32) -> Result<Vec<String>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // "pid (name) state ppid …"; a process may go while it is looked at.
        let line = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = line
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1));
        if parent == Some(pid.to_string().as_str()) {
            children.push(name);
        }
    }
    Ok(children)
}

/// One document on standard output and nothing else; every request and every attempt was counted
/// once, and jazz's retries and dead port make the two differ.
#[tokio::test]
async fn the_demo_is_exact() {
    let output = output(start("6").unwrap()).await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}", output.status);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["exact"], true, "{document}");
    let pods = document["pods"].as_array().unwrap();
    let names: Vec<_> = pods
        .iter()
        .map(|pod| pod["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["dj", "jazz-v1", "metal-v1"]);
    for pod in pods {
        assert_eq!(pod["namespace"], "prod");
        assert!(pod["sent"].as_u64() > Some(0), "{pod}");
        assert_eq!(pod["counted_requests"], pod["sent"]);
        assert_eq!(pod["counted_attempts"], pod["envoy_upstream_rq_total"]);
        assert!(pod["rps_peak"].as_f64() > Some(0.0), "{pod}");
    }
    assert_ne!(pods[1]["counted_requests"], pods[1]["counted_attempts"]);
    assert!(document["signal_age_ms"]["p99"].is_u64(), "{document}");
}

/// Ctrl-C in the middle: no document, an exit code of its own, and no process left behind.
#[tokio::test]
async fn ctrl_c_leaves_nothing_behind() {
    let mut demo = start("60").unwrap();
    let pid = demo.id().unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines();
    let begun = timeout(RUN_MAX, async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("load begins") {
                return Ok(());
            }
        }
        anyhow::bail!("the demo ended early")
    });
    begun.await.unwrap().unwrap();
    let children = children_of(pid).unwrap();
    assert_eq!(
        children.len(),
        5,
        "three Envoys, the aggregator and the page's proxy"
    );
    let signal = Command::new("kill")
        .args(["-INT", &pid.to_string()])
        .status();
    assert!(signal.await.unwrap().success());
    let output = output(demo).await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(output.stdout, b"");
    all_gone(&children).await.unwrap();
}

async fn all_gone(pids: &[String]) -> Result<()> {
    clock::wait_for("the children's end", Duration::from_secs(10), async || {
        let alive = |pid: &&String| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // A zombie has ended, whoever is to collect it.
            !line.is_empty() && !line.contains(") Z ")
        };
        Ok(pids.iter().find(alive).is_none().then_some(()))
    })
    .await?;
    ensure!(!pids.is_empty());
    Ok(())
}
