//! Whether this replica is the one that writes.

use std::sync::Arc;

use common_kubernetes::Lease;
use common_kubernetes::lease::{Leadership, LeaseHandle};
use tokio::sync::watch;

/// Follows the Lease, if there is one, and opens and shuts the sender's gate.
pub(super) struct Writer {
    gate: Option<Arc<watch::Sender<bool>>>,
    lease: Option<LeaseHandle>,
    follows: bool,
}

/// A change of who writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LeadershipChange {
    Leads,
    /// Nobody could be asked: what is flushed waits.
    Unknown,
    Follows {
        /// True if it was not so before.
        first: bool,
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
            follows: false,
        };
        (writer, open)
    }

    /// Takes the Lease when it is free, and keeps it.
    pub(super) fn keep(&mut self, client: kube::Client, lease: Lease) {
        let kept = lease.keep(client);
        if let Some(gate) = &self.gate {
            tokio::spawn(shut_without(kept.leadership.clone(), Arc::clone(gate)));
        }
        self.lease = Some(kept);
    }

    pub(super) async fn leadership_change(&mut self) -> LeadershipChange {
        let Some(lease) = &mut self.lease else {
            return std::future::pending().await;
        };
        if lease.leadership.changed().await.is_err() {
            return std::future::pending().await;
        }
        let leadership = *lease.leadership.borrow_and_update();
        match leadership {
            Leadership::Leads => {
                self.follows = false;
                LeadershipChange::Leads
            }
            Leadership::Unknown => LeadershipChange::Unknown,
            Leadership::Follows => {
                let first = !std::mem::replace(&mut self.follows, true);
                LeadershipChange::Follows { first }
            }
        }
    }

    /// True while another replica writes.
    pub(super) fn follows(&self) -> bool {
        self.follows
    }

    /// Lets the sender send, as long as the Lease is ours.
    pub(super) fn open(&self) {
        let (Some(gate), Some(lease)) = (&self.gate, &self.lease) else {
            return;
        };
        // Under the lock of the gate, so that whoever shuts it has the last word.
        gate.send_if_modified(|open| {
            *open = *lease.leadership.borrow() == Leadership::Leads;
            *open
        });
    }

    /// Lets the sender send nothing.
    pub(super) fn shut(&self) {
        if let Some(gate) = &self.gate {
            gate.send_replace(false);
        }
    }

    pub(super) async fn release(self) {
        if let Some(lease) = self.lease {
            lease.release().await;
        }
    }
}

/// Shuts the gate as soon as the Lease is not ours, whatever the flushes wait for at that moment.
async fn shut_without(mut leadership: watch::Receiver<Leadership>, gate: Arc<watch::Sender<bool>>) {
    while leadership.changed().await.is_ok() {
        if *leadership.borrow_and_update() != Leadership::Leads {
            gate.send_replace(false);
        }
    }
}
