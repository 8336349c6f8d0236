//! The application of `scripts/cluster`, one static program for three jobs:
//!
//! ```text
//! djapp serve      in pods of dj, jazz and metal: answers, counts, asks others at a given rate
//! djapp redirect   in their init container: as App Mesh's proxy route manager, by iptables
//! djapp hands      on each node, in its pid namespace: kills containers, stops processes
//! ```
#![expect(
    clippy::print_stdout,
    reason = "the last line of its log is what the test reads"
)]

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::Result;
use clap::{Parser, Subcommand};

mod app;
mod hands;
mod load;
mod query;
mod redirect;
mod server;

#[derive(Debug, Parser)]
#[command(name = "djapp", version, about)]
struct Args {
    #[command(subcommand)]
    job: Job,
}

#[derive(Debug, Subcommand)]
enum Job {
    /// Answer every path with 200, count, and send load to others if told to.
    Serve {
        /// Port of the application, behind the sidecar.
        #[arg(long, default_value_t = 9080)]
        port: u16,
        /// Port for the test, which the sidecar leaves alone.
        #[arg(long, default_value_t = 9081)]
        control_port: u16,
    },
    /// Redirect the pod's traffic into its sidecar, as the variables `APPMESH_…` say.
    Redirect,
    /// Kill and stop processes of the node; needs its pid namespace.
    Hands {
        #[arg(long, default_value_t = 9082)]
        port: u16,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Args::parse().job {
        Job::Serve { port, control_port } => app::run(any(port), any(control_port)).await,
        Job::Redirect => redirect::run(),
        Job::Hands { port } => hands::run(any(port)).await,
    }
}

fn any(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}
