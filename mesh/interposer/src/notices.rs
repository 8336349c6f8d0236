//! What somebody should hear of, as events of the pod: bounded, and never waited for.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::metrics::Metrics;

/// Notices that wait at most; more are counted and left out.
const WAITING_MAX: usize = 16;

/// Something that went wrong without harm to traffic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// Envoy rejected what was put in, and has the original.
    Rejected {
        /// Type of the resources.
        type_url: String,
        /// Envoy's words.
        reason: String,
    },
    /// Nothing is put in, since a file is not there or is another than it should be.
    NoModule {
        /// Which, and what is wrong with it.
        reason: String,
    },
    /// A response is larger than may be changed within the memory limit, and passes as it is.
    TooLarge {
        /// Type of the resources.
        type_url: String,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        most: usize,
    },
}

/// Where notices go.
#[derive(Debug)]
pub struct Notices {
    sender: Option<mpsc::Sender<Notice>>,
    /// The last one: the same one after the other says nothing new.
    last: Mutex<Option<Notice>>,
    metrics: Metrics,
}

// === impl Notices ===

impl Notices {
    /// To nobody.
    pub fn nowhere(metrics: &Metrics) -> Self {
        Self {
            sender: None,
            last: Mutex::default(),
            metrics: metrics.clone(),
        }
    }

    /// To who takes them out.
    pub fn channel(metrics: &Metrics) -> (Self, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let notices = Self {
            sender: Some(sender),
            ..Self::nowhere(metrics)
        };
        (notices, receiver)
    }

    pub(crate) fn tell(&self, notice: Notice) {
        let Some(sender) = &self.sender else { return };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() == Some(&notice) {
            return;
        }
        if sender.try_send(notice.clone()).is_err() {
            self.metrics.notices_refused.inc();
        }
        *last = Some(notice);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::{Metrics, Notice, Notices, WAITING_MAX};

    /// The same is told once, and what nobody takes is counted.
    #[test]
    fn notices_are_bounded() {
        let metrics = Metrics::register(&mut Registry::default());
        let (notices, mut receiver) = Notices::channel(&metrics);
        let notice = |nth: usize| Notice::NoModule {
            reason: nth.to_string(),
        };
        for nth in 0..WAITING_MAX + 3 {
            notices.tell(notice(nth));
            notices.tell(notice(nth));
        }
        assert_eq!(metrics.notices_refused.get(), 3);
        assert_eq!(receiver.try_recv(), Ok(notice(0)));
        assert_eq!(receiver.try_recv(), Ok(notice(1)));
    }
}
