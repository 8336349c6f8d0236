//! Skipped tests, printed so that they are visible in the output.

use std::io::Write as _;

/// Says that something did not run, and why. It reaches the terminal from a test that passes, too,
/// whose output is captured otherwise; `scripts/test` shows it again at its end.
pub fn say(what: &str, why: &str) {
    // Nobody reads: nothing to do about that.
    let _ = writeln!(std::io::stdout(), "\nSKIPPED: {what}: {why}");
}
