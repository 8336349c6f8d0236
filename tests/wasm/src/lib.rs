//! A small proxy-wasm host (ABI 0.2.1) on wasmtime that does to a module what Envoy does, in
//! virtual time. It is for what neither `filter-core` alone nor a real Envoy shows: the calls that
//! cross the border of a VM, and faults of host and VM at any moment.
//!
//! [`envoy::Envoy`] is the process: it makes the base VM, the canary and one VM per thread, passes
//! requests and ticks to them, and ends them in Envoy's order. [`aggregator::Aggregator`] is the
//! other end of the modules' gRPC streams and adds up what they report. Whatever breaks a rule of
//! the ABI or of the wire contract is noted, and fails the test when the process goes out of scope.
//!
//! Not emulated: the callback for initial metadata, the only one that Envoy runs inside another;
//! our modules do not export it, and a test says so. Threads are not parallel; what another thread
//! could do between two calls is emulated for shared data by [`envoy::Setup::contention_percent`].

pub mod aggregator;
pub mod clock;
pub mod cost;
pub mod deployment;
pub mod envoy;
pub mod metrics;
pub mod module;
pub mod plugin;
pub mod process;
pub mod request;
pub mod stream;
pub mod totals;

mod abi;
mod connection;
mod grpc_service;
mod network;
mod shared_data;
mod state;
mod status;
mod vm;
