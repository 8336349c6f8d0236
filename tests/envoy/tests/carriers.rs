//! The role `filter` by each of its carriers, the Wasm module and the dynamic module, in the Envoys
//! that load it: counts are exact whatever happens.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_envoy::{
    Backends, FRONT, NAMESPACE, PATIENCE, POD, attach, free_address, identity, inbound, send_mix,
    settled, wait_state,
};
use tests_support::aggregator::{Aggregator, Options, PodState};
use tests_support::bootstrap::{Bootstrap, Listener};
use tests_support::envoy::{self, Envoy};
use tests_support::load::{Load, Phase, Tally};
use tests_support::plugin::{Carrier, Plugin};
use tests_support::{artifacts, clock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// A carrier in one Envoy.
#[derive(Clone, Debug)]
struct Case {
    carrier: Carrier,
    envoy: PathBuf,
}

/// Both carriers in today's Envoy, and the dynamic module in the oldest that loads it.
fn cases() -> Result<Vec<Case>> {
    let (newest, oldest) = (artifacts::envoy()?, artifacts::module_envoy()?);
    Ok(vec![
        Case {
            carrier: Carrier::Wasm,
            envoy: newest.clone(),
        },
        Case {
            carrier: Carrier::Module,
            envoy: newest,
        },
        Case {
            carrier: Carrier::Module,
            envoy: oldest,
        },
    ])
}

// === impl Case ===

impl Case {
    fn plugin(&self) -> Result<Plugin> {
        Ok(Plugin::filter_by(self.carrier)?
            .with_aggregator()
            .with("identity", identity()))
    }

    async fn start(&self, bootstrap: &Bootstrap) -> Result<Envoy> {
        let module = artifacts::Module::Native.path()?;
        let folder = module.parent().context("the module is in a folder")?;
        let search = ("ENVOY_DYNAMIC_MODULES_SEARCH_PATH", folder.display());
        let options = envoy::Options {
            binary: Some(self.envoy.clone()),
            env: vec![(search.0.to_owned(), search.1.to_string())],
            ..envoy::Options::default()
        };
        Envoy::start(&bootstrap.to_json(), &options).await
    }

    fn name(&self) -> String {
        format!("{:?} in {}", self.carrier, self.envoy.display())
    }

    /// Fails with the end of Envoy's log unless the pod counted what Envoy did.
    async fn exact(&self, aggregator: &Aggregator, envoy: &Envoy) -> Result<PodState> {
        let due = envoy.stats().await?.downstream_rq_total(FRONT);
        let pod = settled(aggregator, POD, inbound(due)).await;
        let pod = pod.with_context(|| format!("{}:\n{}", self.name(), envoy.log_tail()))?;
        ensure!(
            pod.requests("inbound") == Some(due),
            "{}: {:?} instead of {due}\n{}",
            self.name(),
            pod.requests("inbound"),
            envoy.log_tail()
        );
        Ok(pod)
    }
}

/// Every request, its class of response, none in flight at the end, over one stream.
#[tokio::test]
async fn counts_requests() {
    for case in cases().unwrap() {
        let backends = Backends::start().await.unwrap();
        let aggregator = Aggregator::start(&Options::default()).await.unwrap();
        let plugins = [case.plugin().unwrap()];
        let bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins);
        let envoy = case.start(&bootstrap.unwrap()).await.unwrap();
        let mix = send_mix(envoy.listener(FRONT).unwrap(), 10).await.unwrap();
        let pod = case.exact(&aggregator, &envoy).await.unwrap();
        let name = case.name();
        assert_eq!(pod.requests("inbound"), Some(mix.requests()), "{name}");
        assert_eq!(pod.responses("inbound", "2xx"), 2 * mix.each, "{name}");
        assert_eq!(pod.responses("inbound", "5xx"), 2 * mix.each, "{name}");
        assert_eq!(pod.inflight("inbound"), Some(0), "{name}");
        assert_eq!((pod.streams, pod.instances.len()), (1, 1), "{pod:?}");
    }
}

/// Requests that no HTTP filter sees, that are cut off, and that never get a response: each counts
/// as Envoy counts it, and none stays in flight.
#[tokio::test]
async fn malformed_and_abandoned_requests() {
    for case in cases().unwrap() {
        let backends = Backends::start().await.unwrap();
        let aggregator = Aggregator::start(&Options::default()).await.unwrap();
        let plugins = [case.plugin().unwrap()];
        let bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins);
        let envoy = case.start(&bootstrap.unwrap()).await.unwrap();
        let front = envoy.listener(FRONT).unwrap();
        let good = send_mix(front, 2).await.unwrap();
        for text in [
            "NONSENSE\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n",
            "GET http//broken HTTP/1.1\r\nhost: a\r\n\r\n",
        ] {
            talk(front, text, true).await.unwrap();
        }
        // Begun, and left: the first waits for a body that never comes.
        for _ in 0..5 {
            let text = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx";
            talk(front, text, false).await.unwrap();
        }
        let begun = good.requests() + 5;
        let pod = settled(&aggregator, POD, inbound(begun)).await;
        let pod = pod.unwrap_or_else(|error| panic!("{error:#}\n{}", envoy.log_tail()));
        let name = case.name();
        assert_eq!(pod.requests("inbound"), Some(begun), "{name}");
        assert_eq!(pod.inflight("inbound"), Some(0), "{name}");
    }
}

/// Writes `text`, and with `reads` waits for the end of the connection.
async fn talk(front: SocketAddr, text: &str, reads: bool) -> Result<()> {
    let mut stream = TcpStream::connect(front).await?;
    stream.write_all(text.as_bytes()).await?;
    if reads {
        let mut answer = vec![0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer));
        let _ = read.await.context("an answer, or the end")?;
        return Ok(());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}

/// An aggregator that is killed under load and comes back has everything again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_survive_an_aggregator() {
    for case in cases().unwrap() {
        let backends = Backends::start().await.unwrap();
        let mut aggregator = Aggregator::start(&Options::default()).await.unwrap();
        let ingest = aggregator.ingest();
        let plugins = [case.plugin().unwrap()];
        let bootstrap = backends.bootstrap_with(ingest, &plugins).unwrap();
        let envoy = case.start(&bootstrap).await.unwrap();
        let front = envoy.listener(FRONT).unwrap();
        send_mix(front, 5).await.unwrap();
        wait_state(&aggregator, POD, "live").await.unwrap();
        aggregator.kill().await.unwrap();
        send_mix(front, 5).await.unwrap();
        let options = Options {
            ingest,
            ..Options::default()
        };
        let aggregator = Aggregator::start(&options).await.unwrap();
        send_mix(front, 5).await.unwrap();
        let pod = case.exact(&aggregator, &envoy).await.unwrap();
        assert_eq!((pod.streams, pod.instances.len()), (1, 1), "{pod:?}");
    }
}

/// Listener updates under load, many of them, each with another configuration: the stream moves
/// with them, and no request is lost or counted twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listener_updates_lose_nothing() {
    const UPDATES: u64 = 40;
    for case in cases().unwrap() {
        let backends = Backends::start().await.unwrap();
        let aggregator = Aggregator::start(&Options::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lds.json");
        let bootstrap = backends.bootstrap_with(aggregator.ingest(), &[]);
        let mut bootstrap = bootstrap.unwrap();
        let mut front = bootstrap.listeners.remove(0);
        front.port = free_address().unwrap().port();
        let mut update = 0;
        let mut publish = |front: &mut Listener| {
            update += 1;
            // Else Envoy sees no difference.
            let flush_interval_ms = json!(500 + update);
            front.http_filters.clear();
            let plugin = case.plugin().unwrap();
            attach(front, &plugin.with("flush_interval_ms", flush_interval_ms));
            write_listener(&file, update, front).unwrap();
            update
        };
        publish(&mut front);
        let lds = json!({"lds_config": {
            "resource_api_version": "V3",
            "path_config_source": {"path": file.display().to_string()},
        }});
        bootstrap.extra.insert("dynamic_resources".to_owned(), lds);
        let envoy = case.start(&bootstrap).await.unwrap();
        let (tally, stop) = (Arc::<Tally>::default(), CancellationToken::new());
        let phase = Phase {
            rate: 500.0,
            duration: Duration::from_mins(2),
        };
        let load = Load::new(envoy.listener(FRONT).unwrap(), vec![phase]);
        let load = tokio::spawn(load.run(tally.clone(), stop.clone()));
        for _ in 0..UPDATES {
            let updates = publish(&mut front);
            let taken = clock::wait_for("the listener update", PATIENCE, async || {
                let stats = envoy.stats().await?;
                let rejected = stats.get("listener_manager.lds.update_rejected");
                ensure!(rejected == 0, "{}", envoy.log_tail());
                Ok((stats.get("listener_manager.lds.update_success") >= updates).then_some(()))
            });
            taken.await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stop.cancel();
        load.await.unwrap().unwrap();
        let pod = case.exact(&aggregator, &envoy).await.unwrap();
        assert!(pod.requests("inbound") > Some(1000), "{pod:?}");
        assert_eq!((pod.streams, pod.instances.len()), (1, 1), "{pod:?}");
        assert_eq!(pod.inflight("inbound"), Some(0), "{}", case.name());
    }
}

/// Puts the listener into the file, which appears by a rename: Envoy reads it whole.
fn write_listener(file: &Path, version: u64, listener: &Listener) -> Result<()> {
    let mut resource = listener.to_json();
    resource["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
    let response = json!({"version_info": version.to_string(), "resources": [resource]});
    let aside = file.with_extension("new");
    fs::write(&aside, serde_json::to_vec(&response)?).context("write the LDS file")?;
    fs::rename(&aside, file).context("publish the LDS file")
}

/// SIGTERM right after the last request: with the bootstrap extension the last report holds it, and
/// says that it is the last.
#[tokio::test]
async fn the_last_report_holds_the_last_request() {
    for case in cases().unwrap() {
        let backends = Backends::start().await.unwrap();
        let aggregator = Aggregator::start(&Options::default()).await.unwrap();
        let plugins = [case.plugin().unwrap()];
        let bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins);
        let mut bootstrap = bootstrap.unwrap();
        if case.carrier == Carrier::Module {
            let extensions = json!([bootstrap_extension()]);
            bootstrap
                .extra
                .insert("bootstrap_extensions".to_owned(), extensions);
        }
        let mut envoy = case.start(&bootstrap).await.unwrap();
        let front = envoy.listener(FRONT).unwrap();
        send_mix(front, 2).await.unwrap();
        wait_state(&aggregator, POD, "live").await.unwrap();
        let mix = send_mix(front, 3).await.unwrap();
        envoy.terminate().await.unwrap();
        let due = 8 + mix.requests();
        let pod = wait_state(&aggregator, POD, "gone").await;
        let pod = pod.unwrap_or_else(|error| panic!("{error:#}\n{}", envoy.log_tail()));
        let (name, log) = (case.name(), envoy.log_tail());
        assert_eq!(pod.requests("inbound"), Some(due), "{name}\n{log}");
        let metric =
            aggregator
                .api()
                .pods_metric(NAMESPACE, "app=app", "appmesh_requests_per_second");
        assert!(metric.await.is_err(), "{name}: a gone pod has no value");
    }
}

fn bootstrap_extension() -> Value {
    json!({
        "name": "envoy.bootstrap.dynamic_modules",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.bootstrap.dynamic_modules.v3.DynamicModuleBootstrapExtension",
            // Envoy before 1.40 finds the module of an extension by its name only, below
            // `ENVOY_DYNAMIC_MODULES_SEARCH_PATH`.
            "dynamic_module_config": {"name": "meshmeter_filter", "do_not_close": true},
            "extension_name": "meshmeter",
        },
    })
}
