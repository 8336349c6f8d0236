//! What somebody should hear of, as events of the pod: bounded, and never waited for.

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::metrics::Metrics;

/// Events that wait at most; more are counted and left out.
const WAITING_MAX: usize = 16;

/// Something that went wrong without harm to traffic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Envoy rejected what was put in, and has the original.
    Rejected { type_url: String, reason: String },
    /// Nothing is put in, since a file is not there or is another than it should be.
    NoModule {
        /// Which, and what is wrong with it.
        reason: String,
    },
    /// A response is larger than may be changed within the memory limit, and passes as it is.
    TooLarge {
        type_url: String,
        bytes: usize,
        /// How large it may be.
        most: usize,
    },
}

#[derive(Debug)]
pub struct EventSender {
    sender: Option<mpsc::Sender<Event>>,
    /// The last one: the same one after the other says nothing new.
    last: Mutex<Option<Event>>,
    metrics: Metrics,
}

// === impl EventSender ===

impl EventSender {
    pub fn nowhere(metrics: &Metrics) -> Self {
        Self {
            sender: None,
            last: Mutex::default(),
            metrics: metrics.clone(),
        }
    }

    /// To who takes them out.
    pub fn channel(metrics: &Metrics) -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let events = Self {
            sender: Some(sender),
            ..Self::nowhere(metrics)
        };
        (events, receiver)
    }

    pub(crate) fn tell(&self, event: Event) {
        let Some(sender) = &self.sender else { return };
        let mut last = self.last.lock();
        if last.as_ref() == Some(&event) {
            return;
        }
        if sender.try_send(event.clone()).is_err() {
            self.metrics.events_refused.inc();
        }
        *last = Some(event);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::{Event, EventSender, Metrics, WAITING_MAX};

    /// The same is told once, and what nobody takes is counted.
    #[test]
    fn events_are_bounded() {
        let metrics = Metrics::register(&mut Registry::default());
        let (events, mut receiver) = EventSender::channel(&metrics);
        let event = |nth: usize| Event::NoModule {
            reason: nth.to_string(),
        };
        for nth in 0..WAITING_MAX + 3 {
            events.tell(event(nth));
            events.tell(event(nth));
        }
        assert_eq!(metrics.events_refused.get(), 3);
        assert_eq!(receiver.try_recv(), Ok(event(0)));
        assert_eq!(receiver.try_recv(), Ok(event(1)));
    }
}
