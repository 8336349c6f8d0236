//! Leadership of this replica for remote write.

use std::sync::Arc;

use common_kubernetes::Lease;
use common_kubernetes::lease::{Leadership, LeaseHandle};
use tokio::sync::watch;

/// Observes the Lease, if there is one, and opens and closes the sender's gate.
pub(super) struct Writer {
    gate: Option<Arc<watch::Sender<bool>>>,
    lease: Option<LeaseHandle>,
    is_follower: bool,
}

/// A change of the leader.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LeadershipChange {
    Leads,
    /// The API server is unreachable: flushed batches wait.
    Unknown,
    Follows {
        /// True if this replica was no follower before.
        first: bool,
    },
}

// === impl Writer ===

impl Writer {
    /// A writer and, with a Lease, the receiver of its gate, which starts closed.
    pub(super) fn new(by_lease: bool) -> (Self, Option<watch::Receiver<bool>>) {
        let (gate, open) = by_lease.then(|| watch::channel(false)).unzip();
        let writer = Self {
            gate: gate.map(Arc::new),
            lease: None,
            is_follower: false,
        };
        (writer, open)
    }

    /// Starts to acquire and renew the Lease.
    pub(super) fn keep(&mut self, client: kube::Client, lease: Lease) {
        let handle = lease.spawn(client);
        if let Some(gate) = &self.gate {
            tokio::spawn(shut_without(handle.leadership.clone(), Arc::clone(gate)));
        }
        self.lease = Some(handle);
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
                self.is_follower = false;
                LeadershipChange::Leads
            }
            Leadership::Unknown => LeadershipChange::Unknown,
            Leadership::Follows => {
                let first = !std::mem::replace(&mut self.is_follower, true);
                LeadershipChange::Follows { first }
            }
        }
    }

    /// True while another replica writes.
    pub(super) fn is_follower(&self) -> bool {
        self.is_follower
    }

    /// Opens the gate, if this replica still leads.
    pub(super) fn open(&self) {
        let (Some(gate), Some(lease)) = (&self.gate, &self.lease) else {
            return;
        };
        // Checks the leadership under the gate's lock: `shut_without` may close it concurrently,
        // and closing must win.
        gate.send_if_modified(|open| {
            *open = *lease.leadership.borrow() == Leadership::Leads;
            *open
        });
    }

    /// Closes the gate.
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

/// Closes the gate as soon as this replica loses the Lease, even while a flush is blocked.
async fn shut_without(mut leadership: watch::Receiver<Leadership>, gate: Arc<watch::Sender<bool>>) {
    while leadership.changed().await.is_ok() {
        if *leadership.borrow_and_update() != Leadership::Leads {
            gate.send_replace(false);
        }
    }
}
