//! What is shown and published now, and when something else is to be.
//!
//! Holds no clock: time that passes is added up, and the wall clock comes in as an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use common_time::UnixMillis;

use super::generations::PUBLISHED_FOR;
use super::stored::StoredSecret;

/// How old a certificate gets before there is another one.
const REISSUE_AFTER: Duration = Duration::from_hours(24);

/// By how much the clock may be set back before there is another one: certificates begin an hour
/// before they are made.
const SET_BACK_MAX: Duration = Duration::from_mins(30);

/// By how much it may be set forward: of 90 days that a certificate is valid. Not less: if the
/// clock is wrong, another one would not be valid yet for anybody else.
const SET_FORWARD_MAX: Duration = Duration::from_hours(60 * 24);

pub(super) struct Current {
    /// The CA of the certificate that is shown.
    pub(super) shown: String,
    /// How long that has been shown.
    pub(super) age: Duration,
    /// The time by the wall clock when it was made: its validity is told by that.
    pub(super) made: UnixMillis,
    /// What was in the secret, and for how long it has been seen like that.
    pub(super) held: StoredSecret,
    pub(super) unchanged: Duration,
    /// Since when this replica knows of each CA that it is published.
    pub(super) published: BTreeMap<String, Duration>,
    /// Everyone who looks for the CA has found it.
    pub(super) registered: bool,
}

// === impl Current ===

impl Current {
    /// The secret is like that now.
    pub(super) fn saw(&mut self, held: StoredSecret) {
        if held.generations != self.held.generations {
            self.unchanged = Duration::ZERO;
        }
        self.published
            .retain(|certificate, _| held.generations.publishes(certificate));
        self.held = held;
    }

    /// All of it is published as of now.
    pub(super) fn note_published(&mut self) {
        for certificate in self.held.generations.certificates() {
            self.published.entry(certificate.to_owned()).or_default();
        }
    }

    /// It was like that for another while, if it was in order.
    pub(super) fn pass(&mut self, time: Duration, in_order: bool) {
        self.age += time;
        self.unchanged = if in_order {
            self.unchanged + time
        } else {
            Duration::ZERO
        };
        for published in self.published.values_mut() {
            *published += time;
        }
    }

    /// True if there should be another certificate: by the same CA a day later or when the clock
    /// was set, by another one when whoever verifies it had the time to hear of that.
    pub(super) fn is_due(&self, now: UnixMillis) -> bool {
        let signing = &self.held.generations.signing.certificate;
        if *signing == self.shown {
            return self.age >= REISSUE_AFTER
                || self.made.since(now) >= SET_BACK_MAX
                || now.since(self.made) >= SET_FORWARD_MAX;
        }
        let published = self.published.get(signing);
        published.is_some_and(|published| *published >= PUBLISHED_FOR)
    }
}
