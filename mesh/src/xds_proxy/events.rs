//! Kubernetes Events on the pod: Envoy rejected the injected configuration, or nothing could be
//! injected.
//!
//! Best effort. The Kubernetes client is made for each Event: a proxy without faults pays nothing.

use std::path::PathBuf;
use std::time::Duration;

use common_kubernetes::connection;
use common_kubernetes::events::{Object, Warning};
use mesh_xds_proxy::events::Event;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

/// Pause after each Event: a flapping configuration raises a few, and the queue drops and counts
/// the others.
const PAUSE: Duration = Duration::from_secs(10);

const COMPONENT: &str = "meshmeter-xds-proxy";

#[derive(Debug)]
pub(super) struct Events {
    pub(super) about: Object,
    /// `None` uses the pod's service account.
    pub(super) kubeconfig: Option<PathBuf>,
    counts: Counts,
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    raised: Counter,
    failed: Counter,
}

// === impl Counts ===

impl Counts {
    /// Registers under the prefix `xds_proxy`, also with Events disabled: then they stay 0.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let counts = Self::default();
        let registry = registry.sub_registry_with_prefix("xds_proxy");
        let help = "Events raised on the pod";
        registry.register("events_raised", help, counts.raised.clone());
        let help = "Events that could not be raised";
        registry.register("events_failed", help, counts.failed.clone());
        counts
    }
}

// === impl Events ===

impl Events {
    pub(super) fn new(about: Object, kubeconfig: Option<PathBuf>, counts: Counts) -> Self {
        Self {
            about,
            kubeconfig,
            counts,
        }
    }

    /// Raises Events until the sender is dropped.
    pub(super) async fn run(self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            let warning = self.warning(event);
            let raise = async {
                let client = connection::connect(self.kubeconfig.as_deref()).await?;
                warning.raise(&client).await
            };
            match raise.await {
                Ok(()) => self.counts.raised.inc(),
                Err(error) => {
                    tracing::warn!(%error, "event not raised");
                    self.counts.failed.inc()
                }
            };
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn warning(&self, event: Event) -> Warning {
        let (reason, message) = match event {
            Event::Rejected { type_url, reason } => {
                let kind = type_url.rsplit('.').next().unwrap_or_default().to_owned();
                let message = format!(
                    "Envoy rejected the {kind} resources with the injected configuration and got the originals: its \
                     requests are not counted. Envoy's reason: {reason}"
                );
                ("MeshmeterRejected", message)
            }
            Event::TooLarge {
                type_url,
                bytes,
                max_bytes,
            } => {
                let kind = type_url.rsplit('.').next().unwrap_or_default().to_owned();
                let message = format!(
                    "{kind} resources of {bytes} bytes passed unchanged, and their requests are not counted: within \
                     the container's memory limit at most {max_bytes} bytes are changed. Raise it, or --memory-limit"
                );
                ("MeshmeterNotInserted", message)
            }
            Event::NoModule { reason } => (
                "MeshmeterNotInserted",
                format!(
                    "the sidecar's configuration passes unchanged, and its requests are not counted: {reason}"
                ),
            ),
        };
        Warning {
            about: self.about.clone(),
            reason,
            message,
            component: COMPONENT,
        }
    }
}
