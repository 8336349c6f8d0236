//! Why a stream ends: its gRPC status for the sidecar and its reason in our metrics.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use aggregator_core::pod::PodKey;
use aggregator_core::query::NoValue;
use aggregator_core::status::RefusedReason;
use aggregator_core::store::StoreRefusal;
use aggregator_directory::DirectoryRefusal;
use thiserror::Error;
use tonic::{Code, Status};

use crate::parse::FieldError;

/// Why a stream is refused. The refused frame is not in the store; earlier ones are.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// The frame is not a valid message, or has a field this version does not know.
    #[error("{0}")]
    Malformed(String),
    #[error("SidecarFrame: {0}")]
    TooLarge(String),
    #[error("SidecarFrame: neither hello nor report")]
    Empty,
    #[error("report: the first frame of a stream must be hello")]
    ReportBeforeHello,
    #[error("hello: only the first frame of a stream may be hello")]
    SecondHello,
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error(transparent)]
    Store(#[from] StoreRefusal),
    #[error(transparent)]
    Directory(#[from] DirectoryRefusal),
    #[error("{0}")]
    Unauthenticated(String),
    #[error("bearer token sent without TLS, where others can read it: use TLS or send no token")]
    PlainToken,
    /// The identity that the sidecar proved is not that of the pod in its hello.
    #[error("{0}")]
    NotItsPod(String),
    /// The directory has no pod with this name, uid and address: it may be too new.
    #[error("pod {0} with the uid and address of this stream is not known yet")]
    UnknownPod(PodKey),
    /// The token could not be reviewed.
    #[error("the bearer token cannot be checked: {0}")]
    Unreviewed(String),
    #[error("the aggregator serves {max} streams already")]
    Streams { max: usize },
    #[error("the aggregator serves {max} streams from {peer} already")]
    PeerStreams { peer: IpAddr, max: usize },
    /// Too many streams have not sent hello, and this one is the oldest.
    #[error("hello: not received, and {max} newer streams are waiting")]
    Crowded { max: usize },
    /// Others are taken in first.
    // The filter reads the time: see `retry_after_ms` there.
    #[error("other sidecars are taken in first: retry after {} ms", .after.as_millis())]
    Busy { after: Duration },
    /// The memory for large messages is in use.
    #[error("{0}")]
    NoRoom(String),
    /// A message took too long from its first byte to its last.
    #[error("{0}")]
    MessageLate(String),
    /// The directory has no pod with the address of the connection: it may be too new.
    #[error("no pod with the address {0} is known yet")]
    UnknownAddress(IpAddr),
    #[error("hello: not received within {within:?}")]
    HelloLate { within: Duration },
    #[error("report: none received for {within:?}")]
    Silent { within: Duration },
    #[error("the sidecar did not read its acknowledgements for {within:?}")]
    AnswersUnread { within: Duration },
}

#[derive(Debug)]
pub(crate) enum CloseReason {
    /// The sidecar closed it, or the connection broke: both are normal ends.
    Closed,
    /// A newer stream of the same instance took over.
    Superseded,
    /// A newer instance, or another pod of the same name, took over.
    Replaced,
    /// The aggregator shuts down; all frames received are in the store.
    ShutDown,
    /// A frame was refused, or a limit was reached.
    Refused(Refusal),
}

// === impl Refusal ===

impl Refusal {
    /// All values of [`Self::reason`] but those of the store, [`RefusedReason::ALL`].
    pub(crate) const REASONS: [&str; 20] = [
        "malformed_frame",
        "frame_too_large",
        "empty_frame",
        "report_before_hello",
        "second_hello",
        "invalid_field",
        "unauthenticated",
        "plain_token",
        "foreign_pod",
        "unknown_pod",
        "token_review",
        "streams",
        "peer_streams",
        "crowded",
        "busy",
        "message_room",
        "message_late",
        "hello_late",
        "silent",
        "answers_unread",
    ];

    /// The label of the metric; one of a fixed set.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_frame",
            Self::TooLarge(_) => "frame_too_large",
            Self::Empty => "empty_frame",
            Self::ReportBeforeHello => "report_before_hello",
            Self::SecondHello => "second_hello",
            Self::Field(_) => "invalid_field",
            Self::Store(refused) => refused.reason().as_str(),
            Self::Directory(_) => RefusedReason::Pods.as_str(),
            Self::Unauthenticated(_) => "unauthenticated",
            Self::PlainToken => "plain_token",
            Self::NotItsPod(_) => "foreign_pod",
            Self::UnknownPod(_) | Self::UnknownAddress(_) => "unknown_pod",
            Self::Unreviewed(_) => "token_review",
            Self::Streams { .. } => "streams",
            Self::PeerStreams { .. } => "peer_streams",
            Self::Crowded { .. } => "crowded",
            Self::Busy { .. } => "busy",
            Self::NoRoom(_) => "message_room",
            Self::MessageLate(_) => "message_late",
            Self::HelloLate { .. } => "hello_late",
            Self::Silent { .. } => "silent",
            Self::AnswersUnread { .. } => "answers_unread",
        }
    }

    /// What the pod has instead of a value while it is refused for this. `None` if it was not
    /// refused but slow.
    pub(crate) fn no_value(&self) -> Option<NoValue> {
        match self {
            Self::Unauthenticated(_)
            | Self::PlainToken
            | Self::NotItsPod(_)
            | Self::UnknownPod(_)
            | Self::UnknownAddress(_)
            | Self::Unreviewed(_) => Some(NoValue::Unauthenticated),
            Self::Malformed(_)
            | Self::Empty
            | Self::ReportBeforeHello
            | Self::SecondHello
            | Self::Field(_) => Some(NoValue::Unreadable),
            Self::TooLarge(_)
            | Self::Store(_)
            | Self::Directory(_)
            | Self::Streams { .. }
            | Self::PeerStreams { .. }
            | Self::NoRoom(_) => Some(NoValue::StreamRefused),
            Self::Crowded { .. }
            | Self::Busy { .. }
            | Self::MessageLate(_)
            | Self::HelloLate { .. }
            | Self::Silent { .. }
            | Self::AnswersUnread { .. } => None,
        }
    }

    pub(crate) fn status(&self) -> Status {
        Status::new(self.code(), self.to_string())
    }

    fn code(&self) -> Code {
        match self {
            Self::Malformed(_)
            | Self::Empty
            | Self::ReportBeforeHello
            | Self::SecondHello
            | Self::Field(_) => Code::InvalidArgument,
            Self::Store(refused) => match refused.reason() {
                RefusedReason::ImpossibleTotal | RefusedReason::AheadOfClock => {
                    Code::InvalidArgument
                }
                RefusedReason::OlderInstance | RefusedReason::UnknownStream => Code::Aborted,
                RefusedReason::Pods
                | RefusedReason::InstancesPerPod
                | RefusedReason::SeriesPerPod
                | RefusedReason::Callers => Code::ResourceExhausted,
            },
            Self::TooLarge(_)
            | Self::Directory(_)
            | Self::Streams { .. }
            | Self::PeerStreams { .. }
            | Self::Crowded { .. }
            | Self::Busy { .. }
            | Self::NoRoom(_) => Code::ResourceExhausted,
            Self::Unauthenticated(_) | Self::PlainToken => Code::Unauthenticated,
            Self::NotItsPod(_) => Code::PermissionDenied,
            Self::UnknownPod(_) | Self::UnknownAddress(_) | Self::Unreviewed(_) => {
                Code::Unavailable
            }
            Self::HelloLate { .. }
            | Self::MessageLate(_)
            | Self::Silent { .. }
            | Self::AnswersUnread { .. } => Code::DeadlineExceeded,
        }
    }
}

// === impl CloseReason ===

impl CloseReason {
    /// The status for the sidecar; `None` if it closed the stream itself.
    pub(crate) fn status(&self) -> Option<Status> {
        match self {
            Self::Closed => None,
            Self::Superseded => Some(Status::aborted(
                "superseded by a newer stream of the same instance",
            )),
            Self::Replaced => Some(Status::aborted(
                "replaced by a newer instance of the pod's sidecar",
            )),
            Self::ShutDown => Some(Status::unavailable("the aggregator shuts down")),
            Self::Refused(refusal) => Some(refusal.status()),
        }
    }
}

/// The reason to close a stream whose next frame failed with `status`.
pub(crate) fn close_reason_of(status: &Status) -> CloseReason {
    // A status with a source comes from the connection (a reset, a lost peer); one without, from
    // tonic or our codec, which refused the frame.
    if status.source().is_some() {
        return CloseReason::Closed;
    }
    let message = status.message();
    match status.code() {
        Code::InvalidArgument => CloseReason::Refused(Refusal::Malformed(message.to_owned())),
        Code::Internal | Code::Unimplemented => {
            CloseReason::Refused(Refusal::Malformed(format!("SidecarFrame: {message}")))
        }
        Code::OutOfRange => CloseReason::Refused(Refusal::TooLarge(message.to_owned())),
        Code::ResourceExhausted => CloseReason::Refused(Refusal::NoRoom(message.to_owned())),
        Code::DeadlineExceeded => CloseReason::Refused(Refusal::MessageLate(message.to_owned())),
        _ => CloseReason::Closed,
    }
}
