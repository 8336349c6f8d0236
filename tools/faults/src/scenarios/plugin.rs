//! The listener changes under load, by xDS from a file.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_envoy::{Backends, FRONT, POD, attach, free_address};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::artifacts::Module;
use tests_support::bootstrap::{Listener, route, virtual_host};
use tests_support::clock;
use tests_support::envoy::{self, Envoy};
use tests_support::plugin::{Plugin, Role};

use crate::rig::{PATIENCE, ReadCounts, Traffic, counted, first_value, plugins, rows, stats_of};
use crate::row::Row;

/// Another configuration, other code, other routes, and both again.
pub(super) async fn listener_updates() -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let directory = tempfile::tempdir().context("make a directory for xDS")?;
    let mut bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins()?)?;
    let mut front = bootstrap.listeners.remove(0);
    front.port = free_address()?.port();
    let file = directory.path().join("lds.json");
    let mut version = 1;
    publish(&file, version, &front)?;
    let lds = json!({"lds_config": {
        "resource_api_version": "V3",
        "path_config_source": {"path": file.display().to_string()},
    }});
    bootstrap.extra.insert("dynamic_resources".to_owned(), lds);
    let envoy = Envoy::start(&bootstrap.to_json(), &envoy::Options::default()).await?;
    let traffic = Traffic::start(envoy.listener(FRONT)?);
    first_value(&aggregator).await?;
    let mut seen = ReadCounts::default();
    for change in changes(directory.path())? {
        change(&mut front)?;
        version += 1;
        publish(&file, version, &front)?;
        updated(&envoy, version).await?;
        seen.read(&aggregator, Duration::from_secs(2)).await?;
    }
    // A connection that Envoy drains may close just when a request is on its way to it: such a one
    // has no answer, as without any plugin. Whether it was counted is Envoy's `/stats` to say.
    let tally = traffic.stop().await?;
    let answers = tally.answers();
    ensure!(answers.keys().eq([&200]), "answers: {answers:?}");
    let sent = stats_of(&envoy, &[]).await?;
    let counted = counted(&aggregator, POD, sent).await?;
    let mut rows = rows("listener-update", sent, counted, seen);
    rows[0].note = format!(
        "{} updates; {} connections drained under a request",
        version - 1,
        tally.broken()
    );
    Ok(rows)
}

type Change = Box<dyn Fn(&mut Listener) -> Result<()>>;

fn changes(directory: &Path) -> Result<Vec<Change>> {
    let copy = directory.join("copy.wasm");
    fs::copy(Module::Filter.path()?, &copy).context("copy the module")?;
    let reconfigure = |flush_ms: u32| -> Change {
        Box::new(move |front| {
            replace(front, |plugin| {
                plugin.with("flush_interval_ms", flush_ms.into())
            })
        })
    };
    let recode: Change = Box::new(move |front| {
        replace(front, |plugin| match plugin.role() {
            Role::Filter => plugin.with_module(copy.clone()),
            _ => plugin,
        })
    });
    let reroute: Change = Box::new(|front| {
        front.virtual_hosts = vec![virtual_host("other", &["*"], &[route("/", "good")])];
        Ok(())
    });
    Ok(vec![reconfigure(500), recode, reroute, reconfigure(1000)])
}

fn replace(front: &mut Listener, change: impl Fn(Plugin) -> Plugin) -> Result<()> {
    front.http_filters.clear();
    front.upstream_log.clear();
    for plugin in plugins()? {
        attach(front, &change(plugin));
    }
    Ok(())
}

/// Puts the listener into the file, which appears by a rename: Envoy reads it whole.
fn publish(file: &Path, version: u64, listener: &Listener) -> Result<()> {
    let mut resource = listener.to_json();
    resource["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
    let response: Value = json!({"version_info": version.to_string(), "resources": [resource]});
    let aside = file.with_extension("new");
    fs::write(&aside, serde_json::to_vec(&response)?).context("write the LDS file")?;
    fs::rename(&aside, file).context("publish the LDS file")
}

async fn updated(envoy: &Envoy, updates: u64) -> Result<()> {
    let found = clock::wait_for("the listener update", PATIENCE, async || {
        let stats = envoy.stats().await?;
        ensure!(
            stats.get("listener_manager.lds.update_rejected") == 0,
            "Envoy rejects the update:\n{}",
            envoy.log_tail()
        );
        Ok((stats.get("listener_manager.lds.update_success") >= updates).then_some(()))
    });
    found.await.with_context(|| envoy.log_tail())
}
