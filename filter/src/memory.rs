//! The module's allocator: blocks of powers of two, with a free list for each size.
//!
//! libc's would be 11 KB in each module. Allocations are few, happen at ticks only, and repeat the
//! same few sizes; so freed blocks are kept for the next allocation of their size, and memory is
//! bounded by the peak use of each size.
#![expect(
    unsafe_code,
    reason = "an allocator hands out memory that nothing else tracks"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr;

/// Smallest block, in bytes: it has to hold the address of the next free one, and small allocations
/// often have 16 bytes.
const BLOCK_MIN: usize = 16;
/// Sizes of blocks: 16 bytes to 2 GiB.
const SIZES: usize = 28;
/// Bytes of a page of linear memory.
const PAGE: usize = 64 * 1024;

/// An allocator for a module with one thread.
struct Blocks {
    /// For each size the first free block, which begins with the address of the next.
    free: [Cell<*mut u8>; SIZES],
    /// Start and end of memory that was never handed out.
    fresh: Cell<usize>,
    end: Cell<usize>,
}

// SAFETY: a module has one thread.
unsafe impl Sync for Blocks {}

#[global_allocator]
static BLOCKS: Blocks = Blocks {
    free: [const { Cell::new(ptr::null_mut()) }; SIZES],
    fresh: Cell::new(0),
    end: Cell::new(0),
};

// === impl Blocks ===

impl Blocks {
    /// List and size of a block for `layout`. Blocks are aligned to 16 bytes or, if the layout
    /// requires more, to their size.
    fn size(layout: Layout) -> (usize, usize) {
        let bytes = layout.size().max(layout.align()).max(BLOCK_MIN);
        let block = bytes.checked_next_power_of_two().unwrap_or(usize::MAX);
        let list = block
            .trailing_zeros()
            .saturating_sub(BLOCK_MIN.trailing_zeros());
        (list as usize, block)
    }

    /// A block of memory that was never used, or null.
    fn grow(&self, block: usize) -> *mut u8 {
        let align = if block > PAGE { PAGE } else { block };
        let start = self.fresh.get().wrapping_add(align - 1) & !(align - 1);
        if let Some(end) = start
            .checked_add(block)
            .filter(|end| *end <= self.end.get())
        {
            self.fresh.set(end);
            return ptr::with_exposed_provenance_mut(start);
        }
        let pages = block.div_ceil(PAGE);
        let before = std::arch::wasm32::memory_grow::<0>(pages);
        if before == usize::MAX {
            return ptr::null_mut();
        }
        let start = before * PAGE;
        if start != self.end.get() {
            // Not contiguous with our memory, or the first growth: the rest of the old range is too
            // small to matter.
            self.fresh.set(start);
        }
        self.end.set(start + pages * PAGE);
        self.grow(block)
    }
}

// SAFETY: blocks do not overlap: each comes from memory that was never handed out, or from the list
// of its size, where it is put by `dealloc` alone. Its size and alignment are at least those of its
// layout.
unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (list, block) = Self::size(layout);
        let Some(free) = self.free.get(list) else {
            return ptr::null_mut();
        };
        let first = free.get();
        if first.is_null() {
            return self.grow(block);
        }
        // SAFETY: a block in the list begins with the address of the next one, and is aligned to 16
        // bytes.
        free.set(unsafe { first.cast::<*mut u8>().read_unaligned() });
        first
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let (list, _) = Self::size(layout);
        if let Some(free) = self.free.get(list) {
            // SAFETY: the block is ours, has at least 16 bytes and is in use no longer.
            unsafe { block.cast::<*mut u8>().write_unaligned(free.get()) };
            free.set(block);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller vouches for size and alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if Self::size(wanted) == Self::size(layout) {
            return block;
        }
        // SAFETY: the layout is a valid one, and both blocks have at least as many bytes as are
        // copied.
        unsafe {
            let moved = self.alloc(wanted);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}
