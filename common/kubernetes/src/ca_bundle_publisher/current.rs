//! The certificate in use and the CAs published, and when to issue the next certificate.
//!
//! Reads no clock: elapsed time is added up, and the wall clock is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use common_time::UnixMillis;

use super::generations::PUBLISHED_FOR;
use super::stored::StoredSecret;

/// Age at which a certificate is replaced.
const REISSUE_AFTER: Duration = Duration::from_hours(24);

/// A certificate is replaced if the clock is set back by this: it is valid from an hour before it
/// was made.
const SET_BACK_MAX: Duration = Duration::from_mins(30);

/// A certificate, valid for 90 days, is replaced if the clock is set forward by this. Not by less:
/// if the clock is wrong, a new one would not be valid yet for anybody else.
const SET_FORWARD_MAX: Duration = Duration::from_hours(60 * 24);

pub(super) struct Current {
    /// The CA of the certificate in use.
    pub(super) shown: String,
    /// How long that certificate has been in use.
    pub(super) age: Duration,
    /// When it was issued, by the wall clock, as its validity is.
    pub(super) made: UnixMillis,
    /// The content of the secret, and for how long this replica has seen it unchanged.
    pub(super) held: StoredSecret,
    pub(super) unchanged: Duration,
    /// For how long this replica has known each CA to be published.
    pub(super) published: BTreeMap<String, Duration>,
    /// All targets have the CA.
    pub(super) registered: bool,
}

// === impl Current ===

impl Current {
    /// Records the content of the secret.
    pub(super) fn saw(&mut self, held: StoredSecret) {
        if held.generations != self.held.generations {
            self.unchanged = Duration::ZERO;
        }
        self.published
            .retain(|certificate, _| held.generations.publishes(certificate));
        self.held = held;
    }

    /// Records that all CAs of the secret are published.
    pub(super) fn note_published(&mut self) {
        for certificate in self.held.generations.certificates() {
            self.published.entry(certificate.to_owned()).or_default();
        }
    }

    /// Adds `time` to the ages; to that of the secret only if the check was `in_order`.
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

    /// True if a new certificate is due: by the same CA after a day or if the clock was set, by
    /// another CA once that has been published for [`PUBLISHED_FOR`].
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
