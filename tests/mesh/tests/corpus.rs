//! A configuration with all shapes of App Mesh's, on real Envoys of both versions, with and without
//! the xDS proxy.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::discovery::{Form, LISTENER};
use mesh_core::injection::{Directions, Injection, Plugin};
use mesh_core::listener;
use serde_json::{Value, json};
use tests_mesh::configuration::{bytes_of, json_of};
use tests_mesh::corpus::Corpus;
use tests_mesh::corpus::backends::Backends;
use tests_mesh::corpus::requests::{self, LISTENERS};
use tests_mesh::grpc::ControlPlane;
use tests_mesh::versions::Version;
use tests_mesh::{Modules, XdsProxy, bootstrap, dump, on_each_version};
use tests_support::aggregator::{Aggregator, Options as AggregatorOptions};
use tests_support::clock;
use tests_support::envoy::{Envoy, Options};
use tests_support::load::{Load, Phase, Tally};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_mins(1);

on_each_version!(
    it_behaves_the_same,
    it_behaves_the_same_by_delta_discovery,
    a_change_that_is_refused_interrupts_nothing,
    a_change_that_is_refused_interrupts_nothing_by_delta_discovery,
);

async fn it_behaves_the_same(version: Version) {
    behaves_the_same(version, Form::StateOfTheWorld).await;
}

async fn it_behaves_the_same_by_delta_discovery(version: Version) {
    behaves_the_same(version, Form::Delta).await;
}

async fn a_change_that_is_refused_interrupts_nothing(version: Version) {
    interrupts_nothing(version, Form::StateOfTheWorld).await;
}

async fn a_change_that_is_refused_interrupts_nothing_by_delta_discovery(version: Version) {
    interrupts_nothing(version, Form::Delta).await;
}

async fn envoy(version: Version, form: Form, xds: SocketAddr) -> Envoy {
    let nobody = "127.0.0.1:9".parse().unwrap();
    let mut config = bootstrap("dj", nobody, xds);
    if form == Form::Delta {
        config["dynamic_resources"]["ads_config"]["api_type"] = json!("DELTA_GRPC");
    }
    // As App Mesh's agent has it for routers without a configuration.
    config["layered_runtime"] = json!({"layers": [{"name": "static", "static_layer": {
        "envoy.reloadable_features.no_extension_lookup_by_name": version == Version::New,
    }}]});
    let options = Options {
        binary: version.binary().unwrap(),
        // As App Mesh's agent has it: connections of a listener that is replaced end after their
        // next answer, not at once.
        drain_time: Duration::from_secs(20),
        ..Options::default()
    };
    let mut envoy = Envoy::start(&config, &options).await.unwrap();
    for listener in LISTENERS {
        if let Err(error) = envoy.wait_listener(listener).await {
            panic!("{error:#}\n{}", envoy.log_tail());
        }
    }
    envoy
}

async fn xds_proxy(
    control_plane: &ControlPlane,
    aggregator: SocketAddr,
    modules: &Modules,
) -> XdsProxy {
    XdsProxy::start("dj", control_plane.address, aggregator, modules)
        .await
        .unwrap()
}

/// The same requests have the same answers, what Envoy runs is the same but for our parts, and the
/// listeners that it runs are those that our parts can be taken out of again.
async fn behaves_the_same(version: Version, form: Form) {
    let backends = Backends::start().await.unwrap();
    let corpus = Corpus::new(version, &backends).await.unwrap();
    let control_plane = ControlPlane::start(None, corpus.answer(form))
        .await
        .unwrap();
    let aggregator = Aggregator::start(&AggregatorOptions::default())
        .await
        .unwrap();
    let modules = Modules::built().unwrap();
    let beside = xds_proxy(&control_plane, aggregator.ingest(), &modules).await;

    let without = envoy(version, form, control_plane.address).await;
    let with = envoy(version, form, beside.xds).await;
    let rejected = beside.metric("changes_rejected_total").await.unwrap();
    assert!(rejected < 0.5, "{}", beside.log());
    let plain = requests::answers(&without, &backends).await.unwrap();
    let counted = requests::answers(&with, &backends).await.unwrap();
    assert_eq!(plain, counted);
    for part in [
        "x-lua: seen",
        "echo: as it is.",
        "tls: of amazon",
        "101",
        "404",
        "503",
    ] {
        assert!(
            plain.iter().any(|answer| answer.contains(part)),
            "{part}: {plain:#?}"
        );
    }

    let dump_with = dump::config_dump(&with).await.unwrap();
    let dump_without = dump::config_dump(&without).await.unwrap();
    let ours = dump_with
        .to_string()
        .matches("\"root_id\":\"meshmeter\"")
        .count();
    assert!(ours >= 6, "only {ours} of our parts are in it");
    assert_eq!(
        dump::stripped(&dump_with).unwrap(),
        dump::stripped(&dump_without).unwrap()
    );
    let (with, without) = (
        dump::listeners(&dump_with).unwrap(),
        dump::listeners(&dump_without).unwrap(),
    );
    assert_eq!(with.len(), LISTENERS.len());
    our_parts_come_out(&with, &without).await;
}

/// Of listeners that real Envoys run, with and without our parts.
async fn our_parts_come_out(with: &[Value], without: &[Value]) {
    let with = bytes_of(with).await.unwrap();
    let without = bytes_of(without).await.unwrap();
    for listener in &without {
        let injection = injection();
        let changed = listener::insert(listener, &injection).unwrap().unwrap();
        assert_eq!(listener::insert(&changed, &injection).unwrap(), None);
        assert_eq!(listener::remove(&changed).unwrap().as_ref(), Some(listener));
    }
    // In JSON again, since Envoy's own bytes are not in its dump.
    let back = with
        .iter()
        .map(|listener| listener::remove(listener).unwrap().unwrap());
    let back = json_of(LISTENER, &back.collect::<Vec<_>>()).await.unwrap();
    let without = json_of(LISTENER, &without).await.unwrap();
    assert_eq!(sorted(back), sorted(without));
}

/// By name; Envoy lists them in any order.
fn sorted(mut listeners: Vec<Value>) -> Vec<Value> {
    listeners.sort_by_key(|listener| listener["name"].to_string());
    listeners
}

fn injection() -> Injection {
    let plugin = |role: &str| {
        Some(Plugin {
            module: format!("/opt/meshmeter/{role}.wasm"),
            inbound: "{}".to_owned(),
            outbound: "{}".to_owned(),
        })
    };
    Injection {
        filter: plugin("filter"),
        access_log: plugin("access_log"),
        upstream_log: plugin("upstream_log"),
        directions: Directions::Both,
        clusters: Vec::new(),
    }
}

/// Under load the module becomes one that Envoy does not take, and the control plane sends other
/// listeners: Envoy refuses them with our parts, has the original, and no request hears of it.
async fn interrupts_nothing(version: Version, form: Form) {
    let backends = Backends::start().await.unwrap();
    let corpus = Corpus::new(version, &backends).await.unwrap();
    let control_plane = ControlPlane::start(None, corpus.answer(form))
        .await
        .unwrap();
    let aggregator = Aggregator::start(&AggregatorOptions::default())
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let filter = folder.path().join("filter.wasm");
    fs::copy(Modules::built().unwrap().filter, &filter).unwrap();
    let modules = Modules {
        filter: filter.clone(),
        log: None,
    };
    let beside = xds_proxy(&control_plane, aggregator.ingest(), &modules).await;
    let envoy = envoy(version, form, beside.xds).await;

    let target = envoy.listener("lds_ingress_0.0.0.0_15003").unwrap();
    let duration = Duration::from_secs(6);
    let load = Load::new(
        target,
        vec![Phase {
            rate: 100.0,
            duration,
        }],
    );
    let tally = Arc::new(Tally::default());
    let running = tokio::spawn(load.run(Arc::clone(&tally), CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    fs::write(&filter, b"\0asm\x01\0\0\0this is not a module").unwrap();
    let next = corpus.next_listeners(form);
    let refusals = f64::from(u32::try_from(next.len()).unwrap());
    for response in next {
        control_plane.push(response);
    }
    clock::wait_for("the refusal", PATIENCE, async || {
        Ok((beside.metric("changes_rejected_total").await? > refusals - 0.5).then_some(()))
    })
    .await
    .unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(tally.broken() + tally.refused(), 0, "{}", envoy.log_tail());
    assert_eq!(tally.answers().keys().collect::<Vec<_>>(), [&200]);
    let running = dump::config_dump(&envoy).await.unwrap();
    let listeners = dump::listeners(&running).unwrap();
    let text = serde_json::to_string(&listeners).unwrap();
    assert!(
        !text.contains("\"root_id\":\"meshmeter\""),
        "our parts are still there"
    );
    let next = text.matches("continue_on_listener_filters_timeout").count();
    assert_eq!(next, LISTENERS.len(), "the original was not taken");
    // What Envoy accepted in the end is what the control plane hears.
    assert!(beside.log().contains("Envoy rejected the change"));
}
