//! How a stream ends, and what its sidecar and our metrics hear of it.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use aggregator_core::pod::PodKey;
use aggregator_core::status::RefusedReason;
use aggregator_core::store::StoreRefusal;
use aggregator_directory::DirectoryRefusal;
use thiserror::Error;
use tonic::{Code, Status};

use crate::parse::FieldError;

/// Why a stream is refused. Nothing of the frame that caused it is in the store; what came before
/// is.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// The frame is not one of ours: not a message, or one with a field this version does not know.
    #[error("{0}")]
    Malformed(String),
    /// The frame is larger than frames may be.
    #[error("SidecarFrame: {0}")]
    TooLarge(String),
    #[error("SidecarFrame: neither hello nor report")]
    Empty,
    /// The first frame is not a hello.
    #[error("report: the first frame of a stream must be hello")]
    ReportBeforeHello,
    /// A later frame is a hello.
    #[error("hello: only the first frame of a stream may be hello")]
    SecondHello,
    /// A field holds what it must not.
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error(transparent)]
    Store(#[from] StoreRefusal),
    /// There is no room for the pod.
    #[error(transparent)]
    Directory(#[from] DirectoryRefusal),
    /// The sidecar does not prove who it is.
    #[error("{0}")]
    Unauthenticated(String),
    /// A token came where others can read it.
    #[error(
        "a bearer token was shown in plain text, where others can read it: stream by TLS, or show no token"
    )]
    PlainToken,
    /// The sidecar is not the pod that it says it is.
    #[error("{0}")]
    NotItsPod(String),
    /// The pod is not known, or not with this uid or an address: it may be too new.
    #[error("pod {0} with the uid and address of this stream is not known yet")]
    UnknownPod(PodKey),
    /// It cannot be told now who the sidecar is.
    #[error("the bearer token cannot be checked: {0}")]
    Unreviewed(String),
    /// There is no room for the stream.
    #[error("the aggregator serves {max} streams already")]
    Streams {
        /// How many there may be.
        max: usize,
    },
    /// There are too many streams of this peer.
    #[error("the aggregator serves {max} streams from {peer} already")]
    PeerStreams {
        peer: IpAddr,
        /// How many there may be.
        max: usize,
    },
    /// Too many streams have not said hello, and this one waited longest.
    #[error("hello: not received, and {max} newer streams wait for theirs")]
    Crowded {
        /// How many may wait.
        max: usize,
    },
    /// There is no room for a large message now.
    #[error("{0}")]
    NoRoom(String),
    /// A message was begun and is not whole.
    #[error("{0}")]
    MessageLate(String),
    /// No pod with the address of the connection is known: it may be too new.
    #[error("no pod with the address {0} is known yet")]
    UnknownAddress(IpAddr),
    #[error("hello: not received within {within:?}")]
    HelloLate {
        /// How long it may take.
        within: Duration,
    },
    #[error("report: none received for {within:?}")]
    Silent {
        /// How long it may take.
        within: Duration,
    },
    /// The sidecar does not take its answers.
    #[error("the sidecar did not read its acknowledgements for {within:?}")]
    AnswersUnread {
        /// How long it may take.
        within: Duration,
    },
}

#[derive(Debug)]
pub(crate) enum CloseReason {
    /// The sidecar ended it, or the connection broke: after data both are the normal end.
    Closed,
    /// A newer stream of the same instance counts from now on.
    Superseded,
    /// A newer instance, or another pod of the same name, counts from now on.
    Replaced,
    /// The aggregator shuts down; all that was received is in the store.
    ShutDown,
    /// A frame was refused, or a limit was reached.
    Refused(Refusal),
}

// === impl Refusal ===

impl Refusal {
    /// What [`Self::reason`] says, the reasons of the store ([`RefusedReason::ALL`]) excepted.
    pub(crate) const REASONS: [&str; 19] = [
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
        "message_room",
        "message_late",
        "hello_late",
        "silent",
        "answers_unread",
    ];

    /// The reason as it is counted; a fixed set.
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
            Self::NoRoom(_) => "message_room",
            Self::MessageLate(_) => "message_late",
            Self::HelloLate { .. } => "hello_late",
            Self::Silent { .. } => "silent",
            Self::AnswersUnread { .. } => "answers_unread",
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

// === impl Ending ===

impl CloseReason {
    /// What the sidecar hears; `None` where it needs no word.
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

/// How a stream ends whose next frame cannot be had. Statuses with a source come from the
/// connection (a reset, a lost peer); without one, tonic or our codec found fault with what was
/// sent.
pub(crate) fn ending_of(status: &Status) -> CloseReason {
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
