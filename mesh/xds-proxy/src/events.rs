//! A bounded queue of Kubernetes Events about the pod; senders never wait.

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::metrics::Metrics;

/// Events in the queue at most; further ones are dropped and counted.
const WAITING_MAX: usize = 16;

/// A fault that does not affect traffic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Envoy rejected the injected configuration, and gets the original.
    Rejected { type_url: String, reason: String },
    /// Nothing is injected because a file is missing or has unexpected contents.
    NoModule {
        /// Names the file and its fault.
        reason: String,
    },
    /// A response exceeds the size that may be changed within the memory limit, and passes
    /// unchanged.
    TooLarge {
        type_url: String,
        bytes: usize,
        max_bytes: usize,
    },
}

#[derive(Debug)]
pub struct EventSender {
    sender: Option<mpsc::Sender<Event>>,
    /// Last event sent; an equal one that follows it is dropped.
    last_sent: Mutex<Option<Event>>,
    metrics: Metrics,
}

// === impl EventSender ===

impl EventSender {
    /// A sender that drops all events.
    pub fn disconnected(metrics: &Metrics) -> Self {
        Self {
            sender: None,
            last_sent: Mutex::default(),
            metrics: metrics.clone(),
        }
    }

    pub fn channel(metrics: &Metrics) -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let events = Self {
            sender: Some(sender),
            ..Self::disconnected(metrics)
        };
        (events, receiver)
    }

    pub(crate) fn send(&self, event: Event) {
        let Some(sender) = &self.sender else { return };
        let mut last_sent = self.last_sent.lock();
        if last_sent.as_ref() == Some(&event) {
            return;
        }
        if sender.try_send(event.clone()).is_err() {
            self.metrics.events_dropped.inc();
        }
        // Also after a full queue: a fault that repeats for each response is dropped once only.
        *last_sent = Some(event);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::{Event, EventSender, Metrics, WAITING_MAX};

    /// Repeated events are sent once; those beyond the queue's bound are counted.
    #[test]
    fn events_are_bounded() {
        let metrics = Metrics::register(&mut Registry::default());
        let (events, mut receiver) = EventSender::channel(&metrics);
        let event = |nth: usize| Event::NoModule {
            reason: nth.to_string(),
        };
        for nth in 0..WAITING_MAX + 3 {
            events.send(event(nth));
            events.send(event(nth));
        }
        assert_eq!(metrics.events_dropped.get(), 3);
        assert_eq!(receiver.try_recv(), Ok(event(0)));
        assert_eq!(receiver.try_recv(), Ok(event(1)));
    }
}
