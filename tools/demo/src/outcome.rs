//! How a run ended.

use std::process::ExitCode;

/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// Everything was counted exactly once.
    Exact,
    Inexact,
    /// Ctrl-C or SIGTERM came first.
    Interrupted,
}

// === impl Outcome ===

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Exact => Self::SUCCESS,
            Outcome::Inexact => Self::FAILURE,
            Outcome::Interrupted => Self::from(INTERRUPTED),
        }
    }
}
