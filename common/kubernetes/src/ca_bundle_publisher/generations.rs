//! Which CAs are published, and which of them signs: two side by side while one takes the place of
//! the other.
//!
//! ```text
//! signing ── publish a new one ──> signing + next
//!         ── PUBLISHED_FOR ──> signing (was next) + former
//!         ── KEPT_FOR ──> signing
//! ```
//!
//! Whoever verifies us hears of a new CA before the first certificate by it is shown, and of the
//! old one until the last has been replaced. Time is what replicas were there to see, added up in
//! the secret itself: no clock of the world is asked, so none that steps can cut it short, and a
//! restart loses at most the minutes since the last note.
//!
//! Pure: keys and certificates are made elsewhere, and time comes in as an argument.

use std::time::Duration;

/// How long a new CA is published before it signs. Who looks for it sees it sooner: a `ConfigMap`
/// in a volume within two minutes, a `caBundle` at once, a sidecar within seconds of its volume.
pub(super) const PUBLISHED_FOR: Duration = Duration::from_mins(10);

/// How long a CA that does not sign any more is published.
pub(super) const KEPT_FOR: Duration = Duration::from_hours(24);

/// How often it is noted how long it has been so: of the short time every minute, of the long one
/// every ten.
const NOTE_EVERY: Duration = Duration::from_mins(1);
const NOTE_EVERY_WHILE_KEPT: Duration = Duration::from_mins(10);

/// Former CAs that are published at most: who rotates more often than that loses the oldest.
const FORMER_MAX: usize = 3;

/// A certificate and its key, PEM.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Generations {
    pub(super) signing: Pair,
    /// Will sign, once it was published for long enough.
    pub(super) next: Option<Pair>,
    /// Certificates of those that signed before, newest first.
    pub(super) former: Vec<String>,
    /// How long it has been so, as far as that was noted.
    pub(super) waited: Duration,
}

// === impl Pair ===

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

// === impl Generations ===

impl Generations {
    pub(super) fn new(signing: Pair) -> Self {
        Self {
            signing,
            next: None,
            former: Vec::new(),
            waited: Duration::ZERO,
        }
    }

    /// All certificates that are published, the one that signs first.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &str> {
        let next = self.next.iter().map(|next| next.certificate.as_str());
        let former = self.former.iter().map(String::as_str);
        [self.signing.certificate.as_str()]
            .into_iter()
            .chain(next)
            .chain(former)
    }

    /// The same as one text (PEM).
    pub(super) fn bundle(&self) -> String {
        let ended = |certificate: &str| format!("{}\n", certificate.trim_end());
        self.certificates().map(ended).collect()
    }

    /// True if `certificate` is published.
    pub(super) fn publishes(&self, certificate: &str) -> bool {
        let mut all = self.certificates();
        all.any(|other| other.trim() == certificate.trim())
    }

    /// With `next` beside the one that signs; unchanged if there is one already.
    pub(super) fn rotated(&self, next: impl FnOnce() -> Pair) -> Self {
        let waited = if self.next.is_some() {
            self.waited
        } else {
            Duration::ZERO
        };
        Self {
            next: Some(self.next.clone().unwrap_or_else(next)),
            waited,
            ..self.clone()
        }
    }

    /// With `certificate` among the former: somebody still shows what it signed.
    pub(super) fn keeping(&self, certificate: &str) -> Self {
        if self.publishes(certificate) {
            return self.clone();
        }
        let mut former = vec![certificate.to_owned()];
        former.extend(self.former.iter().cloned());
        former.truncate(FORMER_MAX);
        // What is waited for with another one under way is that one.
        let waited = if self.next.is_some() {
            self.waited
        } else {
            Duration::ZERO
        };
        Self {
            former,
            waited,
            ..self.clone()
        }
    }

    /// What is to be noted after it has been so for `longer` than is noted, all the time published;
    /// `None` while that is too little to be worth it, and where nothing is waited for.
    pub(super) fn after(&self, longer: Duration) -> Option<Self> {
        let (every, until) = match (&self.next, self.former.is_empty()) {
            (Some(_), _) => (NOTE_EVERY, PUBLISHED_FOR),
            (None, false) => (NOTE_EVERY_WHILE_KEPT, KEPT_FOR),
            (None, true) => return None,
        };
        let waited = self.waited.saturating_add(longer);
        if waited < until {
            let noted = Self {
                waited,
                ..self.clone()
            };
            return (longer >= every).then_some(noted);
        }
        Some(match &self.next {
            None => Self::new(self.signing.clone()),
            Some(next) => Self {
                signing: next.clone(),
                next: None,
                ..self.clone()
            }
            .keeping(&self.signing.certificate),
        })
        .map(|moved| Self {
            waited: Duration::ZERO,
            ..moved
        })
    }
}

#[cfg(test)]
mod tests;
