//! What the receiver answered, and what that means for the block that was sent.

use std::time::Duration;

/// Bytes of an answer's body that are kept for the log.
pub const BODY_BYTES_MAX: usize = 1024;

/// Longest `Retry-After` that is obeyed.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// The outcome of one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The receiver answered.
    Status {
        /// HTTP status.
        code: u16,
        /// `Retry-After`, in seconds or as a date, from now.
        retry_after: Option<Duration>,
        /// The first [`BODY_BYTES_MAX`] bytes of the body, as text.
        body: String,
    },
    /// No answer: connection, TLS, timeout.
    None(String),
    /// There were no credentials to sign with.
    Unsigned(String),
    /// 2xx to a request of version 2.0, without what such a receiver tells: it is one of 1.0, and stored nothing.
    NotUnderstood,
}

/// What is to be done about a block.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// Stored (200, 204).
    Stored,
    /// Another replica's samples are stored instead (202 from a receiver that deduplicates HA pairs).
    Deduplicated,
    /// Refused for what it says (400 and other 4xx); what was good in it is stored. Sending it again changes nothing.
    Rejected,
    /// Refused for who asks (401, 403), or there are no credentials: to be held until that is mended.
    Unauthorised,
    /// The address is wrong (404, 3xx): to be held, an hour of data is worth more than a typo.
    Misdirected,
    /// Larger than the receiver takes (413): to be split.
    TooLarge,
    /// More than the receiver takes now (429): to be sent later, in smaller pieces.
    TooMany,
    /// The receiver does not know this version of the protocol (415).
    Unsupported,
    /// The receiver or the way to it failed (5xx, network): to be sent again.
    Failed,
}

// === impl Answer ===

impl Answer {
    /// What it means.
    pub fn class(&self) -> Class {
        let code = match self {
            Self::Status { code, .. } => *code,
            Self::None(_) => return Class::Failed,
            Self::Unsigned(_) => return Class::Unauthorised,
            Self::NotUnderstood => return Class::Unsupported,
        };
        match code {
            202 => Class::Deduplicated,
            200..=299 => Class::Stored,
            300..=399 | 404 => Class::Misdirected,
            401 | 403 => Class::Unauthorised,
            413 => Class::TooLarge,
            415 => Class::Unsupported,
            429 => Class::TooMany,
            400..=499 => Class::Rejected,
            _ => Class::Failed,
        }
    }

    /// How long the receiver asks to be left alone, bounded.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => retry_after.map(|after| after.min(RETRY_AFTER_MAX)),
            Self::None(_) | Self::Unsigned(_) | Self::NotUnderstood => None,
        }
    }

    /// The status, if there is one that means what it says.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            Self::None(_) | Self::Unsigned(_) | Self::NotUnderstood => None,
        }
    }

    /// The receiver's own words, or the error.
    pub fn text(&self) -> &str {
        match self {
            Self::Status { body, .. } => body,
            Self::None(error) | Self::Unsigned(error) => error,
            Self::NotUnderstood => "2xx without X-Prometheus-Remote-Write-Samples-Written",
        }
    }
}

// === impl Class ===

impl Class {
    /// Those after which samples are not sent again.
    pub const FINAL: [Self; 5] = [
        Self::Stored,
        Self::Deduplicated,
        Self::Rejected,
        Self::TooLarge,
        Self::Unsupported,
    ];

    /// Those after which a request is sent again, perhaps in pieces or in another version.
    pub const AGAIN: [Self; 7] = [
        Self::Rejected,
        Self::Unauthorised,
        Self::Misdirected,
        Self::TooLarge,
        Self::TooMany,
        Self::Unsupported,
        Self::Failed,
    ];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Deduplicated => "deduplicated",
            Self::Rejected => "rejected",
            Self::Unauthorised => "unauthorised",
            Self::Misdirected => "misdirected",
            Self::TooLarge => "too_large",
            Self::TooMany => "too_many",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Answer, Class};

    fn status(code: u16) -> Answer {
        Answer::Status {
            code,
            retry_after: Some(Duration::from_hours(1)),
            body: String::new(),
        }
    }

    #[test]
    fn every_status_means_one_thing() {
        for (codes, class) in [
            (&[200, 201, 204, 299][..], Class::Stored),
            (&[202], Class::Deduplicated),
            (&[301, 302, 307, 308, 404], Class::Misdirected),
            (&[400, 402, 405, 409, 410, 418, 422, 499], Class::Rejected),
            (&[401, 403], Class::Unauthorised),
            (&[413], Class::TooLarge),
            (&[415], Class::Unsupported),
            (&[429], Class::TooMany),
            (&[500, 502, 503, 504, 599, 0, 101, 700], Class::Failed),
        ] {
            for code in codes {
                assert_eq!(status(*code).class(), class, "{code}");
            }
        }
        assert_eq!(Answer::None("reset".to_owned()).class(), Class::Failed);
        assert_eq!(
            Answer::Unsigned("none".to_owned()).class(),
            Class::Unauthorised
        );
    }

    #[test]
    fn a_receiver_cannot_silence_us_for_long() {
        assert_eq!(status(503).retry_after(), Some(Duration::from_mins(1)));
    }
}
