//! The receiver's response, and its meaning for the batch that was sent.

use std::time::Duration;

/// Bytes of a response's body kept for the log.
pub const BODY_BYTES_MAX: usize = 1024;

/// Upper limit of `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// The outcome of one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WriteResponse {
    Status {
        code: u16,
        /// `Retry-After`, in seconds or as a date, from now.
        retry_after: Option<Duration>,
        /// The first [`BODY_BYTES_MAX`] bytes of the body, as text.
        body: String,
        /// `X-Prometheus-Remote-Write-Samples-Written`: samples stored. Sent by receivers of 2.0.
        written: Option<u32>,
    },
    /// No response: connection, TLS, timeout.
    None(String),
    /// There were no credentials to sign with.
    Unsigned(String),
    /// 2xx to a request of version 2.0 without the headers of 2.0: the receiver supports only 1.0
    /// and stored nothing.
    NotUnderstood,
}

common_names::named! {
    /// How to handle a batch after its response.
    pub enum Class {
        Stored = "stored",
        /// Another replica's samples are stored instead.
        Deduplicated = "deduplicated",
        /// Invalid samples; valid ones in the batch are stored. Resending changes nothing.
        Rejected = "rejected",
        /// Credentials are refused or missing: resend until they are fixed.
        Unauthorised = "unauthorised",
        /// Wrong address or proxy: resend until it is fixed.
        Misdirected = "misdirected",
        /// Larger than the receiver accepts: split.
        TooLarge = "too_large",
        /// Above the receiver's rate limit: resend later, in sub-batches.
        TooMany = "too_many",
        /// The receiver's limit of series is reached: split to find the series it still stores.
        SeriesLimit = "series_limit",
        /// The receiver does not support this version of the protocol.
        Unsupported = "unsupported",
        /// The receiver or the network failed: resend.
        Failed = "failed",
    }
}

/// A row of [`STATUSES`].
#[derive(Clone, Copy, Debug)]
pub struct StatusRow {
    pub codes: &'static [u16],
    pub class: Class,
    pub done: &'static str,
    pub why: &'static str,
}

const HELD: &str = "held: sent again after 10 s to 1 min, until it is too old";

/// Every status whose class does not follow from its first digit; `docs/REMOTE-WRITE.md` lists
/// them.
pub const STATUSES: [StatusRow; 14] = [
    StatusRow {
        codes: &[202],
        class: Class::Deduplicated,
        done: "done",
        why: "another replica's samples are stored (HA deduplication)",
    },
    StatusRow {
        codes: &[401, 403, 407],
        class: Class::Unauthorised,
        done: "held, with credentials asked for anew",
        why: "a token expires and is renewed; its samples must not be lost to that",
    },
    StatusRow {
        codes: &[402, 451],
        class: Class::Misdirected,
        done: HELD,
        why: "an account or a policy is in the way, not the samples",
    },
    StatusRow {
        codes: &[404, 405, 410],
        class: Class::Misdirected,
        done: HELD,
        why: "the path is wrong or its receiver is gone: an hour of data is worth more than a typo",
    },
    StatusRow {
        codes: &[406, 411, 414, 417, 421, 426, 428, 431],
        class: Class::Misdirected,
        done: HELD,
        why: "something on the way does not take the form of our requests, which is the same for all samples",
    },
    StatusRow {
        codes: &[408, 425, 499],
        class: Class::Failed,
        done: "sent again after 250 ms to 30 s",
        why: "the request did not arrive whole or in time",
    },
    StatusRow {
        codes: &[423, 424],
        class: Class::Failed,
        done: "sent again after 250 ms to 30 s",
        why: "what the receiver needs is busy or failed",
    },
    StatusRow {
        codes: &[400, 409, 412, 422],
        class: Class::Rejected,
        done: "done, and the receiver's words are logged",
        why: "the samples are refused for what they say; those that were good are stored",
    },
    StatusRow {
        codes: &[413],
        class: Class::TooLarge,
        done: "split in halves; a single series is dropped",
        why: "the receiver's limit of a request",
    },
    StatusRow {
        codes: &[415],
        class: Class::Unsupported,
        done: "2.0: sent in 1.0; 1.0: held",
        why: "the receiver does not know the version, or is none of remote write",
    },
    StatusRow {
        codes: &[429],
        class: Class::TooMany,
        done: "sent again after 1 s to 30 s, smaller, and slower from then on",
        why: "a limit of the rate. With a limit of series in its words: split until the series are found that are refused",
    },
    StatusRow {
        codes: &[501, 505],
        class: Class::Misdirected,
        done: HELD,
        why: "whoever answers does not know the method or the protocol: it is no receiver",
    },
    StatusRow {
        codes: &[511],
        class: Class::Unauthorised,
        done: "held, with credentials asked for anew",
        why: "the network wants to know who asks",
    },
    StatusRow {
        codes: &[500, 502, 503, 504],
        class: Class::Failed,
        done: "sent again after 250 ms to 30 s; series that fail alone, while others are stored, are set aside",
        why: "the receiver or the way to it fails",
    },
];

// === impl WriteResponse ===

impl WriteResponse {
    pub fn class(&self) -> Class {
        let (code, body) = match self {
            Self::Status { code, body, .. } => (*code, body),
            Self::None(_) => return Class::Failed,
            Self::Unsigned(_) => return Class::Unauthorised,
            Self::NotUnderstood => return Class::Unsupported,
        };
        if code == 429 && is_series_limit(body) {
            return Class::SeriesLimit;
        }
        let row = STATUSES.iter().find(|row| row.codes.contains(&code));
        row.map_or_else(|| by_hundreds(code), |row| row.class)
    }

    /// `Retry-After`, up to `RETRY_AFTER_MAX`.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => retry_after.map(|after| after.min(RETRY_AFTER_MAX)),
            Self::None(_) | Self::Unsigned(_) | Self::NotUnderstood => None,
        }
    }

    /// `None` without a status, or if it is misleading.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            Self::None(_) | Self::Unsigned(_) | Self::NotUnderstood => None,
        }
    }

    /// Samples that the receiver reports as stored.
    pub fn written(&self) -> Option<u32> {
        match self {
            Self::Status { written, .. } => *written,
            Self::None(_) | Self::Unsigned(_) | Self::NotUnderstood => None,
        }
    }

    /// The receiver's error text, or ours.
    pub fn text(&self) -> &str {
        match self {
            Self::Status { body, .. } => body,
            Self::None(error) | Self::Unsigned(error) => error,
            Self::NotUnderstood => "2xx without X-Prometheus-Remote-Write-Samples-Written",
        }
    }
}

fn by_hundreds(code: u16) -> Class {
    match code {
        200..=299 => Class::Stored,
        300..=399 => Class::Misdirected,
        400..=499 => Class::Rejected,
        _ => Class::Failed,
    }
}

/// True if a 429 is for the number of active series (`per-user series limit of N exceeded`), which
/// waiting does not fix.
fn is_series_limit(body: &str) -> bool {
    // The specification leaves the body to humans, but nothing else distinguishes the two limits.
    let body = body.to_lowercase();
    let of_rate = ["rate limit", "rate exceeded"];
    body.contains("series")
        && body.contains("limit")
        && !of_rate.iter().any(|words| body.contains(words))
}

// === impl Class ===

impl Class {
    /// Classes after which a request is resent, perhaps in sub-batches or another version.
    pub const RETRIED: [Self; 7] = [
        Self::Unauthorised,
        Self::Misdirected,
        Self::TooLarge,
        Self::TooMany,
        Self::SeriesLimit,
        Self::Unsupported,
        Self::Failed,
    ];
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Class, STATUSES, WriteResponse};

    const DOCUMENT: &str = include_str!("../../../docs/REMOTE-WRITE.md");

    fn status(code: u16) -> WriteResponse {
        said(code, "")
    }

    fn said(code: u16, body: &str) -> WriteResponse {
        WriteResponse::Status {
            code,
            retry_after: Some(Duration::from_hours(1)),
            body: body.to_owned(),
            written: None,
        }
    }

    /// Each status, and those that only their hundreds tell.
    #[test]
    fn every_status_means_one_thing() {
        for (codes, class) in [
            (&[200, 201, 204, 299][..], Class::Stored),
            (&[202], Class::Deduplicated),
            (&[300, 301, 302, 307, 308, 399], Class::Misdirected),
            (
                &[402, 404, 405, 406, 410, 421, 426, 431, 451, 501],
                Class::Misdirected,
            ),
            (&[400, 409, 418, 422, 444], Class::Rejected),
            (&[401, 403, 407, 511], Class::Unauthorised),
            (&[413], Class::TooLarge),
            (&[415], Class::Unsupported),
            (&[429], Class::TooMany),
            (
                &[408, 425, 499, 500, 502, 503, 504, 507, 599],
                Class::Failed,
            ),
            (&[0, 101, 600, 700, 999], Class::Failed),
        ] {
            for code in codes {
                assert_eq!(status(*code).class(), class, "{code}");
            }
        }
        let mut seen: Vec<u16> = STATUSES.iter().flat_map(|row| row.codes).copied().collect();
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "a status stands in two rows");
        assert_eq!(
            WriteResponse::None("reset".to_owned()).class(),
            Class::Failed
        );
        assert_eq!(
            WriteResponse::Unsigned("none".to_owned()).class(),
            Class::Unauthorised
        );
    }

    /// The document's table has the rows of the code.
    #[test]
    fn the_document_has_the_same_table() {
        for row in STATUSES {
            let codes: Vec<_> = row.codes.iter().map(u16::to_string).collect();
            let line = format!("| {} | {} | {} |\n", codes.join(", "), row.done, row.why);
            assert!(
                DOCUMENT.contains(&line),
                "docs/REMOTE-WRITE.md lacks {line}"
            );
        }
    }

    /// Words of AMP, Cortex and Mimir.
    #[test]
    fn a_limit_of_series_is_told_from_one_of_the_rate() {
        for (body, class) in [
            (
                "per-user series limit of 100 exceeded, please contact administrator to raise it (local limit: 0 global limit: 100 actual local limit: 34)",
                Class::SeriesLimit,
            ),
            ("per-metric series limit of 20 exceeded", Class::SeriesLimit),
            (
                "per_labelset_series_limit: the limit of active series is reached",
                Class::SeriesLimit,
            ),
            (
                "ingestion rate limit (70000) exceeded while adding 499 samples and 0 metadata",
                Class::TooMany,
            ),
            ("{\"message\":\"Rate exceeded\"}", Class::TooMany),
            ("ThrottlingException", Class::TooMany),
            ("", Class::TooMany),
        ] {
            assert_eq!(said(429, body).class(), class, "{body}");
        }
        assert_eq!(
            said(400, "per-user series limit of 100").class(),
            Class::Rejected
        );
    }

    #[test]
    fn a_receiver_cannot_silence_us_for_long() {
        assert_eq!(status(503).retry_after(), Some(Duration::from_mins(1)));
    }
}
