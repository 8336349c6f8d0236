//! What the filter's place is called on the command line.

use clap::ValueEnum;

/// Where requests are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Role {
    /// In an HTTP filter, from their beginning.
    Filter,
    /// In an access logger, when they have ended.
    AccessLog,
}

/// Which listeners.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Direction {
    /// Towards the application.
    Inbound,
    /// From the application.
    Outbound,
    /// Both.
    Both,
}
