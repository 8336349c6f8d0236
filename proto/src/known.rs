//! Which fields a frame may hold.
//!
//! prost skips unknown fields in silence. A number that is skipped is a wrong number, so frames are
//! checked before they are decoded; the check reads tags and lengths only.

use std::fmt;

use crate::v1;

/// Messages nested deeper than this are refused; the contract's own depth is 4.
const DEPTH_MAX: u8 = 8;

/// Messages with messages of their own (series) in one message, more than any check after this one
/// lets pass. An empty one has two bytes here and some 130 once it is decoded.
const BRANCHES_MAX: usize = 4096;

/// A message whose fields are listed.
#[derive(Debug)]
pub struct Known {
    /// Name of the message in the proto file.
    pub name: &'static str,
    /// Number and name of each field, and the message it holds, if it holds one.
    pub fields: &'static [(u32, &'static str, Option<&'static Known>)],
}

/// A message that can be checked for unknown fields.
pub trait Checked {
    /// What the message may hold.
    const KNOWN: &'static Known;
}

/// Why a frame was refused before decoding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The message at `path` holds a field that this version does not know.
    Unknown {
        /// Fields from the frame down, for example `SidecarFrame.report.series`.
        path: String,
        /// Number of the unknown field.
        field: u32,
    },
    /// The bytes at `path` are not a protobuf message.
    Malformed { path: String },
    /// The message at `path` holds more than 4,096 messages that hold messages.
    TooMany { path: String },
}

/// Checks that `bytes` hold only fields of `M`, at any depth.
pub fn check<M: Checked>(bytes: &[u8]) -> Result<(), Refusal> {
    check_message(M::KNOWN, bytes, DEPTH_MAX).map_err(|mut refusal| {
        refusal.path().insert_str(0, M::KNOWN.name);
        refusal
    })
}

fn check_message(known: &Known, bytes: &[u8], depth: u8) -> Result<(), Refusal> {
    let malformed = || Refusal::Malformed {
        path: String::new(),
    };
    let mut rest = bytes;
    let mut branches = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest).ok_or_else(malformed)?;
        let field = u32::try_from(tag >> 3).map_err(|_| malformed())?;
        let value = match tag & 7 {
            0 => varint(&mut rest).map(|_| None),
            1 => take(&mut rest, 8).map(|_| None),
            2 => varint(&mut rest)
                .and_then(|len| take(&mut rest, usize::try_from(len).ok()?))
                .map(Some),
            5 => take(&mut rest, 4).map(|_| None),
            _ => None,
        };
        let value = value.ok_or_else(malformed)?;
        let Some((_, name, inner)) = known.field(field) else {
            return Err(Refusal::Unknown {
                path: String::new(),
                field,
            });
        };
        if let (Some(inner), Some(value)) = (inner, value) {
            let depth = depth.checked_sub(1).ok_or_else(malformed)?;
            branches += usize::from(inner.fields.iter().any(|(.., inner)| inner.is_some()));
            if branches > BRANCHES_MAX {
                let path = format!(".{name}");
                return Err(Refusal::TooMany { path });
            }
            check_message(inner, value, depth).map_err(|mut refusal| {
                refusal.path().insert_str(0, &format!(".{name}"));
                refusal
            })?;
        }
    }
    Ok(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    // Tags, lengths and small numbers: most of a frame.
    if let Some((byte, tail)) = rest.split_first()
        && byte & 0x80 == 0
    {
        *rest = tail;
        return Some(u64::from(*byte));
    }
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

// === impl Known ===

impl Known {
    fn field(&self, number: u32) -> Option<&(u32, &'static str, Option<&'static Self>)> {
        // Most messages number their fields from 1 on without a gap.
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        let there = self.fields.get(place).filter(|field| field.0 == number);
        there.or_else(|| self.fields.iter().find(|field| field.0 == number))
    }
}

// === impl Refusal ===

impl Refusal {
    fn path(&mut self) -> &mut String {
        let (Self::Unknown { path, .. } | Self::Malformed { path } | Self::TooMany { path }) = self;
        path
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { path, field } => write!(
                f,
                "{path}: unknown field {field}; this version knows protocol {}",
                crate::PROTOCOL
            ),
            Self::Malformed { path } => write!(f, "{path}: not a protobuf message"),
            Self::TooMany { path } => write!(f, "{path}: more than {BRANCHES_MAX} of them"),
        }
    }
}

impl std::error::Error for Refusal {}

// === the contract ===

const IDENTITY: Known = Known {
    name: "Identity",
    fields: &[
        (1, "namespace", None),
        (2, "pod", None),
        (3, "pod_uid", None),
        (4, "node", None),
        (5, "labels", Some(&LABELS)),
    ],
};

/// Entry of a `map<string, string>`.
const LABELS: Known = Known {
    name: "LabelsEntry",
    fields: &[(1, "key", None), (2, "value", None)],
};

const HELLO: Known = Known {
    name: "Hello",
    fields: &[
        (1, "identity", Some(&IDENTITY)),
        (2, "instance", None),
        (3, "process", None),
        (4, "scope", None),
        (5, "started_at_unix_ms", None),
        (6, "clock_unix_ms", None),
        (7, "flush_interval_ms", None),
        (8, "build", None),
        (9, "protocol", None),
        (10, "hot_restart", None),
    ],
};

const RESPONSES: Known = Known {
    name: "Responses",
    fields: &[(1, "code", None), (2, "total", None)],
};

const SERIES: Known = Known {
    name: "Series",
    fields: &[
        (1, "direction", None),
        (2, "cluster", None),
        (3, "requests", None),
        (4, "requests_at_completion", None),
        (5, "upstream_attempts", None),
        (6, "responses", Some(&RESPONSES)),
        (7, "inflight", None),
        (8, "inflight_ns", None),
    ],
};

const REFUSED: Known = Known {
    name: "Refused",
    fields: &[
        (1, "series_overflow", None),
        (2, "untracked_streams", None),
        (3, "code_overflow", None),
    ],
};

const REPORT: Known = Known {
    name: "Report",
    fields: &[
        (1, "seq", None),
        (2, "interval_end_unix_ms", None),
        (3, "interval_ms", None),
        (4, "series", Some(&SERIES)),
        (5, "vms_expected", None),
        (6, "vms_live", None),
        (7, "next_report_within_ms", None),
        (8, "snapshot", None),
        (9, "final", None),
        (10, "refused", Some(&REFUSED)),
    ],
};

const SETTINGS: Known = Known {
    name: "Settings",
    fields: &[(1, "flush_interval_ms", None), (2, "protocol", None)],
};

const ACK: Known = Known {
    name: "Ack",
    fields: &[(1, "seq", None)],
};

impl Checked for v1::SidecarFrame {
    const KNOWN: &'static Known = &Known {
        name: "SidecarFrame",
        fields: &[(1, "hello", Some(&HELLO)), (2, "report", Some(&REPORT))],
    };
}

impl Checked for v1::AggregatorFrame {
    const KNOWN: &'static Known = &Known {
        name: "AggregatorFrame",
        fields: &[(1, "settings", Some(&SETTINGS)), (2, "ack", Some(&ACK))],
    };
}

#[cfg(test)]
mod tests;
