//! Logging to standard error, as text or JSON.

use crate::args::LogFormat;

#[derive(Clone, Debug)]
pub struct Telemetry {
    pub format: LogFormat,
    /// A valid filter directive.
    pub filter: String,
}

/// Starts logging. Later calls have no effect.
pub fn init(telemetry: &Telemetry) {
    let format = match telemetry.format {
        LogFormat::Text => common_log::Format::Text,
        LogFormat::Json => common_log::Format::Json,
    };
    common_log::init(format, &telemetry.filter);
}
