//! A pod of a virtual gateway: an Envoy by itself.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result};
use tests_support::aggregator::{Aggregator, PodState};
use tests_support::clock;
use tests_support::envoy::{Envoy, Options};

use super::{Mesh, Modules, NAMESPACE, START_MAX, XdsProxy, bootstrap};

#[derive(Debug)]
pub struct Gateway {
    /// Its name, and that of its virtual gateway.
    pub name: String,
    pub envoy: Envoy,
    pub xds_proxy: Option<XdsProxy>,
}

// === impl Mesh ===

impl Mesh {
    /// Starts a pod of the gateway `name`, configured by the xDS proxy, or without one by the
    /// control plane.
    pub async fn gateway(
        &self,
        name: &str,
        through: Option<(&Modules, SocketAddr)>,
    ) -> Result<Gateway> {
        let (xds_proxy, xds) = self.xds(name, through).await?;
        let mut bootstrap = bootstrap(name, xds, xds);
        let node = &mut bootstrap["node"];
        node["id"] = format!("mesh/dj-app/virtualGateway/{name}_{NAMESPACE}").into();
        node["metadata"]["meshmeter.egress"] = own_address()?.to_string().into();
        let options = Options {
            binary: self.envoy.clone(),
            ..Options::default()
        };
        let envoy = Envoy::start(&bootstrap, &options).await;
        let log = xds_proxy.as_ref().map(XdsProxy::log_tail);
        Ok(Gateway {
            name: name.to_owned(),
            envoy: envoy.with_context(|| format!("the xDS proxy's log ends:\n{log:?}"))?,
            xds_proxy,
        })
    }
}

/// For the listener of the second pass, whose port its first pass has to know.
fn own_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

// === impl Gateway ===

impl Gateway {
    /// The address of its listener for `port`.
    pub async fn listener(&mut self, port: u16) -> Result<SocketAddr> {
        let name = format!("lds_ingress_0.0.0.0_{port}");
        self.envoy.wait_listener(&name).await
    }

    /// The aggregator's state of it.
    pub async fn state(&self, aggregator: &Aggregator) -> Result<Option<PodState>> {
        let pods = aggregator.pods().await?;
        Ok(pods.find(NAMESPACE, &self.name).cloned())
    }

    /// Waits until the aggregator has exactly `requests` of clients.
    pub async fn has_counted(&self, aggregator: &Aggregator, requests: u64) -> Result<PodState> {
        clock::wait_for("exact totals of the gateway", START_MAX, async || {
            let state = self.state(aggregator).await?;
            Ok(state.filter(|state| state.requests("inbound") == Some(requests)))
        })
        .await
        .with_context(|| aggregator.log_tail())
    }
}
