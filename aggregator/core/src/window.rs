//! Which window fits the traffic.
//!
//! A rate from `n` independent requests is about `1/√n` uncertain, so the window is the shortest that holds
//! [`ENOUGH`] requests of the queried set. That alone would be slow where traffic is thin and steps up: ten
//! requests per second need 60 s. So a shorter window is taken at once if its rate cannot be chance: given the
//! requests of the longer window, those that fall into the shorter one are binomial with the share of the time
//! it covers, and the difference is measured in standard deviations after the arcsine transform, which makes
//! them hold for small numbers too. Beyond [`DEVIATIONS`], and with at least [`HANDFUL`] requests seen or due in
//! it, the window that differs most is taken: around a step that is the one that begins nearest to the step.
//! The rule is the same upwards and downwards; a service that stops is seen to stop.
//!
//! A window that was chosen so grows back one size at a time: once a step was seen, a later window does not begin before
//! the one that showed it ([`Memory`]), or the next value would be half of the time before the step again.
//!
//! Four deviations come by chance once in some 16,000 looks at a window. A handful keeps a single burst on an
//! idle service (one page load) from being read as a rate.

/// Requests that make a rate good to 5 %, half of the tolerance of the HPA.
pub const ENOUGH: f64 = 400.0;

/// Standard deviations beyond which a shorter window tells something new.
pub const DEVIATIONS: f64 = 4.0;

/// Fewer requests than this, both seen and due, prove nothing.
pub const HANDFUL: f64 = 20.0;

mod memory;
#[cfg(test)]
mod tests;

pub use memory::{Memory, SETS_MAX};

/// What one window holds for a whole queried set of pods.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Candidate {
    /// Requests in the window, of all pods together.
    pub requests: f64,
    /// Time the window really covers, summed over the pods, in seconds.
    pub seconds: f64,
}

/// A window that was chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Choice {
    /// Its index.
    pub index: usize,
    /// True if it is shorter than the traffic alone asks for, since a step was seen.
    pub is_short: bool,
}

/// The window to serve, of `candidates` in ascending order of length. `longest` is the index of the longest that does
/// not reach back over a step that was seen before.
pub fn choose(candidates: &[Candidate], longest: Option<usize>) -> Choice {
    let last = candidates.len().saturating_sub(1);
    let needed = candidates
        .iter()
        .position(|window| window.requests >= ENOUGH)
        .unwrap_or(last);
    let allowed = longest.map_or(needed, |longest| longest.min(needed));
    let mut chosen = (allowed, DEVIATIONS);
    if let Some(long) = candidates.get(needed) {
        // Else a window that shows the step less would push aside the one that has grown back.
        chosen.1 = DEVIATIONS.max(deviations(candidates[allowed], *long));
        for (index, short) in candidates.iter().enumerate().take(allowed) {
            let deviations = deviations(*short, *long);
            if deviations > chosen.1 {
                chosen = (index, deviations);
            }
        }
    }
    Choice {
        index: chosen.0,
        is_short: chosen.0 < needed,
    }
}

/// By how many standard deviations the rate in `short` differs from that in `long`, of which it is the end;
/// 0 where there are too few requests to tell.
fn deviations(short: Candidate, long: Candidate) -> f64 {
    let share = short.seconds / long.seconds;
    let due = long.requests * share;
    if !(0.0..1.0).contains(&share) || short.requests.max(due) < HANDFUL {
        return 0.0;
    }
    let seen = (short.requests + 0.375) / (long.requests + 0.75);
    let angle = seen.clamp(0.0, 1.0).sqrt().asin() - share.sqrt().asin();
    (2.0 * (long.requests + 0.5).sqrt() * angle).abs()
}
