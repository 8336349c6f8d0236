//! The modules of v0.1.0 replaced by today's in a sidecar that runs, as a new image of the filter
//! does it in a mesh that fetches modules. In between VMs of both share data and counters.

use std::time::Duration;

use anyhow::Result;
use tests_wasm::envoy::{Envoy, RequestId, Setup};
use tests_wasm::module::Built;
use tests_wasm::plugin::{Plugin, Role};
use tests_wasm::request::Request;
use tests_wasm::totals::What;

const WORKERS: usize = 2;
/// VMs of both modules, on the main thread and each worker.
const VMS: u32 = 6;
/// What a sidecar of an injected pod runs.
const ROLES: [Role; 2] = [Role::Filter, Role::UpstreamLog];

type Deployed = fn(Role) -> Result<Plugin>;

/// The same plugin with the module of v0.1.0.
fn v0_1_0(role: Role) -> Result<Plugin> {
    let mut plugin = Plugin::deployed(role)?;
    plugin.code = Built::of(role).code_v0_1_0()?;
    Ok(plugin)
}

/// Requests to each worker that stay open, each with an attempt.
fn begin(envoy: &mut Envoy, each: usize) -> Vec<RequestId> {
    let mut open = Vec::new();
    for _ in 0..each {
        for worker in 0..WORKERS {
            open.push(envoy.begin(worker, &Request::inbound()));
            envoy.attempt(worker, &Request::inbound());
        }
        envoy.run_for(Duration::from_millis(17));
    }
    open
}

/// Replaces the modules one after the other, with requests open through it all.
fn replace(from: Deployed, to: Deployed, order: [usize; 2]) -> Result<()> {
    let plugins: Result<Vec<_>> = ROLES.map(from).into_iter().collect();
    let mut envoy = Envoy::start(Setup::new(plugins?).workers(WORKERS))?;
    envoy.run_seconds(2);
    let mut open = begin(&mut envoy, 20);
    for index in order {
        envoy.update(index, to(ROLES[index])?)?;
        open.extend(begin(&mut envoy, 20));
        envoy.run_seconds(3);
    }
    for id in open.drain(..) {
        envoy.finish(id);
    }
    envoy.finish_drain();
    open = begin(&mut envoy, 20);
    envoy.run_seconds(5);
    let aggregator = envoy.aggregator();
    let totals = aggregator.totals();
    let sent = 80 * u64::try_from(WORKERS)?;
    assert_eq!(totals.sum(What::Requests), Some(sent));
    assert_eq!(totals.sum(What::Attempts), Some(sent));
    assert_eq!(totals.inflight(), Some(u64::try_from(open.len())?));
    assert_eq!(totals.instances().len(), 1);
    let streams = aggregator.open_streams();
    assert_eq!(streams.len(), 1);
    let report = streams[0].last.as_ref().expect("it reports");
    assert_eq!((report.vms_expected, report.vms_live), (VMS, VMS));
    Ok(())
}

/// Whichever module is replaced first: no count is lost or doubled, and the counters keep their
/// instance.
#[test]
fn modules_replaced_in_place_keep_every_count() -> Result<()> {
    for order in [[0, 1], [1, 0]] {
        replace(v0_1_0, Plugin::deployed, order)?;
    }
    Ok(())
}

/// The same on the way back.
#[test]
fn modules_put_back_keep_every_count() -> Result<()> {
    for order in [[0, 1], [1, 0]] {
        replace(Plugin::deployed, v0_1_0, order)?;
    }
    Ok(())
}
