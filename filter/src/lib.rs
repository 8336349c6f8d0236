//! The proxy-wasm module that runs in Envoy: maps the host's calls to [`filter_core`] and back.
//!
//! There is one source for two modules. The exports here have names of our own (`mm_…`); `cargo
//! xtask wasm` gives each module those that its role uses under their proxy-wasm names, and drops
//! the rest with all that only they needed. `docs/decisions/0002-filter-abi.md` says why.
//!
//! Built for other targets, this crate is empty.
#![deny(clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(target_arch = "wasm32")]
mod exports;
#[cfg(target_arch = "wasm32")]
mod host;
#[cfg(target_arch = "wasm32")]
mod imports;
#[cfg(target_arch = "wasm32")]
mod memory;
