//! What the Envoy filter counts and streams, without proxy-wasm: everything here runs natively.
//!
//! Data flows in by the callbacks of [`vm::Vm`]: `config` says what to count, `counter` and
//! `open_requests` count it. It flows out through two modules: `process` adds it to totals that all
//! VMs of the Envoy process share, and `streamer` reports the totals to every aggregator (`view` →
//! `report` → `stream`). By `registry`, `member` and `catalog` VMs share which of them are alive,
//! which one streams, and which series exist. All calls to the proxy go through [`host::Host`].
//!
//! A trap takes the whole VM and may take a request with it, so nothing in this crate panics.
#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod blob;
pub mod catalog;
pub mod config;
pub mod counter;
pub mod grpc_service;
pub mod host;
pub mod identity;
mod json;
pub mod member;
pub mod open_requests;
pub mod process;
pub mod registry;
pub mod report;
pub mod root;
pub mod series;
pub mod stream;
pub mod streamer;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod view;
pub mod vm;
