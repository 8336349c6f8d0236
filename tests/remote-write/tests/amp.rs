//! Amazon Managed Prometheus as far as it can be had without AWS: every signature is recomputed by
//! botocore, every refusal is one that is documented, and what is stored is read back in `PromQL`.

use std::time::Duration;

use serde_json::json;
use tests_remote_write::agent::Agent;
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

/// With a key that is not taken nothing is sent and nothing is dropped; once it is taken all of it
/// arrives.
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

/// A receiver whose clock is ten minutes ahead refuses the first signature, and takes the next: it
/// is made for its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_skewed_clock_is_corrected() {
    for offset in ["600", "-600"] {
        let mut rig = Rig::amp(&["--clock-offset", offset]).await.unwrap();
        rig.send(5).await.unwrap();
        rig.arrives().await.unwrap();
        assert!(none(rig.metric("samples_dropped_total").await.unwrap()));
        let skew = rig.metric("clock_skew_seconds").await.unwrap();
        let expected: f64 = offset.parse().unwrap();
        assert!((skew - expected).abs() < 5.0, "{skew}");
    }
}

/// The token expires at the receiver before its time, and the agent has another one: it is asked
/// for, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_renewed() {
    let agent = Agent::start("old").await.unwrap();
    let environment = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI".to_owned(), agent.url()),
        ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned()),
    ];
    let mut rig = Rig::amp_with(&["--credential=old:secret:token"], environment.into())
        .await
        .unwrap();
    rig.send(5).await.unwrap();
    rig.arrives().await.unwrap();
    let address = rig.amp.take().unwrap().address();
    let receiver = rig.prometheus.address();
    let flags = ["--credential=new:secret:token"];
    rig.amp = Some(Amp::start(address, receiver, &flags).await.unwrap());
    agent.offer("new");
    rig.send(5).await.unwrap();
    rig.arrives().await.unwrap();
    assert!(none(rig.metric("samples_dropped_total").await.unwrap()));
    assert!(agent.asked() >= 2);
}

/// More than the receiver takes, again and again: it is paced, and all of it arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_429_loses_nothing() {
    let mut rig = Rig::amp(&[]).await.unwrap();
    let busy = json!({"status": 429, "body": "ingestion rate limit (3) exceeded"});
    // One request at a time: the waits add up to half a minute.
    let storm = vec![busy; 5];
    rig.amp.as_ref().unwrap().fail(&json!(storm)).await.unwrap();
    for _ in 0..10 {
        rig.send(2).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let refused = rig.metric("retries_total{result=\"too_many\"}").await;
    assert!(refused.unwrap() > 0.0, "nothing was refused");
    rig.arrives().await.unwrap();
    assert!(none(rig.metric("samples_dropped_total").await.unwrap()));
}

/// Remote-Write 2.0 against a receiver of 1.0: it falls back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn version_2_falls_back() {
    let mut rig = Rig::direct_with(&["--remote-write-protocol=2.0"])
        .await
        .unwrap();
    rig.send(5).await.unwrap();
    rig.arrives().await.unwrap();
    let repeated = rig
        .metric("retries_total{result=\"unsupported\"}")
        .await
        .unwrap();
    assert!(repeated > 0.0, "{}", rig.aggregator.log_tail());
}

/// 400 means that some series were refused and the others stored: the receiver's words are logged,
/// and it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_partial_refusal_is_not_sent_again() {
    let mut rig = Rig::amp(&[]).await.unwrap();
    rig.send(5).await.unwrap();
    rig.arrives().await.unwrap();
    let refused =
        json!({"status": 400, "store": true, "body": "err: out of order sample, said AMP"});
    rig.amp
        .as_ref()
        .unwrap()
        .fail(&json!([refused]))
        .await
        .unwrap();
    rig.send(5).await.unwrap();
    rig.arrives().await.unwrap();
    clock::wait_for("the refusal to be counted", PATIENCE, async || {
        let rejected = rig.metric("samples_total{result=\"rejected\"}").await?;
        Ok((rejected > 0.0).then_some(()))
    })
    .await
    .unwrap();
    assert!(none(rig.metric("retries_total").await.unwrap()));
    let log = rig.aggregator.log();
    assert!(log.contains("out of order sample, said AMP"), "{log}");
}
