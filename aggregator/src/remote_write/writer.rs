//! Whether this replica is the one that writes, and up to which flush it may send.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aggregator_remote_write::handover::Standbys;
use common_kubernetes::Lease;
use common_kubernetes::lease::{Contact, Kept, Role};
use tokio::sync::watch;
use tokio::time::timeout;

/// A flush waits for the Lease to tell of it at most for this time; the next one asks again.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// Nothing may be sent.
const SHUT: i64 = i64::MIN;

/// Follows the Lease, if there is one, and opens and shuts the sender's gate.
pub(super) struct Writer {
    gate: Option<Arc<watch::Sender<i64>>>,
    lease: Option<Kept>,
    /// Those that copy sums before they are sent; `None`: whoever takes over needs nothing from us.
    standbys: Option<Arc<Standbys>>,
    /// The last flush that the Lease is to tell.
    tell: Arc<AtomicI64>,
    follows: bool,
}

/// A change of who writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// This replica.
    Leads {
        /// Up to when flushes may have been sent before.
        told: Option<i64>,
    },
    /// Nobody could be asked: what is flushed waits.
    Unknown,
    /// Another.
    Follows {
        /// True if it was not so before.
        first: bool,
    },
}

// === impl Writer ===

impl Writer {
    /// With the receiver of its gate, shut at first, if there is to be a Lease.
    pub(super) fn new(
        by_lease: bool,
        standbys: Option<Arc<Standbys>>,
    ) -> (Self, Option<watch::Receiver<i64>>) {
        let (gate, open) = by_lease.then(|| watch::channel(SHUT)).unzip();
        let writer = Self {
            gate: gate.map(Arc::new),
            lease: None,
            standbys,
            tell: Arc::new(AtomicI64::new(SHUT)),
            follows: false,
        };
        (writer, open)
    }

    /// Takes the Lease when it is free, and keeps it.
    pub(super) fn keep(&mut self, client: kube::Client, lease: Lease) {
        let tell = Arc::clone(&self.tell);
        let told = move || Some(tell.load(Ordering::Acquire)).filter(|told| *told != SHUT);
        let kept = lease.keep(client, Box::new(told));
        if let Some(gate) = &self.gate {
            tokio::spawn(shut_without(kept.role.clone(), Arc::clone(gate)));
        }
        self.lease = Some(kept);
    }

    /// Where the one that writes is found, and changes of it; `None` without a Lease.
    pub(super) fn role(&self) -> Option<watch::Receiver<Role>> {
        self.lease.as_ref().map(|lease| lease.role.clone())
    }

    /// The next change.
    pub(super) async fn turn(&mut self) -> Turn {
        let Some(lease) = &mut self.lease else {
            return std::future::pending().await;
        };
        if lease.role.changed().await.is_err() {
            return std::future::pending().await;
        }
        let role = lease.role.borrow_and_update();
        match *role {
            Role::Leads { inherited } => {
                self.follows = false;
                Turn::Leads { told: inherited }
            }
            Role::Unknown => Turn::Unknown,
            Role::Follows { .. } => {
                let first = !std::mem::replace(&mut self.follows, true);
                Turn::Follows { first }
            }
        }
    }

    /// True while another replica writes.
    pub(super) fn follows(&self) -> bool {
        self.follows
    }

    /// True if whoever writes after us goes on with what we have.
    pub(super) fn is_copied(&self) -> bool {
        self.standbys.is_some()
    }

    /// True if another replica may have written since this one last did, which did not hear of it: `told` is what the
    /// Lease tells, and more than this one ever had it tell.
    pub(super) fn missed_another(&self, told: Option<i64>) -> bool {
        let own = self.tell.load(Ordering::Acquire);
        own != SHUT && told > Some(own)
    }

    /// Lets the sender send everything, unless each flush has to be copied first.
    pub(super) fn open(&self) {
        if self.standbys.is_none() {
            self.open_until(i64::MAX);
        }
    }

    /// Lets the sender send nothing.
    pub(super) fn shut(&self) {
        if let Some(gate) = &self.gate {
            gate.send_replace(SHUT);
        }
        if let (true, Some(standbys)) = (self.follows, &self.standbys) {
            standbys.retract();
        }
    }

    /// Lets the sender send the flush at `at` once those that stand by have its `checkpoint`, and the Lease tells of it:
    /// then nobody goes on from less than what was sent. Returns how many stand by.
    pub(super) async fn release_flush(&self, at: i64, checkpoint: Vec<u8>) -> usize {
        let (Some(lease), Some(standbys)) = (&self.lease, &self.standbys) else {
            return 0;
        };
        if !leads(lease) {
            return 0;
        }
        standbys.publish(at, checkpoint);
        let copies = standbys.copied(at).await;
        self.tell.store(at, Ordering::Release);
        lease.news.notify_one();
        let mut told = lease.told.clone();
        // However slow the cluster is, what it has told by now may go.
        let _ = timeout(TOLD_WITHIN, told.wait_for(|told| *told >= Some(at))).await;
        let told = *told.borrow();
        if let Some(told) = told {
            self.open_until(told.min(at));
        }
        copies
    }

    fn open_until(&self, at: i64) {
        let (Some(gate), Some(lease)) = (&self.gate, &self.lease) else {
            return;
        };
        // Under the lock of the gate, so that whoever shuts it has the last word.
        gate.send_if_modified(|until| {
            let opens = leads(lease);
            if opens {
                *until = at;
            }
            opens
        });
    }

    pub(super) async fn release(self) {
        if let Some(lease) = self.lease {
            lease.release().await;
        }
    }
}

/// The one that writes, if it is another one and says where it is.
pub(super) fn followed(role: &Role) -> Option<Contact> {
    match role {
        Role::Follows { contact } => contact.clone(),
        Role::Unknown | Role::Leads { .. } => None,
    }
}

fn leads(lease: &Kept) -> bool {
    matches!(*lease.role.borrow(), Role::Leads { .. })
}

/// Shuts the gate as soon as the Lease is not ours, whatever the flushes wait for at that moment.
async fn shut_without(mut role: watch::Receiver<Role>, gate: Arc<watch::Sender<i64>>) {
    while role.changed().await.is_ok() {
        if !matches!(*role.borrow_and_update(), Role::Leads { .. }) {
            gate.send_replace(SHUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While it could not reach the cluster, another one took the Lease, wrote, and gave it back.
    #[test]
    fn it_notices_that_another_one_wrote() {
        let (writer, _) = Writer::new(true, None);
        assert!(
            !writer.missed_another(Some(5)),
            "a new process has written nothing"
        );
        writer.tell.store(7, Ordering::Release);
        assert!(!writer.missed_another(None));
        assert!(!writer.missed_another(Some(7)), "its own");
        assert!(writer.missed_another(Some(8)));
    }
}
