//! The way from a request to the disk: a bounded queue, emptied once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aggregator_ledger::Journal;
use common_time::Clock;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::counts::{Counts, LossReason};
use crate::disk::Disk;
use crate::limits::{BATCH_BYTES_MAX, QUEUE_BYTES_MAX, QUEUE_MAX};

/// How long a read may wait: so much is lost when the process is killed.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Takes what the ledger writes. Never waits: what has no room is lost for the disk.
#[derive(Debug)]
pub struct Sender {
    queue: mpsc::Sender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
    counts: Arc<Counts>,
}

/// Writes to the disk.
#[derive(Debug)]
pub struct Writer {
    disk: Disk,
    queue: mpsc::Receiver<Vec<u8>>,
    /// Bytes in the queue.
    bytes: Arc<AtomicUsize>,
    clock: Clock,
}

// === impl Sender ===

impl Journal for Sender {
    fn write(&self, entry: Vec<u8>) {
        let len = entry.len();
        let waiting = self.bytes.fetch_add(len, Ordering::Relaxed);
        if waiting + len > QUEUE_BYTES_MAX || self.queue.try_send(entry).is_err() {
            self.bytes.fetch_sub(len, Ordering::Relaxed);
            self.counts.lose(LossReason::Queue, 1);
        }
    }
}

// === impl Writer ===

impl Writer {
    /// Both ends of the queue to `disk`.
    pub fn new(disk: Disk, clock: Clock) -> (Sender, Self) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        let sender = Sender {
            queue: sender,
            bytes: Arc::clone(&bytes),
            counts: disk.counts(),
        };
        let writer = Self {
            disk,
            queue,
            bytes,
            clock,
        };
        (sender, writer)
    }

    /// Writes once a second until `stop`, and what waits then.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(FLUSH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fails = false;
        loop {
            let ends = tokio::select! {
                () = stop.cancelled() => true,
                _ = ticks.tick() => false,
            };
            let flushed = tokio::task::spawn_blocking(move || {
                let result = self.flush();
                (self, result)
            });
            let Ok((writer, result)) = flushed.await else {
                return;
            };
            self = writer;
            match &result {
                Err(error) if !fails => tracing::warn!(
                    %error,
                    "ledger: cannot write reads to disk; those of the meantime are lost at a restart"
                ),
                Ok(()) if fails => tracing::info!("ledger: reads are written to disk again"),
                _ => {}
            }
            fails = result.is_err();
            if ends {
                return;
            }
        }
    }

    /// Writes all that waits, in batches.
    fn flush(&mut self) -> std::io::Result<()> {
        let mut result = Ok(());
        loop {
            let batch = self.next_batch();
            if batch.is_empty() {
                return result;
            }
            if let Err(error) = self.disk.append(self.clock.wall(), &batch) {
                result = Err(error);
            }
        }
    }

    fn next_batch(&mut self) -> Vec<Vec<u8>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES_MAX
            && let Ok(entry) = self.queue.try_recv()
        {
            bytes += entry.len();
            batch.push(entry);
        }
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        batch
    }
}
