//! What the tests on real Envoys share: one Envoy with the traffic that tells the counters apart,
//! beside the real aggregator.
//!
//! Routes of the front listener: `/bad` always fails and is retried twice, `/refused` leads to a
//! port where nobody listens and is retried once, `/direct` Envoy answers itself, and everything
//! else an application answers.

pub mod hot_restart;
pub mod watch;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::aggregator::{Aggregator, PodState};
use tests_support::bootstrap::{
    Bootstrap, Cluster, Direction, Listener, direct_response, route, route_with_retries,
    virtual_host,
};
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::{Envoy, Options};
use tests_support::plugin::{AGGREGATOR_CLUSTER, Plugin, Role};
use tests_support::{clock, http};
use tokio::net::TcpSocket;

/// Namespace of the pod in all tests.
pub const NAMESPACE: &str = "prod";
/// Name of the pod in all tests.
pub const POD: &str = "app-1";
/// Name of the one listener, and its stat prefix.
pub const FRONT: &str = "front";
/// Longest wait for something that takes at most a few flush intervals.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Totals that did not move for so long have arrived: more than two flush intervals.
const STILL: Duration = Duration::from_millis(2_200);

/// The applications behind the Envoy under test.
#[derive(Debug)]
pub struct Backends {
    good: App,
    bad: App,
    dead: TcpSocket,
}

/// The requests of [`send_mix`] and what they lead to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mix {
    /// Requests to each of the four routes.
    pub each: u64,
}

// === impl Backends ===

impl Backends {
    pub async fn start() -> Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let dead = TcpSocket::new_v4().context("make a socket")?;
        dead.bind(any).context("bind the dead port")?;
        Ok(Self {
            good: App::start(any, Behaviour::dj()).await?,
            bad: App::start(any, Behaviour::jazz_v1().failing(1)).await?,
            dead,
        })
    }

    /// The bootstrap of an Envoy in front of them, without plugins and aggregator.
    pub fn bootstrap(&self) -> Result<Bootstrap> {
        let mut front = Listener::new(FRONT, Direction::Inbound);
        let routes = [
            route_with_retries("/bad", "bad", 2),
            route_with_retries("/refused", "dead", 1),
            direct_response("/direct", 200, "direct"),
            route("/", "good"),
        ];
        front.virtual_hosts = vec![virtual_host("all", &["*"], &routes)];
        let mut bootstrap = Bootstrap::new("sidecar-1");
        bootstrap.listeners.push(front);
        bootstrap.clusters = vec![
            Cluster::new("good", self.good.address()),
            Cluster::new("bad", self.bad.address()),
            Cluster::new("dead", self.dead.local_addr()?),
        ];
        Ok(bootstrap)
    }

    /// The same with `plugins` in the front listener, and the aggregator's cluster.
    pub fn bootstrap_with(&self, aggregator: SocketAddr, plugins: &[Plugin]) -> Result<Bootstrap> {
        let mut bootstrap = self.bootstrap()?;
        let to_aggregator = Cluster::new(AGGREGATOR_CLUSTER, aggregator);
        bootstrap.clusters.push(to_aggregator.with_http2());
        let front = bootstrap.listeners.first_mut();
        let front = front.context("there is no front listener")?;
        for plugin in plugins {
            attach(front, plugin);
        }
        Ok(bootstrap)
    }

    /// Where the application listens that always answers.
    pub fn address(&self) -> SocketAddr {
        self.good.address()
    }

    /// Requests that reached an application.
    pub fn served(&self) -> u64 {
        self.good.served() + self.bad.served()
    }
}

/// Puts the plugin where its role belongs.
pub fn attach(listener: &mut Listener, plugin: &Plugin) {
    match plugin.role() {
        Role::Filter => listener.http_filters.push(plugin.http_filter()),
        Role::AccessLog => listener.access_log.push(plugin.access_logger()),
        Role::UpstreamLog => listener.upstream_log.push(plugin.access_logger()),
    }
}

/// A plugin that streams as the pod of all tests.
pub fn plugin(role: Role) -> Result<Plugin> {
    Ok(Plugin::new(role)?
        .with_aggregator()
        .with("identity", identity()))
}

/// The identity of the pod of all tests.
pub fn identity() -> Value {
    json!({"namespace": NAMESPACE, "pod": POD, "uid": "uid-1", "node": "node-1", "labels": {"app": "app"}})
}

/// Sends `each` requests to each of the four routes, one after the other, and checks the answers.
pub async fn send_mix(front: SocketAddr, each: u64) -> Result<Mix> {
    for _ in 0..each {
        for (path, status) in [
            ("/", 200),
            ("/bad", 503),
            ("/refused", 503),
            ("/direct", 200),
        ] {
            let answer = http::get(front, path).await?;
            ensure!(
                answer.status == status,
                "GET {path}: {} instead of {status}: {}",
                answer.status,
                answer.text()
            );
        }
    }
    Ok(Mix { each })
}

/// Waits until the pod's totals satisfy `reached` and then stand still, and returns them: so what
/// came too late is waited for, and what came too much is seen.
pub async fn settled(
    aggregator: &Aggregator,
    pod: &str,
    reached: impl Fn(&PodState) -> bool,
) -> Result<PodState> {
    let mut last = None;
    let mut since = clock::now();
    let found = clock::wait_for("totals to arrive and stand still", PATIENCE, async || {
        let pods = aggregator.pods().await?;
        let Some(pod) = pods.find(NAMESPACE, pod) else {
            return Ok(None);
        };
        let totals = last_totals(pod);
        if last.as_ref() != Some(&totals) {
            last = Some(totals);
            since = clock::now();
        }
        let still = reached(pod) && since.elapsed() >= STILL;
        Ok(still.then(|| pod.clone()))
    });
    found.await.with_context(|| {
        let log = aggregator.log_tail();
        format!("the last totals were {last:?}; the aggregator's log ends:\n{log}")
    })
}

/// Whether the pod has counted so many inbound requests.
pub fn inbound(requests: u64) -> impl Fn(&PodState) -> bool {
    move |pod| pod.requests("inbound") >= Some(requests)
}

type Totals = (Option<u64>, Option<u64>, BTreeMap<String, u64>);

fn last_totals(pod: &PodState) -> Vec<Totals> {
    let totals = pod.series.iter().map(|series| {
        let responses = series.responses.clone();
        (series.requests, series.upstream_attempts, responses)
    });
    totals.collect()
}

/// Waits until the pod is in `state`.
pub async fn wait_state(aggregator: &Aggregator, pod: &str, state: &str) -> Result<PodState> {
    clock::wait_for(
        &format!("the pod {pod} to be {state}"),
        PATIENCE,
        async || {
            let pods = aggregator.pods().await?;
            let found = pods.find(NAMESPACE, pod);
            Ok(found.filter(|pod| pod.state == state).cloned())
        },
    )
    .await
    .with_context(|| format!("the aggregator's log ends:\n{}", aggregator.log_tail()))
}

/// Starts Envoy with two workers.
pub async fn start_envoy(bootstrap: &Bootstrap) -> Result<Envoy> {
    Envoy::start(&bootstrap.to_json(), &Options::default()).await
}

/// A loopback port that was free a moment ago, for an aggregator that is to come up, or back, at a
/// known address.
pub fn free_address() -> Result<SocketAddr> {
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let listener = std::net::TcpListener::bind((ip, 0)).context("find a free port")?;
    listener.local_addr().context("read the port")
}

// === impl Mix ===

impl Mix {
    pub fn requests(self) -> u64 {
        4 * self.each
    }

    /// Attempts that reached a connection: one for `/`, three for `/bad`.
    pub fn attempts(self) -> u64 {
        4 * self.each
    }
}
