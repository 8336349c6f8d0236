//! Requests of a queried set in the last two minutes, and their newest step.
//!
//! The history is cut at [`CUTS`]. A cut is a step where the requests after it and before it do not
//! come from one steady load. To find the newest of several steps, the stretch of time compared
//! grows backwards from now until a cut within it is a step; as a rule it then holds one step, and
//! older ones do not hide it. A pod counts only in stretches that its reports cover as a whole: a
//! pod that joins is no step.
//!
//! Stretches that ended up to [`SEEN_FOR`] ago count too, so a step stays found even where newer
//! requests hide it by chance. This needs no state between reads: every replica finds the same.
//!
//! Requests that come together (a page and its pictures) vary more than independent ones. How much
//! more is measured ([`Profile::clumping`]), and a step has to be so much clearer.

use crate::window::{MIN_STEP_EVENTS, STEP_SIGMAS};

/// Seconds of the history that are counted one by one.
const FINE: usize = 60;

/// Ages since which requests are counted, in seconds before the end of a pod's newest report: every
/// second of the longest window, then every ten seconds as far as histories go.
pub(crate) const AGES: [u32; FINE + 7] = {
    let mut ages = [0; FINE + 7];
    let mut index = 1;
    while index < ages.len() {
        ages[index] = ages[index - 1] + if index <= FINE { 1 } else { 10 };
        index += 1;
    }
    ages
};

/// Which of [`AGES`] may be a step: those up to 16 s, 2 s apart up to 30 s, 5 s up to 60 s, and all
/// beyond.
const CUTS: [usize; 36] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 26, 28, 30, 35, 40,
    45, 50, 55, 60, 61, 62, 63, 64, 65, 66,
];

/// How long a step stays found that the newest requests hide, in seconds.
const SEEN_FOR: u32 = 5;

/// The median of a squared normal deviate.
const MEDIAN_OF_SQUARE: f64 = 0.455;

/// Requests since each of [`AGES`].
pub(crate) type Counts = [f64; AGES.len()];

/// The history of the queried pods together.
#[derive(Debug)]
pub(crate) struct Profile {
    /// Pods by the oldest of [`CUTS`] that their reports cover.
    known: Vec<KnownPods>,
    /// Sum over all pods.
    all: Counts,
}

/// The history of the pods whose reports cover one of [`CUTS`].
#[derive(Clone, Copy, Debug)]
struct KnownPods {
    pods: f64,
    /// Since each of [`CUTS`].
    counts: [f64; CUTS.len()],
}

/// Requests in an interval, and its length times the pods.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    requests: f64,
    seconds: f64,
}

// === impl Profile ===

impl Default for Profile {
    fn default() -> Self {
        let none = KnownPods {
            pods: 0.0,
            counts: [0.0; CUTS.len()],
        };
        Self {
            known: vec![none; CUTS.len()],
            all: [0.0; AGES.len()],
        }
    }
}

impl Profile {
    /// Adds a pod whose reports cover `seconds`.
    pub(crate) fn add(&mut self, seconds: f64, counts: &Counts) {
        for (sum, count) in self.all.iter_mut().zip(counts) {
            *sum += count;
        }
        let reached = CUTS.iter().filter(|cut| seconds_ago(**cut) <= seconds);
        let Some(known) = self.known.get_mut(reached.count().saturating_sub(1)) else {
            return;
        };
        known.pods += 1.0;
        for (sum, cut) in known.counts.iter_mut().zip(CUTS) {
            *sum += counts[cut];
        }
    }

    /// The age of the cut after the newest step, in seconds: the step is older for certain. `None`
    /// without a step.
    pub(crate) fn newest_step(mut self) -> Option<u32> {
        self.count_longer_known();
        let threshold = STEP_SIGMAS * self.clumping().sqrt();
        let mut newest: Option<usize> = None;
        for end in (0..CUTS.len()).take_while(|end| AGES[CUTS[*end]] <= SEEN_FOR) {
            // Every step found from here on is older than `end`, and so than this one.
            if newest.is_some_and(|newest| newest <= end) {
                break;
            }
            let step = self.newest_step_until(end, threshold);
            newest = newest.into_iter().chain(step).min();
        }
        newest.map(|step| AGES[CUTS[step - 1]])
    }

    /// Counts each pod in all shorter stretches, too.
    fn count_longer_known(&mut self) {
        for cut in (1..self.known.len()).rev() {
            let longer = self.known[cut];
            let known = &mut self.known[cut - 1];
            known.pods += longer.pods;
            for (sum, count) in known.counts.iter_mut().zip(longer.counts) {
                *sum += count;
            }
        }
    }

    /// How many requests come together; 1 if they are independent. It is the variance of the
    /// requests in a second over their mean, estimated from neighbouring seconds; the median
    /// ignores the few with a step between them.
    fn clumping(&self) -> f64 {
        let mut squares = Vec::with_capacity(FINE);
        for since in self.all[..=FINE].windows(3) {
            let (newer, older) = (since[1] - since[0], since[2] - since[1]);
            if newer + older > 0.0 {
                squares.push((newer - older).powi(2) / (newer + older));
            }
        }
        if squares.is_empty() {
            return 1.0;
        }
        let middle = (squares.len() - 1) / 2;
        let (_, median, _) = squares.select_nth_unstable_by(middle, f64::total_cmp);
        (*median / MEDIAN_OF_SQUARE).max(1.0)
    }

    /// The newest step before the cut at `end`.
    fn newest_step_until(&self, end: usize, threshold: f64) -> Option<usize> {
        let stretches = self.known.iter().enumerate().skip(end + 2);
        stretches
            .filter(|(start, known)| known.counts[*start] - known.counts[end] >= MIN_STEP_EVENTS)
            .find_map(|(start, known)| known.clearest_step(start, end, threshold))
    }
}

// === impl KnownPods ===

impl KnownPods {
    /// The cut between those at `start` and `end` that is most clearly a step, if one is.
    fn clearest_step(&self, start: usize, end: usize, threshold: f64) -> Option<usize> {
        let mut clearest = (None, threshold);
        for cut in end + 1..start {
            let deviations = self.stretch(cut, end).deviations(self.stretch(start, cut));
            if deviations > clearest.1 {
                clearest = (Some(cut), deviations);
            }
        }
        clearest.0
    }

    fn stretch(&self, start: usize, end: usize) -> Stretch {
        Stretch {
            requests: (self.counts[start] - self.counts[end]).max(0.0),
            seconds: self.pods * (seconds_ago(CUTS[start]) - seconds_ago(CUTS[end])),
        }
    }
}

// === impl Stretch ===

impl Stretch {
    /// By how many standard deviations its rate differs from that of the stretch `before`; 0 if
    /// either has too few requests.
    fn deviations(self, before: Self) -> f64 {
        let all = (self.requests + before.requests) / (self.seconds + before.seconds);
        let tells = |stretch: Self| stretch.requests.max(all * stretch.seconds) >= MIN_STEP_EVENTS;
        if !tells(self) || !tells(before) {
            return 0.0;
        }
        // Anscombe's transform: the root of a Poisson count deviates by 1/2, whatever its mean.
        let root = |stretch: Self| ((stretch.requests + 0.375) / stretch.seconds).sqrt();
        let spread = (1.0 / self.seconds + 1.0 / before.seconds).sqrt();
        2.0 * (root(self) - root(before)).abs() / spread
    }
}

fn seconds_ago(index: usize) -> f64 {
    f64::from(AGES[index])
}
