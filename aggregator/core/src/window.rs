//! Chooses the window that fits the traffic.
//!
//! A rate from `n` independent requests is about `1/√n` uncertain, so the window is the shortest
//! that holds [`MIN_EVENTS`] requests of the queried set. Alone that would be slow where traffic is
//! thin and steps: ten requests per second need 60 s. So no window reaches back over the newest
//! step that cannot be chance ([`Profile`]), and after a step windows grow back one size at a time,
//! as the step moves into the past. The rule is the same upwards and downwards, so a service that
//! stops reads 0 soon.
//!
//! A step deviates by more than [`STEP_SIGMAS`], with at least [`MIN_STEP_EVENTS`] requests seen or
//! expected after it. Every read compares some hundred pairs of intervals, so the threshold is far
//! above that of one comparison: under steady load, fewer than one value in a hundred is from a
//! shorter window than fits. `MIN_STEP_EVENTS` keeps a single burst on an idle service (one page
//! load) from being read as a rate.

/// Requests that make a rate good to 5 %, half of the tolerance of the HPA.
pub(crate) const MIN_EVENTS: f64 = 400.0;

/// Standard deviations beyond which a difference is a step.
pub(crate) const STEP_SIGMAS: f64 = 4.5;

/// Fewer requests than this, both seen and expected, prove no step.
pub(crate) const MIN_STEP_EVENTS: f64 = 20.0;

mod profile;
#[cfg(test)]
mod tests;

use crate::query::WINDOWS;

pub(crate) use profile::{AGES, Counts, Profile};

/// The index of the window in [`WINDOWS`] to serve. `requests` are those of the whole queried set
/// in each window.
pub(crate) fn choose(requests: &[f64; WINDOWS.len()], profile: Profile) -> usize {
    let enough = requests.iter().position(|requests| *requests >= MIN_EVENTS);
    let needed = enough.unwrap_or(WINDOWS.len() - 1);
    if needed == 0 {
        return 0;
    }
    profile.newest_step().map_or(needed, |step| {
        let fits = WINDOWS.iter().filter(|w| w.as_secs() <= step.into());
        fits.count().saturating_sub(1).min(needed)
    })
}
