//! SIGTERM under load loses nothing: the last report holds what every worker counted to the end.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tests_envoy::{Backends, FRONT, NAMESPACE, PATIENCE, POD, plugin, start_envoy};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::bootstrap::file_access_log;
use tests_support::clock;
use tests_support::load::{Load, Phase, Tally};
use tests_support::plugin::Role;
use tokio_util::sync::CancellationToken;

/// Shutdowns per run of the test.
const SHUTDOWNS: usize = 5;
/// Requests per second while the signal comes.
const RATE: f64 = 300.0;

/// Five times: an Envoy with two workers is ended in the middle of a load. Its own access log,
/// which has a line for each request, those cut off by the end too, is the oracle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_loses_nothing() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    for round in 0..SHUTDOWNS {
        let pod = format!("{POD}-{round}");
        let file = directory.path().join(format!("{pod}.log"));
        let mut identity = tests_envoy::identity();
        identity["pod"] = pod.as_str().into();
        let plugin = plugin(Role::Filter).unwrap().with("identity", identity);
        let bootstrap = backends.bootstrap_with(aggregator.ingest(), &[plugin]);
        let mut bootstrap = bootstrap.unwrap();
        bootstrap.listeners[0].access_log = vec![file_access_log(&file, "%RESPONSE_CODE%")];
        let mut envoy = start_envoy(&bootstrap).await.unwrap();

        let tally = Arc::<Tally>::default();
        let stop = CancellationToken::new();
        let phase = Phase {
            rate: RATE,
            duration: Duration::from_secs(10),
        };
        let load = Load::new(envoy.listener(FRONT).unwrap(), vec![phase]);
        let load = tokio::spawn(load.run(tally.clone(), stop.clone()));
        // Not at the same place within a flush interval each time.
        let before = 300 + 137 * u64::try_from(round).unwrap();
        clock::wait_for("the load", PATIENCE, async || {
            Ok((tally.written() >= before).then_some(()))
        })
        .await
        .unwrap();
        envoy.terminate().await.unwrap();
        stop.cancel();
        load.await.unwrap().unwrap();

        let logged = fs::read_to_string(&file).unwrap().lines().count();
        let logged = u64::try_from(logged).unwrap();
        assert!(logged >= before / 2, "{logged} lines: {}", envoy.log_tail());
        let counted = || async {
            let pods = aggregator.pods().await.unwrap();
            pods.find(NAMESPACE, &pod)
                .and_then(|pod| pod.requests("inbound"))
        };
        let arrived = clock::wait_for("the last report", PATIENCE, async || {
            Ok((counted().await == Some(logged)).then_some(()))
        })
        .await;
        assert!(
            arrived.is_ok(),
            "round {round}: counted {:?}, Envoy logged {logged}\n{}",
            counted().await,
            envoy.log_tail()
        );
    }
}
