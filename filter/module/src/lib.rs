//! The filter as a dynamic module of Envoy (`libmeshmeter_filter.so`): the same logic, wire and
//! configuration as the Wasm module, in Envoy's own process.
//!
//! Requests are counted by `worker`, in a table of each worker thread. Ten times a second `ticker`
//! wakes Envoy's main thread, where `process` adds the tables up in the one VM of `filter-core`,
//! which reports them. `host` gives that VM what Envoy gives a Wasm VM: metrics and shared data,
//! here in memory, and gRPC streams, here made of HTTP streams by `grpc`. All that touches Envoy's
//! memory is in `abi`, the only module with unsafe code.
//!
//! A fault here is Envoy's fault: there is no sandbox. So nothing panics on purpose, and what
//! panics all the same is caught at the border and counts nothing.
#![deny(clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod abi;
mod clock;
mod grpc;
mod host;
mod plugin;
mod process;
mod ticker;
mod worker;
