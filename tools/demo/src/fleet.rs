//! The three pods of djapp: application, sidecar and the load on each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::{Envoy, Options};
use tests_support::load::{Load, Phase, Tally};
use tests_support::sidecar::{Backend, INBOUND_LISTENER, OUTBOUND_LISTENER, Sidecar, service_host};
use tokio::net::TcpSocket;

pub(crate) const NAMESPACE: &str = "prod";

/// Port of every application, as in the walkthrough.
const APPLICATION_PORT: u16 = 9080;
/// Pod addresses that are tried before the applications fall back to 127.0.0.1 and any port.
const ADDRESS_TRIES: u32 = 16;
/// jazz's application fails one request in this many.
const JAZZ_FAILS_ONE_IN: u64 = 20;
/// Load-balancing weights of jazz's application and of a port without listener.
const JAZZ_WEIGHTS: (u32, u32) = (19, 1);
/// Retries of jazz's inbound route.
const JAZZ_RETRIES: u32 = 3;

/// All pods, in the order of their names.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// dj, jazz-v1, metal-v1.
    pub(crate) pods: Vec<Pod>,
}

#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    /// Its service, for label selectors and calls.
    service: &'static str,
    /// Load of its own in a quiet time, in requests per second.
    quiet_rate: f64,
    /// Requests that the load wrote to its inbound listener.
    pub(crate) tally: Arc<Tally>,
    pub(crate) envoy: Envoy,
    app: App,
    /// A bound port without listener.
    _dead: Option<TcpSocket>,
}

/// The differences between the three pods.
struct Plan {
    name: &'static str,
    service: &'static str,
    quiet_rate: f64,
    behaviour: Behaviour,
    backends: Vec<Backend>,
}

// === impl Fleet ===

impl Fleet {
    /// Starts jazz and metal and then dj, which calls them.
    pub(crate) async fn start(aggregator: SocketAddr) -> Result<Self> {
        let jazz = Plan {
            name: "jazz-v1",
            service: "jazz",
            quiet_rate: 3.0,
            behaviour: Behaviour::jazz_v1()
                .failing(JAZZ_FAILS_ONE_IN)
                .with_latency(Duration::from_millis(40)),
            backends: Vec::new(),
        };
        let metal = Plan {
            name: "metal-v1",
            service: "metal",
            quiet_rate: 2.0,
            behaviour: Behaviour::metal_v1().with_latency(Duration::from_millis(25)),
            backends: Vec::new(),
        };
        let (jazz, metal) = tokio::try_join!(
            Pod::start(jazz, 12, aggregator),
            Pod::start(metal, 13, aggregator)
        )?;
        let backends = vec![jazz.as_backend()?, metal.as_backend()?];
        let hosts = backends.iter().map(|backend| backend.host(NAMESPACE));
        let dj = Plan {
            name: "dj",
            service: "dj",
            quiet_rate: 4.0,
            behaviour: Behaviour::dj()
                .calling(hosts.collect())
                .with_latency(Duration::from_millis(5)),
            backends,
        };
        let dj = Pod::start(dj, 11, aggregator).await?;
        dj.app.set_outbound(dj.envoy.listener(OUTBOUND_LISTENER)?);
        Ok(Self {
            pods: vec![dj, jazz, metal],
        })
    }

    /// Requests that were written to the inbound listener of `pod`: by the load and by the
    /// applications of others.
    pub(crate) fn sent(&self, pod: &Pod) -> u64 {
        let host = service_host(pod.service, NAMESPACE);
        let calls: u64 = self
            .pods
            .iter()
            .map(|caller| caller.app.written_to(&host))
            .sum();
        pod.tally.written() + calls
    }

    /// Requests without a response, which may have arrived or not.
    pub(crate) fn broken(&self, pod: &Pod) -> u64 {
        let host = service_host(pod.service, NAMESPACE);
        let calls: u64 = self
            .pods
            .iter()
            .map(|caller| caller.app.broken_to(&host))
            .sum();
        pod.tally.broken() + calls
    }

    /// Ends all sidecars in order, and waits.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        for pod in &mut self.pods {
            let ended = pod.envoy.terminate().await;
            ended.with_context(|| format!("end the sidecar of {}", pod.name))?;
        }
        Ok(())
    }
}

// === impl Pod ===

impl Pod {
    /// Label selector of the pod's deployment.
    pub(crate) fn selector(&self) -> String {
        format!("app={},version=v1", self.service)
    }

    /// The load on the pod, `scale` times as strong as usual.
    pub(crate) fn load(&self, phases: &[Phase], scale: f64) -> Result<Load> {
        let phases = phases.iter().map(|phase| Phase {
            rate: phase.rate * self.quiet_rate * scale,
            duration: phase.duration,
        });
        let mut load = Load::new(self.envoy.listener(INBOUND_LISTENER)?, phases.collect());
        load.host = service_host(self.service, NAMESPACE);
        Ok(load)
    }

    async fn start(plan: Plan, last_octet: u8, aggregator: SocketAddr) -> Result<Self> {
        let app = start_app(plan.behaviour, last_octet).await?;
        let mut sidecar = Sidecar::new(NAMESPACE, plan.name, app.address());
        sidecar.labels = [("app", plan.service), ("version", "v1")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        sidecar.ip = app.address().ip();
        sidecar.backends = plan.backends;
        sidecar.aggregator = Some(aggregator);
        let mut dead = None;
        if plan.service == "jazz" {
            let socket = dead_port(sidecar.ip)?;
            sidecar.retries = JAZZ_RETRIES;
            sidecar.application = vec![
                (app.address(), JAZZ_WEIGHTS.0),
                (socket.local_addr()?, JAZZ_WEIGHTS.1),
            ];
            dead = Some(socket);
        }
        let envoy = Envoy::start(&sidecar.bootstrap()?.to_json(), &Options::default()).await;
        Ok(Self {
            name: plan.name,
            service: plan.service,
            quiet_rate: plan.quiet_rate,
            tally: Arc::default(),
            envoy: envoy.with_context(|| format!("start the sidecar of {}", plan.name))?,
            app,
            _dead: dead,
        })
    }

    fn as_backend(&self) -> Result<Backend> {
        Ok(Backend {
            service: self.service.to_owned(),
            node: self.name.to_owned(),
            address: self.envoy.listener(INBOUND_LISTENER)?,
        })
    }
}

/// Starts the application on its own loopback address and the walkthrough's port, like a pod; if
/// that fails, on 127.0.0.1 and any port.
async fn start_app(behaviour: Behaviour, last_octet: u8) -> Result<App> {
    let seed = std::process::id();
    for attempt in 0..ADDRESS_TRIES {
        let [.., high, low] = (seed.wrapping_add(attempt * 257)).to_be_bytes();
        let ip = Ipv4Addr::new(127, 64 + high / 2, low, last_octet);
        if let Ok(app) = App::start((ip, APPLICATION_PORT).into(), behaviour.clone()).await {
            return Ok(app);
        }
    }
    App::start((Ipv4Addr::LOCALHOST, 0).into(), behaviour).await
}

/// A bound socket that does not listen: connections are refused, and the port stays reserved.
fn dead_port(ip: IpAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4().context("make a socket")?;
    let bound = socket.bind((ip, 0).into());
    bound.context("bind a port that refuses connections")?;
    Ok(socket)
}
