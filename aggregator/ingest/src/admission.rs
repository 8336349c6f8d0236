//! Admission: how many streams begin at once. A stream that has no place in the [`Line`] waits for
//! one, or is sent away with a time to come back.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use common_time::Clock;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::admission::line::{Answer, Line, LineLimits, Ticket};
use crate::close_reason::Refusal;
use crate::metrics::Metrics;

pub mod line;

/// A stream that waits looks again after this time, since nothing tells it that a stream inside has
/// been silent for too long.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Admission {
    /// Locked for one look at the line.
    line: Mutex<Line>,
    /// Notified when a place is free.
    freed: Notify,
}

/// A stream's place in the line, freed when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    ticket: Ticket,
    metrics: Metrics,
    waits: bool,
}

// === impl Admission ===

impl Admission {
    pub(crate) fn new(limits: LineLimits) -> Self {
        Self {
            line: Mutex::new(Line::new(limits)),
            freed: Notify::new(),
        }
    }

    /// Waits for a place. With an `address`, it counts against the part of that address.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Result<Place, Refusal> {
        let answer = self
            .line
            .lock()
            .arrive(clock.now(), address, rand::random());
        let ticket = match answer {
            Answer::Enter(ticket) | Answer::Wait(ticket) => ticket,
            Answer::ComeBack(after) => return Err(Refusal::Busy { after }),
        };
        let mut place = Place {
            admission: Arc::clone(self),
            ticket,
            metrics: metrics.clone(),
            waits: matches!(answer, Answer::Wait(_)),
        };
        if !place.waits {
            return Ok(place);
        }
        metrics.waiting.inc();
        loop {
            // An error: nothing was freed.
            let _ = timeout(LOOK_AGAIN, self.freed.notified()).await;
            let answer = self.line.lock().ask(clock.now(), ticket, rand::random());
            match answer {
                Answer::Enter(_) => {
                    place.waits = false;
                    metrics.waiting.dec();
                    return Ok(place);
                }
                Answer::Wait(_) => {}
                Answer::ComeBack(after) => return Err(Refusal::Busy { after }),
            }
        }
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        if self.waits {
            self.metrics.waiting.dec();
        }
        let mut line = self.admission.line.lock();
        line.leave(self.ticket);
        if line.waiting() > 0 {
            self.admission.freed.notify_one();
        }
    }
}
