//! Whether this replica is the one that writes.

use std::sync::Arc;

use aggregator_cluster::Lease;
use aggregator_cluster::lease::{Kept, Role};
use aggregator_remote_write::receiver::HttpReceiver;
use aggregator_remote_write::sender::Sender;
use tokio::sync::watch;

/// Follows the Lease, if there is one, and opens and shuts the sender's gate.
pub(super) struct Writer {
    gate: Option<Arc<watch::Sender<bool>>>,
    lease: Option<Kept>,
    /// True once it has written since the start.
    led: bool,
    follows: bool,
}

/// A change of who writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// This replica.
    Leads {
        /// If it was another before: up to when that has written, as it told last, or the beginning of time.
        after: Option<i64>,
    },
    /// Nobody could be asked: what is flushed waits.
    Unknown,
    /// Another, which told up to when it has written.
    Follows {
        told: Option<i64>,
        /// `Some` if it was not so before: whether this replica has written since its start.
        first: Option<bool>,
    },
}

// === impl Writer ===

impl Writer {
    /// With the receiver of its gate, shut at first, if there is to be a Lease.
    pub(super) fn new(by_lease: bool) -> (Self, Option<watch::Receiver<bool>>) {
        let (gate, open) = by_lease.then(|| watch::channel(false)).unzip();
        let writer = Self {
            gate: gate.map(Arc::new),
            lease: None,
            led: false,
            follows: false,
        };
        (writer, open)
    }

    pub(super) fn with_lease(
        mut self,
        client: kube::Client,
        lease: Lease,
        sender: Arc<Sender<HttpReceiver>>,
    ) -> Self {
        let kept = lease.keep(client, Box::new(move || sender.told()));
        if let Some(gate) = &self.gate {
            tokio::spawn(shut_without(kept.role.clone(), Arc::clone(gate)));
        }
        self.lease = Some(kept);
        self
    }

    /// The next change.
    pub(super) async fn turn(&mut self) -> Turn {
        let role = match &mut self.lease {
            Some(lease) => match lease.role.changed().await {
                Ok(()) => *lease.role.borrow_and_update(),
                Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        };
        match role {
            Role::Leads { inherited } => {
                self.led = true;
                let followed = std::mem::take(&mut self.follows);
                Turn::Leads {
                    after: followed.then(|| inherited.unwrap_or(i64::MIN)),
                }
            }
            Role::Unknown => Turn::Unknown,
            Role::Follows { told } => {
                let first = (!self.follows).then_some(self.led);
                self.follows = true;
                Turn::Follows { told, first }
            }
        }
    }

    /// True while another replica writes.
    pub(super) fn follows(&self) -> bool {
        self.follows
    }

    /// Lets the sender send, or not.
    pub(super) fn open(&self, open: bool) {
        let leads = |lease: &Kept| matches!(*lease.role.borrow(), Role::Leads { .. });
        let leads = self.lease.as_ref().is_none_or(leads);
        if let Some(gate) = &self.gate {
            gate.send_replace(open && leads);
        }
    }

    /// A flush is on its way: the one after us is to know.
    pub(super) fn pushed(&self) {
        if let Some(lease) = &self.lease {
            lease.news.notify_one();
        }
    }

    pub(super) async fn release(self) {
        if let Some(lease) = self.lease {
            lease.release().await;
        }
    }
}

/// Shuts the gate as soon as the Lease is not ours, whatever the flushes wait for at that moment.
async fn shut_without(mut role: watch::Receiver<Role>, gate: Arc<watch::Sender<bool>>) {
    while role.changed().await.is_ok() {
        if !matches!(*role.borrow_and_update(), Role::Leads { .. }) {
            gate.send_replace(false);
        }
    }
}
