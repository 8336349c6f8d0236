//! djapp in a cluster, on real Envoys.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tests_mesh::EGRESS;
use tests_mesh::cluster::{Cluster, Replica};
use tests_mesh::split::Split;
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::Envoy;
use tests_support::load::{Load, Phase, Tally};
use tests_support::{clock, http};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the callers of `envoy` go to exactly these hosts of a cluster.
async fn goes_to(envoy: &Envoy, cluster: &str, pods: &[SocketAddr]) {
    let cluster = format!("cds_egress_dj-app_{cluster}_prod_http_9080::127.0.0.1:");
    let mut wanted: Vec<u16> = pods.iter().map(SocketAddr::port).collect();
    wanted.sort_unstable();
    clock::wait_for(&format!("{cluster} {pods:?}"), PATIENCE, async || {
        let page = http::get_ok(envoy.admin(), "/clusters").await?.text();
        let hosts = page.lines().filter_map(|line| {
            let (port, rest) = line.strip_prefix(&cluster)?.split_once("::")?;
            rest.starts_with("health_flags")
                .then(|| port.parse().ok())?
        });
        let mut hosts: Vec<u16> = hosts.collect();
        hosts.sort_unstable();
        Ok((hosts == wanted).then_some(()))
    })
    .await
    .unwrap();
}

/// djapp's pods: dj, the two that take turns as jazz-v1, and plain ones without a sidecar.
struct Djapp {
    cluster: Cluster,
    dj: Replica,
    old: Replica,
    new: Replica,
    _plain: [App; 2],
}

impl Djapp {
    async fn start() -> Self {
        let cluster = Cluster::start((95, 5)).await.unwrap();
        let plain = async |behaviour| {
            let any = (Ipv4Addr::LOCALHOST, 0).into();
            App::start(any, behaviour).await.unwrap()
        };
        let jazz = Behaviour::jazz_v1;
        let [second, metal] = [plain(jazz()).await, plain(Behaviour::metal_v1()).await];
        let old = cluster.replica("jazz-v1", jazz()).await.unwrap();
        let new = cluster.replica("jazz-v1", jazz()).await.unwrap();
        cluster.endpoints("jazz-v1", &[old.ingress]);
        cluster.endpoints("jazz-v2", &[second.address()]);
        cluster.endpoints("metal-v1", &[metal.address()]);
        let backends = ["jazz", "metal"].map(|name| format!("{name}.prod.svc.cluster.local"));
        let calls = Behaviour::dj().calling(backends.to_vec());
        let mut dj = cluster.replica("dj", calls).await.unwrap();
        let egress = dj.envoy.wait_listener(EGRESS).await.unwrap();
        dj.app.set_outbound(egress);
        goes_to(&dj.envoy, "jazz-v1", &[old.ingress]).await;
        Self {
            cluster,
            dj,
            old,
            new,
            _plain: [second, metal],
        }
    }

    /// A pod is replaced, as a rollout does it: the new one is there, the old one is not ready any
    /// more, and ends.
    async fn replace(&mut self) {
        let (old, new) = (self.old.ingress, self.new.ingress);
        self.cluster.endpoints("jazz-v1", &[old, new]);
        goes_to(&self.dj.envoy, "jazz-v1", &[old, new]).await;
        self.cluster.endpoints("jazz-v1", &[new]);
        goes_to(&self.dj.envoy, "jazz-v1", &[new]).await;
        self.old.envoy.terminate().await.unwrap();
    }

    async fn shift(&self) {
        self.cluster.shift((50, 50)).unwrap();
        clock::wait_for("the canary to be shifted", PATIENCE, async || {
            let page = http::get_ok(self.dj.envoy.admin(), "/config_dump").await?;
            Ok(page.text().contains("\"weight\": 50").then_some(()))
        })
        .await
        .unwrap();
    }

    /// Calls of each version of jazz.
    async fn calls(&self) -> (u64, u64) {
        let stats = self.dj.envoy.stats().await.unwrap();
        let of = |version: &str| {
            let cluster = format!("cds_egress_dj-app_jazz-{version}_prod_http_9080");
            stats.get(&format!("cluster.{cluster}.upstream_rq_total"))
        };
        (of("v1"), of("v2"))
    }
}

/// The walkthrough's djapp from custom resources and services alone: a pod is replaced, the API
/// server and the control plane go and come, a canary is shifted, all under load and without one
/// failed request.
#[tokio::test(flavor = "multi_thread")]
async fn djapp_lives_in_a_cluster() {
    let mut app = Djapp::start().await;
    let phase = Phase {
        rate: 100.0,
        duration: Duration::from_secs(15),
    };
    let tally = Arc::new(Tally::default());
    let mut load = Load::new(app.dj.ingress, vec![phase]);
    "dj.prod.svc.cluster.local".clone_into(&mut load.host);
    let running = tokio::spawn(load.run(Arc::clone(&tally), CancellationToken::new()));
    let reaches = async |count: u64| {
        let what = format!("{count} requests");
        let reached = async || Ok((tally.written() >= count).then_some(()));
        clock::wait_for(&what, PATIENCE, reached).await.unwrap();
    };
    reaches(100).await;
    app.replace().await;
    let away = Some(::http::StatusCode::SERVICE_UNAVAILABLE);
    app.cluster.server.set_outage(away);
    reaches(tally.written() + 50).await;
    app.cluster.server.set_outage(None);
    app.cluster.stop_control_plane().await.unwrap();
    reaches(tally.written() + 50).await;
    app.cluster.start_control_plane().await.unwrap();
    app.shift().await;
    running.await.unwrap().unwrap();
    assert_eq!(tally.broken() + tally.refused(), 0);
    let log = app.cluster.log();
    assert_eq!(tally.answers().keys().collect::<Vec<_>>(), [&200], "{log}");

    // The new weights are those that count.
    let before = app.calls().await;
    for _ in 0..200 {
        let answer = http::get(app.dj.ingress, "/").await.unwrap();
        assert_eq!(answer.status, 200);
    }
    let after = app.calls().await;
    let split = (after.0 - before.0, after.1 - before.1);
    assert_eq!(split.0 + split.1, 200);
    assert!(Split::new(split, (50, 50)).is_likely(), "{split:?}");

    let page = app.cluster.page("/metrics").await.unwrap();
    for line in [
        "meshmeter_mesh_control_plane_streams 2",
        "meshmeter_mesh_control_plane_resources_served{kind=\"VirtualNode\"} 5",
        "meshmeter_mesh_control_plane_rejections_total{type=\"clusters\"} 0",
        "meshmeter_mesh_control_plane_rejections_total{type=\"listeners\"} 0",
        "meshmeter_mesh_control_plane_rejections_total{type=\"routes\"} 0",
        "meshmeter_mesh_control_plane_rejections_total{type=\"endpoints\"} 0",
    ] {
        assert!(page.lines().any(|told| told == line), "{line} in\n{page}");
    }
    assert_eq!(app.cluster.page("/readyz").await.unwrap(), "ok");
}
