//! Divides the memory of the aggregator among its parts, and derives their limits.

use aggregator_core::limits::{PODS_MAX, StoreLimits};
use aggregator_ingest::limits::{
    AT_ONCE, AWAITING_HELLO_MAX, CONNECTIONS_MAX, GROWTH_MAX, MESSAGE_BYTES_MAX, STREAMS_MAX,
    WAITING_MAX,
};
use aggregator_ledger::limits::bytes_for;
use anyhow::{Context as _, Result};
use common_budget::{Limit, Part, Size, division};

/// Memory of a connected sidecar: 39 KiB with its connection and 2 KB for each of a dozen active
/// counters, or 48 KiB with TLS and eight of them (`scripts/bench ingest`).
const SIDECAR: Size = Size::kib(64);

/// Memory of an idle connection: buffers, and those of TLS.
const CONNECTION: Size = Size::kib(48);

/// What a stream takes that has not said hello, with what it may send before its messages need
/// room.
const AWAITING_HELLO: Size = Size::kib(16);

/// Reads on their way to disk, as bytes, and what writes them.
const READS_WRITER: Size = Size::mib(4);

/// The parts, with a ledger of reads for `autoscalers`.
const fn parts(autoscalers: usize) -> [Part; 7] {
    let ledger = Size::bytes(bytes_for(autoscalers) as u64 + READS_WRITER.get());
    [
        // The program, the directory, responses of the API, fragmentation of the allocator.
        part("base", 48, 2, 512),
        Part {
            name: "ledger",
            least: ledger,
            weight: 0,
            most: ledger,
        },
        // Batches of remote write in memory, while the disk fails or without one.
        part("queue", 4, 2, 64),
        // Large frames of sidecars, as bytes and decoded.
        part("frames", 4, 1, 64),
        // Messages of Envoys' metrics services, as bytes and one of them decoded.
        part("messages", 24, 3, 96),
        // Connections beyond one for each sidecar.
        part("connections", 8, 2, 1024),
        part("sidecars", 16, 9, 64 * 1024),
    ]
}

/// The limits of the parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) store: StoreLimits,
    pub(crate) ingest: aggregator_ingest::Limits,
    /// Bytes of the ledger of reads.
    pub(crate) ledger: usize,
    /// Bytes of the queue of remote write in memory.
    pub(crate) queue: Size,
}

const fn part(name: &'static str, least_mib: u64, weight: u64, most_mib: u64) -> Part {
    Part {
        name,
        least: Size::mib(least_mib),
        weight,
        most: Size::mib(most_mib),
    }
}

// === impl Budget ===

impl Budget {
    /// Derives the budget from `limit` and logs it. The ledger has room for `autoscalers`.
    pub(crate) fn begin(limit: &Limit, autoscalers: usize) -> Result<Self> {
        let (budget, parts) = Self::under(limit.size, autoscalers).with_context(|| {
            let ledger = Size::bytes(bytes_for(autoscalers) as u64);
            format!("the memory budget, {ledger} of it for --reads-autoscalers {autoscalers}")
        })?;
        tracing::info!(
            limit = %limit.size,
            limit.source = %limit.source,
            parts,
            pods.max = budget.store.pods,
            connections.max = budget.ingest.connections,
            "memory budget"
        );
        Ok(budget)
    }

    fn under(limit: Size, autoscalers: usize) -> Result<(Self, String), common_budget::TooSmall> {
        let parts = parts(autoscalers);
        let sizes = common_budget::divide(limit, &parts)?;
        let [_, _, queue, frames, messages, connections, sidecars] = sizes;
        let pods = sidecars.count_of(SIDECAR).min(PODS_MAX);
        let connections_max = (pods + connections.count_of(CONNECTION)).min(CONNECTIONS_MAX);
        // One message at a time is decoded; four others may be received as bytes.
        let message = messages.part(1, GROWTH_MAX + 4);
        // Half of them begin, the others wait until they may.
        let silent = connections.part(1, 4).count_of(AWAITING_HELLO);
        let waiting = (silent / 2).min(WAITING_MAX);
        let awaiting_hello = (silent - waiting).min(AWAITING_HELLO_MAX);
        let ingest = aggregator_ingest::Limits {
            streams: connections_max.min(STREAMS_MAX),
            connections: connections_max,
            awaiting_hello,
            waiting,
            at_once: AT_ONCE.min(awaiting_hello / 2),
            message_bytes: message.to_usize().min(MESSAGE_BYTES_MAX),
            frames_room: frames.part(1, 2),
            messages_room: messages.part(4, GROWTH_MAX + 4),
            ..aggregator_ingest::Limits::default()
        };
        let store = StoreLimits {
            pods,
            ..StoreLimits::default()
        };
        let budget = Self {
            store,
            ingest,
            ledger: bytes_for(autoscalers),
            queue,
        };
        Ok((budget, division::line(&parts, &sizes)))
    }
}

#[cfg(test)]
mod tests {
    use aggregator_ledger::limits::AUTOSCALERS;

    use super::*;

    /// At the shipped limits as many sidecars fit as the documentation says, with messages as large
    /// as Envoy's may be.
    #[test]
    fn shipped_limits_hold_what_is_promised() {
        for (limit, pods) in [
            (512, 3_000),
            (1024, 5_000),
            (2048, 15_000),
            (6 << 10, 50_000),
            (12 << 10, 100_000),
            (16 << 10, PODS_MAX),
            (1 << 20, PODS_MAX),
        ] {
            let (budget, parts) = Budget::under(Size::mib(limit), AUTOSCALERS).unwrap();
            assert!(budget.store.pods >= pods, "{limit} Mi: {parts}: {budget:?}");
            assert!(budget.ingest.connections > budget.store.pods);
            assert_eq!(
                budget.ingest.message_bytes, MESSAGE_BYTES_MAX,
                "{limit} Mi: {parts}"
            );
            assert!(budget.ingest.frames_room >= Size::mib(4));
        }
        let refused = Budget::under(Size::mib(100), AUTOSCALERS).unwrap_err();
        // The ledger's part is no whole number of MiB.
        let needed = refused.needed.get().div_ceil(Size::mib(1).get());
        assert_eq!(needed, 124);
    }

    /// What the limits allow together is never more than there is.
    #[test]
    fn limits_fit_together() {
        let default = (124..2048).chain((2048..65_536).step_by(97));
        let more = (268..2048).step_by(13).map(|mib| (mib, 1000));
        for (mib, autoscalers) in default.map(|mib| (mib, AUTOSCALERS)).chain(more) {
            let limit = Size::mib(mib);
            let (budget, _) = Budget::under(limit, autoscalers).unwrap();
            let Budget {
                store,
                ingest,
                ledger,
                queue,
            } = budget;
            let spare = ingest.connections.saturating_sub(store.pods) as u64;
            let together = Size::mib(48).get()
                + ledger as u64
                + READS_WRITER.get()
                + queue.get()
                + 2 * ingest.frames_room.get()
                + ingest.messages_room.get()
                + GROWTH_MAX * ingest.message_bytes as u64
                + spare * CONNECTION.get()
                + store.pods as u64 * SIDECAR.get();
            assert!(together <= limit.get(), "{limit}: {budget:?}");
            assert!(ingest.awaiting_hello >= 64 && ingest.waiting >= 64);
            // Those that wait have not said hello either, and are in the part of the connections.
            let silent = (ingest.awaiting_hello + ingest.waiting) as u64;
            assert!(silent * AWAITING_HELLO.get() <= (spare + 1) * CONNECTION.get());
            // Who lost a place in the line still has one among those that have not said hello.
            assert!(ingest.at_once >= 32 && 2 * ingest.at_once <= ingest.awaiting_hello);
        }
    }
}
