//! Log lines: to standard error, as text or JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// How to log.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Text or JSON.
    pub format: LogFormat,
    /// What is logged at all; checked.
    pub filter: String,
}

/// Starts logging. Later calls have no effect.
pub fn init(telemetry: &Telemetry) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&telemetry.filter))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Fails only if something else logs already, as in tests.
    let _ = match telemetry.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
