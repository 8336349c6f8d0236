//! The certificate that kube-apiserver is shown, and whether it will verify it.

use anyhow::{Context as _, Result};
use common_kubernetes::CaBundlePublisher;
use common_kubernetes::ca_bundle_publisher::{Fault, Target, service_names};
use common_tls::ReloadableCert;
use common_tls::files::Files;
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::ServeArgs;
use crate::clock;

/// A certificate that is kept in order until it is no longer needed.
#[derive(Debug)]
pub(super) struct Certificate {
    serving: ReloadableCert,
    /// `None`: it is from files, and whoever made them says who vouches for it.
    registered: Option<Fault>,
}

// === impl Certificate ===

impl Certificate {
    /// That in files, or one by a CA of our own, for which `client` is needed.
    pub(super) fn begin(
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
                registered: None,
            });
        }
        let client = client.context("without --cert-file a cluster is needed")?;
        let names = service_names(&args.service, &args.namespace);
        let serving = ReloadableCert::untrusted(&names)?;
        let registration = CaBundlePublisher {
            namespace: args.namespace.clone(),
            secret: args.ca_secret.clone(),
            service: args.service.clone(),
            names,
            targets: vec![Target::Webhooks(args.webhook_configuration.clone())],
            serving: serving.clone(),
            clock: clock::both(),
        };
        let registered = registration.keep(client.clone(), stop.clone());
        Ok(Self {
            serving,
            registered: Some(registered),
        })
    }

    pub(super) fn serving(&self) -> ReloadableCert {
        self.serving.clone()
    }

    /// Why kube-apiserver would not verify it as of `now` (seconds of Unix time).
    pub(super) fn fault(&self, now: u64) -> Option<String> {
        if self.serving.expires() <= now {
            return Some("the certificate has expired".to_owned());
        }
        let registered = self.registered.as_ref();
        registered.and_then(|fault| fault.borrow().clone())
    }
}
