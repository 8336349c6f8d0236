//! What was written in sequence, in blocks of about a kibibyte that are dropped as a whole. Each
//! block can be read by itself; a closed one is shared with queries, which so hold no lock.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits::BLOCK_BYTES;

/// Capacity that an open block keeps when it is closed.
const OPEN_BYTES_MAX: usize = 4 * BLOCK_BYTES;

/// Bytes that the allocator and the counts of an `Arc` add to a closed block.
const CLOSED_OVERHEAD: usize = 32;

/// Closed blocks, oldest first, and an open one behind them.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    closed: VecDeque<Block>,
    open: Open,
    closed_bytes: usize,
}

/// Some entries in sequence.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) span: Span,
    pub(crate) bytes: Arc<[u8]>,
}

/// Numbers and times of the entries in a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span {
    /// Numbers of the first and the last entry.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) entries: u32,
    /// Times in Unix milliseconds. The first entry need not be the oldest: a clock may be set back.
    pub(crate) oldest: u64,
    pub(crate) newest: u64,
}

#[derive(Debug, Default)]
struct Open {
    /// `None` while it is empty.
    span: Option<Span>,
    bytes: Vec<u8>,
}

// === impl Blocks ===

impl Blocks {
    /// True if the next entry is the first of its block.
    pub(crate) fn is_fresh(&self) -> bool {
        self.open.span.is_none()
    }

    /// Appends entry `number` of time `at`, which `write` writes. Numbers ascend. Closes the block
    /// when it is full.
    pub(crate) fn push(&mut self, number: u64, at: u64, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.open.bytes);
        let span = self.open.span.get_or_insert(Span {
            first: number,
            last: number,
            entries: 0,
            oldest: at,
            newest: at,
        });
        span.last = number;
        span.entries += 1;
        span.oldest = span.oldest.min(at);
        span.newest = span.newest.max(at);
        if self.open.bytes.len() >= BLOCK_BYTES {
            self.close();
        }
    }

    fn close(&mut self) {
        let Some(span) = self.open.span.take() else {
            return;
        };
        let bytes = Arc::from(&self.open.bytes[..]);
        if self.open.bytes.capacity() > OPEN_BYTES_MAX {
            self.open.bytes = Vec::new();
        }
        self.open.bytes.clear();
        let block = Block { span, bytes };
        self.closed_bytes += block.heap();
        self.closed.push_back(block);
    }

    /// The oldest closed block.
    pub(crate) fn front(&self) -> Option<&Block> {
        self.closed.front()
    }

    /// Span of the oldest block, closed or open.
    pub(crate) fn oldest_span(&self) -> Option<Span> {
        self.closed
            .front()
            .map(|block| block.span)
            .or(self.open.span)
    }

    /// Removes the oldest closed block.
    pub(crate) fn pop(&mut self) -> Option<Block> {
        let block = self.closed.pop_front()?;
        self.closed_bytes -= block.heap();
        if self.closed.capacity() > 16 && self.closed.len() < self.closed.capacity() / 4 {
            self.closed.shrink_to(self.closed.len() * 2);
        }
        Some(block)
    }

    /// Drops the oldest block, closed or open; returns its span.
    pub(crate) fn drop_oldest(&mut self) -> Option<Span> {
        if let Some(block) = self.pop() {
            return Some(block.span);
        }
        self.open.bytes = Vec::new();
        self.open.span.take()
    }

    /// The blocks with entries at or after `from` and before or at `to`, oldest first.
    pub(crate) fn between(&self, from: u64, to: u64) -> Vec<Block> {
        let is_within = |span: &Span| span.newest >= from && span.oldest <= to;
        let closed = self.closed.iter().filter(|block| is_within(&block.span));
        let open = self.open.span.filter(is_within).map(|span| Block {
            span,
            bytes: Arc::from(&self.open.bytes[..]),
        });
        closed.cloned().chain(open).collect()
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> usize {
        self.closed_bytes + self.closed.capacity() * size_of::<Block>() + self.open.bytes.capacity()
    }
}

// === impl Block ===

impl Block {
    fn heap(&self) -> usize {
        self.bytes.len() + CLOSED_OVERHEAD
    }
}
