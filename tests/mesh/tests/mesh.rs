//! djapp through the mesh, on real Envoys.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tests_mesh::split::Split;
use tests_mesh::{Djapp, INGRESS, Mesh, Modules, Pod};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::djapp::Behaviour;
use tests_support::load::{Load, Phase, Tally};
use tests_support::{clock, http};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);
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

/// Weights change under load: every request is answered, counted once, and goes where the weights say.
#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_shifted_and_counted() {
    let app = Djapp::start((95, 5)).await.unwrap();
    let mut before = (0, 0);
    for weights in [(95, 5), (50, 50)] {
        app.mesh.shift(weights).unwrap();
        // The origin looks every half second.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
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
        let told = dj.and_then(|dj| dj.requests("outbound"));
        Ok((told == Some(before.0 + before.1)).then_some(()))
    })
    .await
    .unwrap();
}

/// A module that Envoy refuses costs nothing: it gets the original at once, and traffic flows.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_envoy_refuses_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let filter = folder.path().join("broken.wasm");
    fs::write(&filter, b"\0asm\x01\0\0\0this is not a module").unwrap();
    let modules = Modules { filter, log: None };
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let mut mesh = Mesh::start((1, 1)).await.unwrap();
    let interposed = Some((&modules, aggregator.ingest()));
    let pod = mesh
        .pod("jazz-v1", Behaviour::jazz_v1(), interposed)
        .await
        .unwrap();
    let answer = http::get(pod.envoy.listener(INGRESS).unwrap(), "/")
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let beside = pod.interposer.as_ref().unwrap();
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
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_module_is_left_out() {
    let modules = Modules {
        filter: "/nowhere/filter.wasm".into(),
        log: None,
    };
    let mut mesh = Mesh::start((1, 1)).await.unwrap();
    let nobody = "127.0.0.1:9".parse().unwrap();
    let pod = mesh
        .pod("jazz-v1", Behaviour::jazz_v1(), Some((&modules, nobody)))
        .await
        .unwrap();
    let answer = http::get(pod.envoy.listener(INGRESS).unwrap(), "/")
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let beside = pod.interposer.as_ref().unwrap();
    assert!(
        beside
            .metric("responses_without_module_total")
            .await
            .unwrap()
            > 0.0
    );
    assert!(beside.log().contains("/nowhere/filter.wasm"));
}

/// The interposer dies and comes back under load: no request fails, and none is lost to the count.
#[tokio::test(flavor = "multi_thread")]
async fn the_interposer_may_die() {
    let mut app = Djapp::start((50, 50)).await.unwrap();
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
    under.host = "dj.prod.svc.cluster.local".to_owned();
    let running = tokio::spawn(under.run(Arc::clone(&tally), CancellationToken::new()));
    for pod in std::iter::once(&mut app.dj).chain(&mut app.jazz) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let interposer = pod.interposer.as_mut().unwrap();
        interposer.kill().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        interposer.restart().await.unwrap();
    }
    running.await.unwrap().unwrap();
    assert_eq!(tally.broken() + tally.refused(), 0);
    assert_eq!(tally.answers().keys().collect::<Vec<_>>(), [&200]);
    for pod in [&app.dj, &app.jazz[0], &app.jazz[1]] {
        pod.is_exact(&app.aggregator).await.unwrap();
    }
    // Envoy is connected again, and takes the next change.
    clock::wait_for("the stream to be back", PATIENCE, async || {
        let streams = app
            .dj
            .interposer
            .as_ref()
            .unwrap()
            .metric("streams")
            .await?;
        Ok((streams > 0.5).then_some(()))
    })
    .await
    .unwrap();
}

/// What Envoy runs is what the origin says, but for our parts.
#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_the_configuration_is_the_same() {
    let modules = Modules::built().unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let mut mesh = Mesh::start((70, 30)).await.unwrap();
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
    let answer = http::get_ok(pod.envoy.admin(), "/config_dump").await;
    answer.unwrap().json().unwrap()
}

/// The listeners, clusters and routes of a dump without our parts, times, and what differs between two processes.
fn stripped(dump: &Value) -> Value {
    let configs = dump["configs"].as_array().unwrap().iter();
    let wanted = [
        "ListenersConfigDump",
        "ClustersConfigDump",
        "RoutesConfigDump",
    ];
    let wanted = configs.filter(|config| {
        let kind = config["@type"].as_str().unwrap();
        wanted.iter().any(|wanted| kind.ends_with(wanted))
    });
    let mut all: Value = wanted.cloned().collect();
    strip(&mut all);
    all
}

fn strip(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.retain(|item| {
                let name = item["name"].as_str().or(item["cluster"]["name"].as_str());
                !name.is_some_and(|name| name.starts_with("meshmeter"))
            });
            items.iter_mut().for_each(strip);
            // Envoy lists routes in the order of a hash table.
            if items.iter().any(|item| item["route_config"].is_object()) {
                items.sort_by_key(ToString::to_string);
            }
        }
        Value::Object(fields) => {
            for field in ["last_updated", "version_info", "port_value"] {
                fields.remove(field);
            }
            fields.values_mut().for_each(strip);
            // A list of ours alone was not there before.
            fields.retain(|_, value| value.as_array().is_none_or(|items| !items.is_empty()));
        }
        _ => {}
    }
}
