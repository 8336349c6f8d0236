//! While another replica writes sums: keeps a copy of what they are added up from, to go on with.

use std::sync::Arc;
use std::time::Duration;

use aggregator_remote_write::handover::Copies;
use aggregator_remote_write::receiver::HttpReceiver;
use aggregator_remote_write::sender::Sender;
use common_kubernetes::lease::{Contact, Role};
use tokio::sync::watch;

use super::writer::followed;

/// Pause after a failed attempt.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The newest copy.
pub(super) type Newest = watch::Receiver<Option<Arc<Vec<u8>>>>;

/// Fetches copies of whoever writes.
pub(super) struct Standby {
    copies: Copies,
    role: watch::Receiver<Role>,
    sender: Arc<Sender<HttpReceiver>>,
    newest: watch::Sender<Option<Arc<Vec<u8>>>>,
}

// === impl Standby ===

impl Standby {
    /// In a task of its own, which ends with the process. What an earlier process kept on disk is the newest copy until
    /// there is another: whoever wrote it may not come back.
    pub(super) fn begin(
        copies: Copies,
        role: watch::Receiver<Role>,
        sender: Arc<Sender<HttpReceiver>>,
    ) -> Newest {
        let kept = sender.with_queue(|queue| queue.state()).ok().flatten();
        let (newest, copy) = watch::channel(kept.map(Arc::new));
        let standby = Self {
            copies,
            role,
            sender,
            newest,
        };
        tokio::spawn(standby.run());
        copy
    }

    async fn run(mut self) {
        let mut role = self.role.clone();
        let (mut fails, mut before) = (false, None);
        loop {
            let contact = followed(&role.borrow_and_update());
            if contact != before {
                self.copies.begin_anew();
                before.clone_from(&contact);
            }
            let fetched = async {
                match contact {
                    Some(contact) => self.fetch(&contact, &mut fails).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = fetched => {}
                changed = role.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The next copy, or a pause after a failure; that is logged when it begins.
    async fn fetch(&mut self, contact: &Contact, fails: &mut bool) {
        let Contact { address, key } = contact;
        match self.copies.next(address, key).await {
            Ok(copy) => {
                *fails = false;
                if let Some((_, bytes)) = copy {
                    self.keep(Arc::new(bytes)).await;
                }
            }
            Err(error) => {
                if !std::mem::replace(fails, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, writer = address, "remote write: no copy of the sums");
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    /// Durable where the queue is, before the writer hears that we have it. To go on with it, memory is enough.
    async fn keep(&self, copy: Arc<Vec<u8>>) {
        self.newest.send_replace(Some(Arc::clone(&copy)));
        let (sender, role) = (Arc::clone(&self.sender), self.role.clone());
        let saved = tokio::task::spawn_blocking(move || {
            sender.with_queue(|queue| {
                // As soon as we write, our own is the newer one.
                let follows = followed(&role.borrow()).is_some();
                if follows {
                    queue.save_state(&copy)
                } else {
                    Ok(())
                }
            })
        });
        if let Ok(Err(error)) = saved.await {
            tracing::warn!(%error, "remote write: the copy of the sums is not written to disk");
        }
    }
}
