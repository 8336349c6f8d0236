//! Benchmarks that compare in one run, on real parts. `bench --help` lists them.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool: results on stdout, progress on stderr"
)]

use anyhow::Result;
use clap::{Parser, Subcommand};

mod api;
mod cpus;
mod filter;
mod ingest;
mod interval;
mod load;
mod mesh;
mod optimised;
mod remote_write;
mod usage;

#[derive(Debug, Parser)]
#[command(name = "bench", about, version)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The bare server of `ingest`.
    #[command(hide = true)]
    Echo(ingest::EchoArgs),
    /// The sidecars of `ingest`.
    #[command(hide = true)]
    Send(ingest::SendArgs),
    /// What an answer of the custom metrics API takes among 50,000 pods while their reports are
    /// applied.
    Api(api::Args),
    /// What taking in reports costs the aggregator: CPU and memory, beside a bare tonic server.
    Ingest(ingest::Args),
    /// What an xDS proxy costs: memory, CPU while nothing happens, and latency of a configuration
    /// of 1,000 clusters.
    Mesh(mesh::Args),
    /// What remote write costs: CPU of a sample beside bare prost and Snappy, memory, the queue,
    /// and the way into a real Prometheus.
    RemoteWrite(remote_write::Args),
    /// What the filter costs inside Envoy: CPU per request and memory, beside no Wasm and a Lua
    /// filter.
    Filter(filter::Args),
}

// Everything runs on one thread, so that pinning it pins the whole load, and so that children,
// which end with the thread that started them, live as long as this program.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Args::parse().what {
        What::Api(args) => api::run(&args),
        What::Ingest(args) => ingest::run(&args).await,
        What::Echo(args) => ingest::echo(&args),
        What::Send(args) => ingest::send(&args).await,
        What::Mesh(args) => mesh::run(&args).await,
        What::RemoteWrite(args) => remote_write::run(&args).await,
        What::Filter(args) => filter::run(&args).await,
    }
}
