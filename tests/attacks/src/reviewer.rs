//! kube-apiserver as the webhook sees it: a pod is reviewed a few times a second, and each time it
//! has to be injected.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tests_support::stopwatch::{Summary, Times};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::target::{HTTP2, Target};

/// As kube-apiserver sends it, of a pod that is to be injected.
const REVIEW: &str = include_str!("../../../mesh/tests/webhook/review.json");
const EVERY: Duration = Duration::from_millis(500);
/// `timeoutSeconds` of the shipped configuration: beyond that the pod is admitted as it is.
const WITHIN: Duration = Duration::from_secs(5);
/// Beyond that a review is lost, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the webhook `target` of the program `pid` until `stop`. Fails if a pod is not injected, or
/// reviews take too long.
pub async fn run(pid: u32, target: &Target, stop: &CancellationToken) -> Result<Summary> {
    let mut times = Times::new(pid, WITHIN);
    while !stop.is_cancelled() {
        let lap = times.begin();
        let reviewed = timeout(PATIENCE, review(target)).await;
        reviewed.context("no answer")??;
        times.end(&lap);
        sleep(EVERY).await;
    }
    times.judge("reviews")
}

/// One review over a connection of its own, as after kube-apiserver's idle one was closed.
async fn review(target: &Target) -> Result<()> {
    let socket = target.connect(HTTP2).await?;
    let (sender, connection) = h2::client::handshake(socket).await?;
    let connection = tokio::spawn(connection);
    let mut sender = sender.ready().await?;
    let request = Request::post("https://webhook/mutate?timeout=5s")
        .header("content-type", "application/json")
        .body(())?;
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(Bytes::from_static(REVIEW.as_bytes()), true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text.extend_from_slice(&data);
    }
    connection.abort();
    let shown = String::from_utf8_lossy(&text);
    ensure!(head.status.is_success(), "{}: {shown}", head.status);
    let answer: Value = serde_json::from_slice(&text).with_context(|| shown.into_owned())?;
    ensure!(answer["response"]["patch"].is_string(), "{answer}");
    Ok(())
}
