//! Nobody runs pods here: each pod that the control plane wants gets an Envoy with the filter and
//! an application, and the status of a pod that runs. Those that are gone are ended as the kubelet
//! does it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tests_support::bootstrap::Secure;
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::{Envoy, Options};
use tests_support::sidecar::{INBOUND_LISTENER, Sidecar};

use crate::objects;
use crate::rest::{NAMESPACE, Rest, pods};

/// The Envoys of one workload.
#[derive(Debug)]
pub struct Fleet {
    rest: Rest,
    app: App,
    label: String,
    aggregator: SocketAddr,
    secure: Option<Secure>,
    envoys: BTreeMap<String, Envoy>,
    addresses: Addresses,
}

/// Addresses that accept requests now.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<Mutex<Vec<SocketAddr>>>);

// === impl Addresses ===

impl Addresses {
    pub fn now(&self) -> Vec<SocketAddr> {
        self.0.lock().clone()
    }

    fn set(&self, addresses: Vec<SocketAddr>) {
        *self.0.lock() = addresses;
    }
}

// === impl Fleet ===

impl Fleet {
    /// Pods with the label `app` = `label`; none is running yet.
    pub async fn new(rest: &Rest, label: &str, aggregator: SocketAddr) -> Result<Self> {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        Ok(Self {
            rest: rest.clone(),
            app: App::start(any, Behaviour::jazz_v1()).await?,
            label: label.to_owned(),
            aggregator,
            secure: None,
            envoys: BTreeMap::new(),
            addresses: Addresses::default(),
        })
    }

    /// The same, streaming over TLS with a token.
    #[must_use]
    pub fn with_secure(mut self, secure: Secure) -> Self {
        self.secure = Some(secure);
        self
    }

    /// Watches the addresses that accept requests.
    pub fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    /// The Envoy of the pod `name`.
    pub fn envoy(&self, name: &str) -> Option<&Envoy> {
        self.envoys.get(name)
    }

    /// Starts and ends Envoys until they are those that the control plane wants; how many there are
    /// then.
    pub async fn follow(&mut self) -> Result<usize> {
        let wanted = self.rest.list(&pods()).await?;
        let wanted: BTreeMap<String, String> = wanted
            .iter()
            .filter(|pod| pod["metadata"]["labels"]["app"] == self.label.as_str())
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .filter_map(|pod| {
                let metadata = &pod["metadata"];
                let name = metadata["name"].as_str()?.to_owned();
                Some((name, metadata["uid"].as_str()?.to_owned()))
            })
            .collect();
        let gone: Vec<String> = self
            .envoys
            .keys()
            .filter(|name| !wanted.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            let envoy = self.envoys.remove(&name);
            self.publish()?;
            if let Some(mut envoy) = envoy {
                envoy.terminate().await?;
            }
        }
        for (name, uid) in wanted {
            if !self.envoys.contains_key(&name) {
                let envoy = self.start(&name, &uid).await?;
                self.envoys.insert(name.clone(), envoy);
                let path = format!("{}/{name}/status", pods());
                // It may be gone again already.
                let _ = self.rest.patch(&path, &objects::running()).await;
            }
        }
        self.publish()?;
        Ok(self.envoys.len())
    }

    async fn start(&self, name: &str, uid: &str) -> Result<Envoy> {
        let mut sidecar = Sidecar::new(NAMESPACE, name, self.app.address());
        sidecar.aggregator = Some(self.aggregator);
        sidecar.secure.clone_from(&self.secure);
        uid.clone_into(&mut sidecar.uid);
        let config = sidecar.bootstrap()?.to_json();
        let envoy = Envoy::start(&config, &Options::default()).await;
        envoy.with_context(|| format!("the Envoy of {name}"))
    }

    fn publish(&self) -> Result<()> {
        let addresses: Result<Vec<_>> = self
            .envoys
            .values()
            .map(|envoy| envoy.listener(INBOUND_LISTENER))
            .collect();
        self.addresses.set(addresses?);
        Ok(())
    }
}
