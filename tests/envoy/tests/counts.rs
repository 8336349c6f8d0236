//! Counts equal Envoy's own, role by role, for traffic with retries, a dead port and a direct
//! response.

use anyhow::{Context, Result, ensure};
use tests_envoy::{Backends, FRONT, Mix, POD, plugin, send_mix, settled, start_envoy};
use tests_support::aggregator::{Aggregator, Options, PodState};
use tests_support::envoy::Stats;
use tests_support::plugin::{AGGREGATOR_CLUSTER, Plugin, Role};

/// Requests to each of the four routes.
const EACH: u64 = 10;

/// What one run came to.
struct Run {
    mix: Mix,
    pod: PodState,
    stats: Stats,
}

async fn run(roles: &[Role]) -> Result<Run> {
    let plugins: Result<Vec<Plugin>> = roles.iter().map(|role| plugin(*role)).collect();
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins?)?;
    let envoy = start_envoy(&bootstrap).await?;
    let mix = send_mix(envoy.listener(FRONT)?, EACH).await?;
    let pod = settled(&aggregator, POD, |pod| all_there(pod, roles, mix)).await;
    let pod = pod.with_context(|| format!("Envoy's log ends:\n{}", envoy.log_tail()))?;
    let stats = envoy.stats().await?;
    ensure!(stats.downstream_rq_total(FRONT) == mix.requests());
    Ok(Run { mix, pod, stats })
}

/// Whether everything that `roles` count has arrived.
fn all_there(pod: &PodState, roles: &[Role], mix: Mix) -> bool {
    roles.iter().all(|role| match role {
        Role::Filter | Role::AccessLog => {
            let responses = pod.responses("inbound", "2xx") + pod.responses("inbound", "5xx");
            pod.requests("inbound") >= Some(mix.requests()) && responses >= mix.requests()
        }
        Role::UpstreamLog => pod.attempts() >= Some(mix.attempts()),
    })
}

/// Role `filter` counts every request that begins, whatever becomes of it, its class of response,
/// and none in flight at the end; it knows nothing of attempts.
#[tokio::test]
async fn filter_counts_requests() {
    let Run { mix, pod, .. } = run(&[Role::Filter]).await.unwrap();
    assert_eq!(pod.requests("inbound"), Some(mix.requests()));
    assert_eq!(pod.requests("outbound"), None);
    assert_eq!(pod.responses("inbound", "2xx"), 2 * mix.each);
    assert_eq!(pod.responses("inbound", "5xx"), 2 * mix.each);
    assert_eq!(pod.inflight("inbound"), Some(0));
    assert_eq!(pod.attempts(), None);
    assert!(
        pod.series
            .iter()
            .all(|series| !series.requests_at_completion)
    );
}

/// Role `access_log` counts requests when they complete, and says so; it knows nothing of requests
/// in flight.
#[tokio::test]
async fn access_log_counts_completions() {
    let Run { mix, pod, .. } = run(&[Role::AccessLog]).await.unwrap();
    assert_eq!(pod.requests("inbound"), Some(mix.requests()));
    assert_eq!(pod.responses("inbound", "2xx"), 2 * mix.each);
    assert_eq!(pod.responses("inbound", "5xx"), 2 * mix.each);
    assert_eq!(pod.inflight("inbound"), None);
    assert_eq!(pod.attempts(), None);
    assert!(
        pod.series
            .iter()
            .all(|series| series.requests_at_completion)
    );
}

/// Role `upstream_log` counts the attempts that Envoy counts: retries each, refused connections not
/// at all. Of requests it knows nothing.
#[tokio::test]
async fn upstream_log_counts_attempts() {
    let Run { mix, pod, stats } = run(&[Role::UpstreamLog]).await.unwrap();
    assert_eq!(
        stats.upstream_rq_total(&[AGGREGATOR_CLUSTER]),
        mix.attempts()
    );
    assert_eq!(pod.attempts(), Some(mix.attempts()));
    assert_eq!(pod.requests("inbound"), None);
    assert_eq!(pod.inflight("inbound"), None);
}

/// `filter` and `upstream_log` side by side, two modules in one Envoy, count into the same series
/// of one pod and come over one stream. Each module has a VM on the main thread and on both
/// workers.
#[tokio::test]
async fn roles_add_up_in_one_pod() {
    let Run { mix, pod, .. } = run(&[Role::Filter, Role::UpstreamLog]).await.unwrap();
    assert_eq!(pod.requests("inbound"), Some(mix.requests()));
    assert_eq!(pod.attempts(), Some(mix.attempts()));
    assert_eq!((pod.streams, pod.instances.len()), (1, 1), "{pod:?}");
    assert_eq!((pod.vms_expected, pod.vms_live), (Some(6), Some(6)));
}
