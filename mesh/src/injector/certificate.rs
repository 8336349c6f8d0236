//! The webhook's certificate, and whether kube-apiserver can verify it.

use anyhow::{Context as _, Result};
use common_kubernetes::CaBundlePublisher;
use common_kubernetes::ca_bundle_publisher::{Fault, Target, service_names};
use common_tls::ReloadableCert;
use common_tls::files::Files;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ServeArgs;
use crate::clock;

#[derive(Debug)]
pub(super) struct Certificate {
    serving: ReloadableCert,
    /// Fault of the CA bundle's publisher; `None` for a certificate from files, whose CA bundle
    /// others publish.
    publisher_fault: Option<Fault>,
}

// === impl Certificate ===

impl Certificate {
    /// From files, or by a self-managed CA, which needs `client`.
    pub(super) fn start(
        args: &ServeArgs,
        client: Option<&Client>,
        stop: &CancellationToken,
    ) -> Result<Self> {
        if let Some((certificate, key)) = args.cert_file.clone().zip(args.key_file.clone()) {
            let followed = Files { certificate, key }.load();
            let followed = followed.context("--cert-file, --key-file")?;
            let serving = followed.serving();
            tokio::spawn(followed.follow(stop.clone()));
            return Ok(Self {
                serving,
                publisher_fault: None,
            });
        }
        let client = client.context("without --cert-file a cluster is needed")?;
        let names = service_names(&args.service, &args.namespace);
        let serving = ReloadableCert::untrusted(&names)?;
        let publisher = CaBundlePublisher {
            namespace: args.namespace.clone(),
            secret: args.ca_secret.clone(),
            service: args.service.clone(),
            names,
            targets: vec![Target::Webhooks(args.webhook_configuration.clone())],
            serving: serving.clone(),
            bundle: watch::Sender::default(),
            clock: clock::both(),
        };
        let fault = publisher.spawn(client.clone(), stop.clone());
        Ok(Self {
            serving,
            publisher_fault: Some(fault),
        })
    }

    pub(super) fn serving(&self) -> ReloadableCert {
        self.serving.clone()
    }

    /// Why kube-apiserver could not verify it at `now` (Unix seconds).
    pub(super) fn fault(&self, now: u64) -> Option<String> {
        if self.serving.expires() <= now {
            return Some("the certificate has expired".to_owned());
        }
        let fault = self.publisher_fault.as_ref();
        fault.and_then(|fault| fault.borrow().clone())
    }
}
