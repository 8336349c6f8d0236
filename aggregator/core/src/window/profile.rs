//! How the requests of a queried set lie in the last two minutes, and where their newest step is.
//!
//! The past is cut at [`CUTS`]. A cut is a step where the requests of the time after it and of the
//! time before it are not those of one steady load. To find the newest of several, the stretch
//! looked at grows backwards from now until a cut within it is a step. So it holds one step as a
//! rule, and older ones do not hide it. A pod counts in stretches that it is known for as a whole:
//! one that joined is no step of the others.
//!
//! Stretches that ended up to [`SEEN_FOR`] ago count too. A step that was seen a moment ago stays
//! seen, even where the requests since then hide it by chance, and nothing has to be remembered for
//! it: every replica finds the same.
//!
//! Requests that come together (a page and its pictures) vary more than independent ones. How much
//! more is measured ([`Profile::clumping`]), and a step has to be so much clearer.

use crate::window::{MIN_STEP_EVENTS, STEP_SIGMAS};

/// The seconds of the past in which requests are counted one by one.
const FINE: usize = 60;

/// Where requests are counted since, in seconds before the end of a pod's newest report: every
/// second of the longest window, and ten seconds beyond it as far as histories go.
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

/// For how long a step is seen that the newest requests hide, in seconds.
const SEEN_FOR: u32 = 5;

/// The median of a squared normal deviate.
const MEDIAN_OF_SQUARE: f64 = 0.455;

/// Requests since each of [`AGES`].
pub(crate) type Counts = [f64; AGES.len()];

/// The past of some pods together.
#[derive(Debug)]
pub(crate) struct Profile {
    /// By the age that a pod is known for at least, as an index of [`CUTS`].
    known: Vec<KnownPods>,
    /// Of all pods, since each age.
    all: Counts,
}

/// The past of the pods that are known for so long.
#[derive(Clone, Copy, Debug)]
struct KnownPods {
    pods: f64,
    /// Since each of [`CUTS`].
    counts: [f64; CUTS.len()],
}

/// Some time of some pods.
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
    /// Adds a pod that is known for `seconds`.
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

    /// How long the newest step is past for certain, in seconds: the age of the cut after it.
    /// `None` without a step.
    pub(crate) fn newest_step(mut self) -> Option<u32> {
        self.count_longer_known();
        let threshold = STEP_SIGMAS * self.clumping().sqrt();
        let mut newest: Option<usize> = None;
        for end in (0..CUTS.len()).take_while(|end| AGES[CUTS[*end]] <= SEEN_FOR) {
            if newest.is_some_and(|newest| newest <= end) {
                break;
            }
            let step = self.newest_step_until(end, threshold);
            newest = newest.into_iter().chain(step).min();
        }
        newest.map(|step| AGES[CUTS[step - 1]])
    }

    /// A pod that is known for longer is known for less, too.
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

    /// How many requests come together: 1 where each comes by itself. It is the variance of what
    /// one second holds, over the mean, taken from neighbouring seconds, of which few have a step
    /// between them; the median passes those over.
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

    /// The newest step in the time before the cut at `end`.
    fn newest_step_until(&self, end: usize, threshold: f64) -> Option<usize> {
        let stretches = self.known.iter().enumerate().skip(end + 2);
        stretches
            .filter(|(start, known)| known.counts[*start] - known.counts[end] >= MIN_STEP_EVENTS)
            .find_map(|(start, known)| known.clearest_step(start, end, threshold))
    }
}

// === impl Known ===

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
    /// By how many standard deviations its rate differs from that of the time before; 0 where one
    /// of them has too few requests to tell. The root of a number of independent requests deviates
    /// by a half, whatever the number.
    fn deviations(self, before: Self) -> f64 {
        let all = (self.requests + before.requests) / (self.seconds + before.seconds);
        let tells = |stretch: Self| stretch.requests.max(all * stretch.seconds) >= MIN_STEP_EVENTS;
        if !tells(self) || !tells(before) {
            return 0.0;
        }
        let root = |stretch: Self| ((stretch.requests + 0.375) / stretch.seconds).sqrt();
        let spread = (1.0 / self.seconds + 1.0 / before.seconds).sqrt();
        2.0 * (root(self) - root(before)).abs() / spread
    }
}

/// What the age at `index` of [`AGES`] is.
fn seconds_ago(index: usize) -> f64 {
    f64::from(AGES[index])
}
