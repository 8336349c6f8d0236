//! One sidecar, both sides: inbound and outbound requests are told apart.

use anyhow::{Context, Result, ensure};
use tests_envoy::{Backends, NAMESPACE, POD, plugin, settled, start_envoy};
use tests_support::aggregator::{Aggregator, Options, PodState};
use tests_support::bootstrap::{Bootstrap, Direction};
use tests_support::envoy::Envoy;
use tests_support::http;
use tests_support::plugin::{AGGREGATOR_CLUSTER, Role};
use tests_support::sidecar::{
    INBOUND_LISTENER, INBOUND_STAT_PREFIX, OUTBOUND_LISTENER, OUTBOUND_STAT_PREFIX, Sidecar,
};

const INBOUND: u64 = 30;
const OUTBOUND: u64 = 50;

/// What one run came to.
struct Run {
    pod: PodState,
    envoy: Envoy,
}

/// Sends requests into both listeners, which lead to the same application: here only the side
/// counts.
async fn run(change: impl FnOnce(&mut Bootstrap) -> Result<()>) -> Result<Run> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let mut sidecar = Sidecar::new(NAMESPACE, POD, backends.address());
    sidecar.aggregator = Some(aggregator.ingest());
    let mut bootstrap = sidecar.bootstrap()?;
    let [inbound, outbound] = bootstrap.listeners.as_mut_slice() else {
        anyhow::bail!("a sidecar has two listeners");
    };
    ensure!(outbound.direction == Direction::Outbound);
    outbound.virtual_hosts.clone_from(&inbound.virtual_hosts);
    change(&mut bootstrap)?;
    let envoy = start_envoy(&bootstrap).await?;
    for _ in 0..INBOUND {
        http::get_ok(envoy.listener(INBOUND_LISTENER)?, "/").await?;
    }
    for _ in 0..OUTBOUND {
        http::get_ok(envoy.listener(OUTBOUND_LISTENER)?, "/").await?;
    }
    let stats = envoy.stats().await?;
    ensure!(stats.downstream_rq_total(INBOUND_STAT_PREFIX) == INBOUND);
    ensure!(stats.downstream_rq_total(OUTBOUND_STAT_PREFIX) == OUTBOUND);
    ensure!(stats.upstream_rq_total(&[AGGREGATOR_CLUSTER]) == INBOUND + OUTBOUND);
    let all = INBOUND + OUTBOUND;
    let pod = settled(&aggregator, POD, |pod| {
        let outbound = pod.requests("outbound").unwrap_or(0);
        let requests = pod.requests("inbound").unwrap_or(0) + outbound;
        requests >= all && pod.attempts() >= Some(all)
    });
    let pod = pod.await.with_context(|| envoy.log_tail())?;
    Ok(Run { pod, envoy })
}

/// Plugins that are told their side.
#[tokio::test]
async fn both_sides_are_told_apart() {
    let Run { pod, .. } = run(|_| Ok(())).await.unwrap();
    assert_eq!(pod.requests("inbound"), Some(INBOUND), "{pod:#?}");
    assert_eq!(pod.requests("outbound"), Some(OUTBOUND), "{pod:#?}");
    assert_eq!(pod.attempts_of("inbound"), Some(INBOUND), "{pod:#?}");
    assert_eq!(pod.attempts_of("outbound"), Some(OUTBOUND), "{pod:#?}");
}

/// Plugins that are not told it ask Envoy for the side of each request: both listeners have the
/// same plugin configuration, and so may share a root context. Where Envoy does not know it for
/// access loggers (before 1.39), that is said in the log with the field to set, and no attempt is
/// lost.
#[tokio::test]
async fn plugins_ask_for_their_side() {
    let run = run(|bootstrap| {
        let [filter, log] = [plugin(Role::Filter)?, plugin(Role::UpstreamLog)?];
        for listener in &mut bootstrap.listeners {
            listener.http_filters = vec![filter.http_filter()];
            listener.upstream_log = vec![log.access_logger()];
        }
        Ok(())
    });
    let Run { pod, envoy } = run.await.unwrap();
    assert_eq!(pod.requests("inbound"), Some(INBOUND), "{pod:#?}");
    assert_eq!(pod.requests("outbound"), Some(OUTBOUND), "{pod:#?}");
    assert_eq!(pod.attempts(), Some(INBOUND + OUTBOUND), "{pod:#?}");
    let apart = pod.attempts_of("inbound") == Some(INBOUND);
    assert!(apart || envoy.log().contains("`direction`"), "{pod:#?}");
}
