//! Amazon Managed Prometheus as far as it can be had without AWS: every signature is recomputed by botocore, every refusal
//! is one that is documented, and what is stored is read back in `PromQL`.

use std::time::Duration;

use serde_json::json;
use tests_remote_write::amp::{Amp, KEY};
use tests_remote_write::{PATIENCE, Rig};
use tests_support::{artifacts, clock};
use tokio::process::Command;

/// Kills at odd moments; each start sends what the one before left in the queue.
const KILLS: u64 = 50;

fn none(value: f64) -> bool {
    value.abs() < f64::EPSILON
}

/// Every refusal and fault that is not final costs no sample, and none is taken twice.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_to_refusals() {
    let mut rig = Rig::amp(&[]).await.unwrap();
    rig.send(5).await.unwrap();
    rig.arrives().await.unwrap();
    let busy = json!({"status": 429, "body": "ThrottlingException"});
    let failed = json!({"status": 500});
    let faults = json!([
        busy, busy, busy,
        {"status": 413},
        failed, {"status": 503, "headers": {"Retry-After": "1"}}, failed,
        {"status": 0},
        // Stored, and the answer is lost: it is sent again, and is the same.
        {"status": 500, "store": true},
        {"status": 0, "store": true},
        {"status": 403, "body": "ExpiredTokenException"},
    ]);
    rig.amp.as_ref().unwrap().fail(&faults).await.unwrap();
    for _ in 0..10 {
        rig.send(3).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    rig.arrives().await.unwrap();
    assert!(rig.metric("retries_total").await.unwrap() >= 9.0);
    for lost in [
        "samples_dropped_total",
        "samples_total{result=\"rejected\"}",
    ] {
        let count = rig.metric(lost).await.unwrap();
        assert!(none(count), "{lost} {count}: {}", rig.aggregator.log_tail());
    }
}

/// Fifty kills of the writer: the numbers are the same after all of it.
#[tokio::test(flavor = "multi_thread")]
async fn totals_survive_fifty_kills() {
    let mut rig = Rig::amp(&[]).await.unwrap();
    rig.send(5).await.unwrap();
    rig.arrives().await.unwrap();
    for round in 0..KILLS {
        rig.send(2).await.unwrap();
        tokio::time::sleep(Duration::from_millis(271 * round % 700)).await;
        rig.restart_aggregator().await.unwrap();
    }
    rig.arrives().await.unwrap();
    let resets = rig
        .prometheus
        .value("sum(resets(envoy_cluster_upstream_rq_total[10m]))")
        .await;
    assert_eq!(resets.unwrap(), Some(0.0));
    let rejected = rig
        .metric("samples_total{result=\"rejected\"}")
        .await
        .unwrap();
    assert!(none(rejected), "{}", rig.aggregator.log_tail());
}

/// With a key that is not taken nothing is sent and nothing is dropped; once it is taken all of it arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_holds_samples() {
    let mut rig = Rig::amp(&["--credential=other:secret"]).await.unwrap();
    rig.send(5).await.unwrap();
    clock::wait_for("a shard that is held", PATIENCE, async || {
        let blocked = rig.metric("shards_blocked").await?;
        Ok((blocked > 0.0).then_some(()))
    })
    .await
    .unwrap();
    assert!(none(
        rig.metric("samples_total{result=\"stored\"}")
            .await
            .unwrap()
    ));
    let address = rig.amp.take().unwrap().address();
    let receiver = rig.prometheus.address();
    rig.amp = Some(Amp::start(address, receiver, &[]).await.unwrap());
    rig.arrives().await.unwrap();
    assert!(none(rig.metric("samples_dropped_total").await.unwrap()));
}

/// `meshmeter remote-write check` says in one sentence what is right or wrong.
#[tokio::test(flavor = "multi_thread")]
async fn check_explains() {
    let rig = Rig::amp(&[]).await.unwrap();
    let url = rig.amp.as_ref().unwrap().url().to_owned();
    let wrong_path = url.replace("/api/v1/remote_write", "/api/v1/write");
    for (url, region, secret, good, expected) in [
        (
            &url,
            "us-east-1",
            "test-secret",
            true,
            "one sample of meshmeter_remote_write_check was stored",
        ),
        (&url, "eu-west-1", "test-secret", false, "another region"),
        (
            &url,
            "us-east-1",
            "wrong",
            false,
            "The signature is not that of the key",
        ),
        (
            &wrong_path,
            "us-east-1",
            "test-secret",
            false,
            "the workspace id",
        ),
    ] {
        let output = Command::new(artifacts::meshmeter().unwrap())
            .args(["remote-write", "check", "--remote-write-url", url])
            .args([
                "--remote-write-auth",
                "sigv4",
                "--remote-write-region",
                region,
            ])
            .envs(KEY)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.success(), good, "{text}");
        assert!(text.contains(expected), "{region} {secret}: {text}");
    }
}
