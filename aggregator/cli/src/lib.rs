//! The operator's commands, also as the kubectl plugin `kubectl-meshmeter`. They talk to
//! kube-apiserver only, with the user's own kubeconfig.
//!
//! ```text
//! args ── Connection (kube) ──> documents of view.meshmeter.io ── top, explain, timeline ──> lines
//!                           ├─> the page ── ui ──> browser
//!                           └─> objects and reviews of Kubernetes ── check ──> report ──> lines
//! ```
//!
//! What turns a document into lines is pure: neither clock nor terminal. Text of peers is escaped
//! where it becomes a cell or a line.

pub mod args;
pub mod check;
pub mod clock;
pub mod connection;
pub mod explain;
pub mod timeline;
pub mod top;

mod at;
mod numbers;
mod output;
mod program;
mod simulate;
mod sparkline;
mod table;
#[cfg(test)]
mod testing;
mod text;
mod ui;

use std::process::ExitCode;

pub use args::Operator;
pub use connection::{Connection, ConnectionError};
use output::report;
pub use program::Program;

/// Does what the operator asks.
pub async fn run(command: Operator, program: Program, whole: clap::Command) -> ExitCode {
    match command {
        Operator::Top(args) => output::ended(top::run(&args, program).await),
        Operator::Explain(args) => output::ended(explain::run(&args, program).await),
        Operator::Timeline(args) => output::ended(timeline::run(&args, program).await),
        Operator::Check(args) => output::ended(check::run(&args, program).await),
        Operator::Simulate(args) => output::ended(simulate::run(&args)),
        Operator::Ui(args) => output::ended(ui::run(&args, program).await),
        Operator::Completion(args) => program::completion(args.shell, whole),
    }
}
