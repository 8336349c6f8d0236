//! Events on the pod: what was put in was rejected, or cannot be put in.
//!
//! Best effort. The way to the cluster is made with the first one: a sidecar that never has
//! anything to say pays nothing for it.

use std::path::PathBuf;
use std::time::Duration;

use common_kubernetes::connection;
use common_kubernetes::events::{Object, Warning};
use mesh_xds_proxy::events::Event;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

/// Pause after each: a configuration that flaps is told by a few, and those that find no room are
/// counted.
const PAUSE: Duration = Duration::from_secs(10);

const COMPONENT: &str = "meshmeter-xds-proxy";

#[derive(Debug)]
pub(super) struct Events {
    pub(super) about: Object,
    /// The way to the cluster, if not as this pod's service account.
    pub(super) kubeconfig: Option<PathBuf>,
    counts: Counts,
}

/// What became of events; cheap to clone, all clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    raised: Counter,
    failed: Counter,
}

// === impl Counts ===

impl Counts {
    /// Registered under the prefix `xds-proxy`, also where no events are raised: 0 says that.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let counts = Self::default();
        let registry = registry.sub_registry_with_prefix("xds_proxy");
        let help = "Events raised on the pod";
        registry.register("events_raised", help, counts.raised.clone());
        let help = "Events that the cluster did not take";
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

    /// Raises what comes, for as long as something may.
    pub(super) async fn run(self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            let warning = self.warning(event);
            let raised = async {
                let client = connection::connect(self.kubeconfig.as_deref()).await?;
                warning.raise(&client).await
            };
            match raised.await {
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
                    "Envoy rejected the {kind} resources with meshmeter's parts and has the original: it is not \
                     counted. Envoy says: {reason}"
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
                    "{kind} resources of {bytes} bytes pass as they are, and are not counted: within the container's \
                     memory limit at most {max_bytes} bytes are changed. Raise it, or --memory-limit"
                );
                ("MeshmeterNotInserted", message)
            }
            Event::NoModule { reason } => (
                "MeshmeterNotInserted",
                format!(
                    "the sidecar's configuration passes as it is, and it is not counted: {reason}"
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
