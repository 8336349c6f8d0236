//! djapp through the mesh, on real Envoys of both versions.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tests_mesh::split::Split;
use tests_mesh::versions::Version;
use tests_mesh::{Djapp, EGRESS, INGRESS, Mesh, Modules, Pod, dump, on_each_version};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::djapp::Behaviour;
use tests_support::load::{Load, Phase, Tally};
use tests_support::{clock, http};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

on_each_version!(
    a_canary_is_shifted_and_counted,
    a_filter_that_envoy_refuses_is_taken_back,
    a_missing_module_is_left_out,
    the_xds_proxy_may_die,
    the_control_plane_may_die,
    the_rest_of_the_configuration_is_the_same,
    upgrades_reach_the_application,
);

async fn mesh(version: Version, weights: (u32, u32)) -> Mesh {
    let mut mesh = Mesh::start(weights).await.unwrap();
    mesh.envoy = version.binary().unwrap();
    mesh
}

async fn djapp(version: Version, weights: (u32, u32)) -> Djapp {
    let envoy = version.binary().unwrap();
    Djapp::start_on(envoy, weights).await.unwrap()
}

async fn load(pod: &Pod, rate: f64, seconds: u64) -> Arc<Tally> {
    let duration = Duration::from_secs(seconds);
    let target = pod.envoy.listener(INGRESS).unwrap();
    let mut load = Load::new(target, vec![Phase { rate, duration }]);
    "dj.prod.svc.cluster.local".clone_into(&mut load.host);
    let tally = Arc::new(Tally::default());
    load.run(Arc::clone(&tally), CancellationToken::new())
        .await
        .unwrap();
    tally
}

/// Waits until dj's Envoy sends to both versions of jazz, by `weights`.
async fn is_shifted(app: &Djapp, weights: (u32, u32)) {
    let envoy = &app.dj.envoy;
    clock::wait_for("the weights to reach Envoy", PATIENCE, async || {
        let page = http::get_ok(envoy.admin(), "/config_dump").await?;
        let has_weight = page.text().contains(&format!("\"weight\": {}", weights.0));
        let stats = envoy.stats().await?;
        let is_healthy = ["v1", "v2"].iter().all(|version| {
            let cluster = format!("cds_egress_dj-app_jazz-{version}_prod_http_9080");
            stats.get(&format!("cluster.{cluster}.membership_healthy")) > 0
        });
        Ok((has_weight && is_healthy).then_some(()))
    })
    .await
    .unwrap();
}

/// Weights change under load: every request is answered, counted once, and goes where the weights
/// say.
async fn a_canary_is_shifted_and_counted(version: Version) {
    let app = djapp(version, (95, 5)).await;
    let mut before = (0, 0);
    for weights in [(95, 5), (50, 50)] {
        app.mesh.shift(weights).unwrap();
        is_shifted(&app, weights).await;
        let tally = load(&app.dj, 150.0, 4).await;
        assert_eq!(tally.broken() + tally.refused(), 0);
        assert_eq!(tally.answers().keys().collect::<Vec<_>>(), [&200]);
        let now = app.calls().await.unwrap();
        let split = (now.0 - before.0, now.1 - before.1);
        assert_eq!(split.0 + split.1, tally.written(), "{split:?}");
        let split = Split::new(split, weights);
        assert!(split.is_likely(), "{split:?}");
        for pod in app.pods() {
            pod.is_exact(&app.aggregator).await.unwrap();
        }
        before = now;
    }
    // Callers are counted where they call, too; the last report may be on its way.
    clock::wait_for("all of dj's calls", PATIENCE, async || {
        let dj = app.dj.state(&app.aggregator).await?;
        // Of the logger too, which an old Envoy does not tell its side.
        let told = dj.map(|dj| (dj.requests("outbound"), dj.attempts_of("outbound")));
        let calls = Some(before.0 + before.1);
        Ok((told == Some((calls, calls))).then_some(()))
    })
    .await
    .unwrap();
    // Of nothing else that we inject (docs/decisions/0033).
    let log = app.dj.envoy.log();
    let mut warned = log.lines().filter(|line| line.contains("eprecated"));
    assert!(
        warned.all(|line| line.contains("PluginConfig.fail_open")),
        "{log}"
    );
}

/// A module that Envoy refuses costs nothing: it gets the original at once, and traffic flows.
async fn a_filter_that_envoy_refuses_is_taken_back(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let filter = folder.path().join("broken.wasm");
    fs::write(&filter, b"\0asm\x01\0\0\0this is not a module").unwrap();
    let modules = Modules { filter, log: None };
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let mut mesh = mesh(version, (1, 1)).await;
    let interposed = Some((&modules, aggregator.ingest()));
    let pod = mesh
        .pod("jazz-v1", Behaviour::jazz_v1(), interposed)
        .await
        .unwrap();
    let answer = http::get(pod.envoy.listener(INGRESS).unwrap(), "/")
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let beside = pod.xds_proxy.as_ref().unwrap();
    assert!((beside.metric("changes_rejected_total").await.unwrap() - 1.0).abs() < 0.5);
    assert!(
        beside.log().contains("Envoy rejected the change"),
        "{}",
        beside.log()
    );
    let dump = dump(&pod).await;
    assert!(!dump.to_string().contains("broken.wasm"));
    assert!(dump.to_string().contains("lds_ingress"));
}

/// Without its module nothing is inserted, and the sidecar works.
async fn a_missing_module_is_left_out(version: Version) {
    let modules = Modules {
        filter: "/nowhere/filter.wasm".into(),
        log: None,
    };
    let mut mesh = mesh(version, (1, 1)).await;
    let nobody = "127.0.0.1:9".parse().unwrap();
    let pod = mesh
        .pod("jazz-v1", Behaviour::jazz_v1(), Some((&modules, nobody)))
        .await
        .unwrap();
    let answer = http::get(pod.envoy.listener(INGRESS).unwrap(), "/")
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let beside = pod.xds_proxy.as_ref().unwrap();
    assert!(
        beside
            .metric("responses_without_module_total")
            .await
            .unwrap()
            > 0.0
    );
    assert!(beside.log().contains("/nowhere/filter.wasm"));
}

/// The xDS proxy dies and comes back under load: no request fails, and none is lost to the count.
async fn the_xds_proxy_may_die(version: Version) {
    let mut app = djapp(version, (50, 50)).await;
    let target = app.dj.envoy.listener(INGRESS).unwrap();
    let tally = Arc::new(Tally::default());
    let duration = Duration::from_secs(8);
    let mut under = Load::new(
        target,
        vec![Phase {
            rate: 60.0,
            duration,
        }],
    );
    "dj.prod.svc.cluster.local".clone_into(&mut under.host);
    let running = tokio::spawn(under.run(Arc::clone(&tally), CancellationToken::new()));
    for pod in std::iter::once(&mut app.dj).chain(&mut app.jazz) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let xds_proxy = pod.xds_proxy.as_mut().unwrap();
        xds_proxy.kill().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        xds_proxy.restart().await.unwrap();
    }
    running.await.unwrap().unwrap();
    assert_eq!(tally.broken() + tally.refused(), 0);
    assert_eq!(tally.answers().keys().collect::<Vec<_>>(), [&200]);
    for pod in [&app.dj, &app.jazz[0], &app.jazz[1]] {
        pod.is_exact(&app.aggregator).await.unwrap();
    }
    // Envoy is connected again, and takes the next change.
    clock::wait_for("the stream to be back", PATIENCE, async || {
        let streams = app.dj.xds_proxy.as_ref().unwrap().metric("streams").await?;
        Ok((streams > 0.5).then_some(()))
    })
    .await
    .unwrap();
}

/// Control plane and xDS proxy are away: Envoy serves on with its last configuration and counts on,
/// and the aggregator loses nothing.
async fn the_control_plane_may_die(version: Version) {
    let mut app = djapp(version, (50, 50)).await;
    load(&app.dj, 50.0, 1).await;
    app.mesh.lose_control_plane().await.unwrap();
    let beside = app.dj.xds_proxy.as_ref().unwrap();
    clock::wait_for("the stream to end", PATIENCE, async || {
        Ok((beside.metric("upstream_failures_total").await? > 0.5).then_some(()))
    })
    .await
    .unwrap();
    let before = stripped(&dump(&app.dj).await);
    let tally = load(&app.dj, 100.0, 3).await;
    app.dj.xds_proxy.as_mut().unwrap().kill().await.unwrap();
    let alone = load(&app.dj, 100.0, 2).await;
    for tally in [tally, alone] {
        assert_eq!(tally.broken() + tally.refused(), 0);
        assert_eq!(tally.answers().keys().collect::<Vec<_>>(), [&200]);
    }
    assert_eq!(stripped(&dump(&app.dj).await), before);
    app.dj.is_exact(&app.aggregator).await.unwrap();
}

/// What Envoy runs is what the control plane says, but for our parts.
async fn the_rest_of_the_configuration_is_the_same(version: Version) {
    let modules = Modules::built().unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let mut mesh = mesh(version, (70, 30)).await;
    let interposed = Some((&modules, aggregator.ingest()));
    for name in ["jazz-v1", "dj"] {
        let with = mesh.pod(name, Behaviour::dj(), interposed).await.unwrap();
        let without = mesh.pod(name, Behaviour::dj(), None).await.unwrap();
        let (with, without) = (dump(&with).await, dump(&without).await);
        assert!(
            with.to_string().contains("\"meshmeter\""),
            "nothing was inserted"
        );
        assert_eq!(stripped(&with), stripped(&without), "{name}");
    }
}

async fn dump(pod: &Pod) -> Value {
    dump::config_dump(&pod.envoy).await.unwrap()
}

fn stripped(of: &Value) -> Value {
    dump::stripped(of).unwrap()
}

/// A client that asks for a websocket is answered by the application, in its own pod and through a
/// caller's, and not by Envoy with 403. This one knows no websockets and answers as ever.
async fn upgrades_reach_the_application(version: Version) {
    let mut mesh = mesh(version, (1, 0)).await;
    let jazz = mesh
        .pod("jazz-v1", Behaviour::jazz_v1(), None)
        .await
        .unwrap();
    let mut dj = mesh.pod("dj", Behaviour::dj(), None).await.unwrap();
    let egress = dj.envoy.wait_listener(EGRESS).await.unwrap();
    let ingress = jazz.envoy.listener(INGRESS).unwrap();
    for target in [ingress, egress] {
        clock::wait_for("the application's answer", PATIENCE, async || {
            let answer = upgrade(target).await?;
            assert!(!answer.contains("403"), "{answer}");
            Ok((answer == "HTTP/1.1 200 OK").then_some(()))
        })
        .await
        .unwrap();
    }
}

/// The first line of what is answered to a client of jazz's that asks for a websocket.
async fn upgrade(target: SocketAddr) -> std::io::Result<String> {
    let mut stream = BufStream::new(TcpStream::connect(target).await?);
    let request = "GET / HTTP/1.1\r\nhost: jazz.prod.svc.cluster.local\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(line.trim_end().to_owned())
}
