//! Which CAs are published, and which of them signs: two side by side during a rotation.
//!
//! ```text
//! signing ── publish a new one ──> signing + next
//!         ── PUBLISHED_FOR ──> signing (was next) + former
//!         ── KEPT_FOR ──> signing
//! ```
//!
//! Peers trust a new CA before the first certificate by it is used, and the old one until the last
//! certificate by it has been replaced. Replicas add up elapsed time in the secret itself: no wall
//! clock is read, so none that steps can cut it short, and a restart loses at most the minutes
//! since the last note.
//!
//! Pure: keys and certificates are made elsewhere, and time is an argument.

use std::time::Duration;

/// How long a new CA is published before it signs. Peers get it sooner: from a `ConfigMap` volume
/// within two minutes, from a `caBundle` at once, a sidecar within seconds of its volume.
pub(super) const PUBLISHED_FOR: Duration = Duration::from_mins(10);

/// How long a CA is published after it stopped signing.
pub(super) const KEPT_FOR: Duration = Duration::from_hours(24);

/// How often the elapsed time is noted in the secret: during [`PUBLISHED_FOR`] every minute, during
/// [`KEPT_FOR`] every ten.
const NOTE_EVERY: Duration = Duration::from_mins(1);
const NOTE_EVERY_WHILE_KEPT: Duration = Duration::from_mins(10);

/// Former CAs published at most; with more rotations in a day the oldest is dropped.
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
    /// Signs after it has been published for [`PUBLISHED_FOR`].
    pub(super) next: Option<Pair>,
    /// Certificates of former signing CAs, newest first.
    pub(super) former: Vec<String>,
    /// How long this state has lasted, as noted in the secret.
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

    /// The certificates of all published CAs, the signing one first.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &str> {
        let next = self.next.iter().map(|next| next.certificate.as_str());
        let former = self.former.iter().map(String::as_str);
        [self.signing.certificate.as_str()]
            .into_iter()
            .chain(next)
            .chain(former)
    }

    /// These certificates as one PEM text.
    pub(super) fn bundle(&self) -> String {
        let ended = |certificate: &str| format!("{}\n", certificate.trim_end());
        self.certificates().map(ended).collect()
    }

    pub(super) fn publishes(&self, certificate: &str) -> bool {
        let mut all = self.certificates();
        all.any(|other| other.trim() == certificate.trim())
    }

    /// With a `next` CA beside the signing one; unchanged if there is one already.
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

    /// With the CA `certificate` among the former ones: a certificate by it is still in use.
    pub(super) fn keeping(&self, certificate: &str) -> Self {
        if self.publishes(certificate) {
            return self.clone();
        }
        let mut former = vec![certificate.to_owned()];
        former.extend(self.former.iter().cloned());
        former.truncate(FORMER_MAX);
        // During a rotation the time is that of `next`, and goes on.
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

    /// The state to write after it has been unchanged and published for `longer` than noted; `None`
    /// while that is too short to note, and outside of rotations.
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
