//! The injector's webhook at its shipped limit of memory.
#![expect(clippy::print_stdout, reason = "what was measured belongs in the log")]

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tests_attacks::caged::Caged;
use tests_attacks::flood::{self, Call};
use tests_attacks::heads::{self, Endless};
use tests_attacks::reviewer;
use tests_attacks::target::{HTTP1, HTTP2, Target};
use tests_attacks::well_behaved::WellBehaved;
use tests_support::kubernetes::CertificateAuthority;

/// As `deploy/kustomize/components/injector/injector.yaml` says.
const LIMIT: u64 = 128 << 20;
const NAME: &str = "meshmeter-injector.meshmeter.svc";
const MIB: usize = 1 << 20;
const REVIEW: Call = Call {
    path: "/mutate?timeout=30s",
    content_type: "application/json",
};
/// Attackers come from so many addresses: one alone may have half of the room for bodies.
const ADDRESSES: u8 = 8;
const SLOW_FOR: Duration = Duration::from_secs(4);
/// A head of HTTP/1.1 has ten seconds.
const SLOW_MAX: Duration = Duration::from_mins(1);
const RAPID_FOR: Duration = Duration::from_secs(2);
const LINES_MAX: usize = 300;

/// A webhook with a certificate in files, and no cluster; and how it is reached.
async fn start() -> Result<(Caged, Target)> {
    let folder = TempDir::new()?;
    let file = |name: &str| folder.path().join(name);
    let ca = CertificateAuthority::new("cluster")?;
    let issued = ca.server(&[NAME])?;
    fs::write(file("tls.crt"), &issued.certificate)?;
    fs::write(file("tls.key"), &issued.key)?;
    let arguments = [
        "injector".to_owned(),
        "--image=registry/mesh:1".to_owned(),
        "--upstream=http://control-plane:18000".to_owned(),
        "--aggregator=meshmeter:7470".to_owned(),
        format!("--cert-file={}", file("tls.crt").display()),
        format!("--key-file={}", file("tls.key").display()),
    ];
    let webhook = Caged::start(LIMIT, folder, "webhook", &arguments).await?;
    webhook.wait_ready().await?;
    let target = Target::secure(webhook.port, &ca.pem, NAME)?;
    Ok((webhook, target))
}

/// The beginning of a review of `bytes` bytes, of which half comes.
fn half_body(bytes: usize) -> Vec<u8> {
    let head = format!(
        "POST /mutate?timeout=30s HTTP/1.1\r\nhost: {NAME}\r\ncontent-type: application/json\r\n\
         content-length: {bytes}\r\n\r\n"
    );
    let mut text = head.into_bytes();
    text.resize(text.len() + bytes / 2, b' ');
    text
}

/// While attackers hold half-sent bodies, connections and heads without an end, kube-apiserver gets
/// each pod injected within its patience, probes are answered, and the program stays within its
/// limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attackers_keep_no_pod_from_its_sidecar() -> Result<()> {
    let (mut webhook, target) = start().await?;
    let pid = webhook.pid()?;
    let api_server = target.clone();
    let served = WellBehaved::start((pid, webhook.admin), async move |stop| {
        reviewer::run(pid, &api_server, &stop).await
    })?;
    let target = target.attacked_from(ADDRESSES);
    let mut report = |what: &str, held: &flood::Held| -> Result<()> {
        let peak = webhook.check(what)? >> 20;
        println!("{what}: peak {peak} MiB, {} refused", held.refused);
        Ok(())
    };
    let wanted = std::env::var("ATTACK").unwrap_or_default();
    let chosen = |name: &str| wanted.is_empty() || wanted == name;
    if chosen("half") {
        let held = flood::silent(&target, HTTP1, 100, half_body(3 * MIB)).await;
        report("100 half-sent bodies of 3 MiB", &held)?;
        drop(held);
        let held = flood::half_messages(&target, REVIEW, 20, 20, 2 * MIB).await;
        report("400 half-sent bodies of 2 MiB on 20 connections", &held)?;
        drop(held);
        let held = flood::silent(&target, HTTP1, 200, half_body(20 * 1024)).await;
        report("200 half-sent bodies of 20 KiB", &held)?;
        // As long as they are let.
        tokio::time::sleep(SLOW_FOR).await;
    }
    if chosen("connections") {
        let held = flood::without_handshake(&target, 1_000, b"").await;
        report("1,000 connections without a byte", &held)?;
        drop(held);
        let held = flood::silent(&target, HTTP1, 300, &b""[..]).await;
        report("300 connections without a request", &held)?;
        drop(held);
        let held = flood::empty_streams(&target, REVIEW, 50, 250).await;
        report("12,500 empty streams", &held)?;
        drop(held);
        flood::rapid(&target, REVIEW, "{}".into(), 8, RAPID_FOR).await;
        report("rapid connects", &flood::Held::default())?;
    }
    if chosen("heads") {
        for kind in [Endless::http1(), Endless::http2()] {
            let held = heads::huge(&target, kind, 100, 16 * MIB).await;
            report("100 endless heads", &held)?;
            ensure!(held.refused == 100, "{} are closed", held.refused);
        }
        let held = tokio::join!(
            heads::slow(&target, HTTP2, 100, SLOW_FOR),
            heads::slow(&target, HTTP1, 100, SLOW_MAX),
        );
        report("200 slow heads", &held.1)?;
        ensure!(held.1.refused == 100, "{} are closed", held.1.refused);
    }
    println!("{:?}", served.finish()?);
    let lines = webhook.log_lines();
    ensure!(lines < LINES_MAX, "{lines} lines of log");
    Ok(())
}
