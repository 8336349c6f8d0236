//! A VM dies on a worker.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_envoy::{Backends, FRONT, POD, plugin, start_envoy};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::artifacts::Module;
use tests_support::clock;
use tests_support::plugin::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{PATIENCE, RATE, Traffic, counted, first_value, is_unknown};
use crate::row::Row;

/// Headers that make the module of fault tests trap.
const TRAP_HEADERS: usize = 60;
/// Time for which the pod is watched while a VM is dead.
const WATCHED: Duration = Duration::from_secs(4);
/// Share of a second's traffic that a trap may lose: a tick, and the request itself.
const TICK: f64 = 0.11;

/// A request that traps its worker's VM. All requests are answered; at most one tick's count is
/// lost, and then the pod is unknown, since the worker's requests are not counted.
pub(super) async fn trapped() -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let plugin = plugin(Role::Filter)?.with_module(Module::Trap.path()?);
    let bootstrap = backends.bootstrap_with(aggregator.ingest(), &[plugin])?;
    let envoy = start_envoy(&bootstrap).await?;
    let front = envoy.listener(FRONT)?;
    let traffic = Traffic::start(front);
    first_value(&aggregator).await?;
    let before = traffic.stop_unhurt().await?.written();
    trap(front).await?;
    let found = counted(&aggregator, POD, (before + 1, 0)).await?.0;
    let mut row = Row::new("vm-trap", "requests", before, found.min(before));
    row.counted = found;
    row.doubled = found.saturating_sub(before + 1);
    row.lost_max = tick();

    // All are served, and none of the aggregator's values is made of the living workers alone.
    let traffic = Traffic::start(front);
    clock::wait_for("the death to be known", PATIENCE, async || {
        Ok(is_unknown(&aggregator).await.then_some(()))
    })
    .await?;
    let start = clock::now();
    let mut shown = 0;
    while start.elapsed() < WATCHED {
        shown += u32::from(!is_unknown(&aggregator).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    row.promise(shown == 0, || format!("{shown} values while a VM was dead"));
    let after = traffic.stop_unhurt().await?.written();
    row.note = format!("unknown while dead; {after} requests served meanwhile");
    Ok(vec![row])
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small positive number"
)]
fn tick() -> u64 {
    (RATE * TICK) as u64 + 1
}

async fn trap(front: SocketAddr) -> Result<()> {
    let headers: String = (0..TRAP_HEADERS)
        .map(|i| format!("x-{i}: 1\r\n"))
        .collect::<Vec<_>>()
        .concat();
    let request = format!("GET / HTTP/1.1\r\nhost: {front}\r\n{headers}connection: close\r\n\r\n");
    let mut connection = TcpStream::connect(front)
        .await
        .context("connect to Envoy")?;
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, connection.read_to_string(&mut answer))
        .await
        .context("no answer")??;
    let status = answer.lines().next().unwrap_or_default();
    ensure!(
        status.contains(" 200 "),
        "the request that ended the VM got {status:?}"
    );
    Ok(())
}
