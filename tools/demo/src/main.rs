//! The demo: the walkthrough's application *djapp* on real Envoys, metered live, and an exact
//! summary.
//!
//! ```text
//! args -> app: fleet (pods) + load -> watch (API, /debug/pods) -> screen
//!                                  -> summary (text or JSON)
//! ```

use std::process::ExitCode;

use clap::Parser;

mod app;
mod args;
mod cluster;
mod fleet;
mod hpa;
mod mesh;
mod outcome;
mod screen;
mod signal_age;
mod summary;
mod table;
mod watch;

#[tokio::main]
async fn main() -> ExitCode {
    let args = args::Args::parse();
    match app::run(&args).await {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            screen::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
