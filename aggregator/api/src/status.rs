//! Refusals and failures as `metav1.Status`, the only form of errors in this API.
//!
//! kube-controller-manager copies `message` into the condition of the HPA, so the message is the
//! user interface. There is never a `Retry-After`: with one, its client would sleep while it holds
//! one of five workers.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode, Version};
use serde::Serialize;

use crate::body::Body;

/// An error response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    /// The label under which [`crate::Observations`] counts it.
    pub(crate) reason: Reason,
    /// For the operator.
    pub(crate) message: String,
    pub(crate) details: Option<Box<Details>>,
}

/// `metav1.StatusDetails`
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) causes: Vec<Cause>,
}

/// `metav1.StatusCause`: a reason that programs can tell apart.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Classes of errors, each with a status code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    UriTooLong,
    HeadersTooLarge,
    Internal,
    Unavailable,
}

common_names::named! {
    /// Why a request got no value. Label `reason` of `meshmeter_api_refused_total`.
    pub(crate) enum Reason {
        /// The URL is too long.
        UrlLength = "url_length",
        /// The headers are too large or too many.
        HeaderSize = "header_size",
        /// The request has a body.
        Body = "body",
        Method = "method",
        /// The client accepts no media type that is served.
        Accept = "accept",
        Authentication = "authentication",
        Authorization = "authorization",
        /// A token or access review failed.
        Review = "review",
        /// The path is unknown or has an invalid name.
        Path = "path",
        /// The query cannot be parsed.
        Query = "query",
        /// `labelSelector` cannot be parsed or does not apply.
        LabelSelector = "label_selector",
        /// `metricLabelSelector` cannot be parsed or is not supported.
        MetricLabelSelector = "metric_label_selector",
        /// No metric of that name.
        UnknownMetric = "unknown_metric",
        /// The objects are unknown, or none has a value.
        NoValue = "no_value",
        /// Only callers could count the value, and none of their clusters is known to lead to the
        /// object, but some have an unknown destination.
        UnmappedCluster = "unmapped_cluster",
        /// A value exists, but there is doubt that it is right.
        Doubt = "doubt",
        /// The value exceeds a Kubernetes quantity.
        OutOfRange = "out_of_range",
        /// As many streams of events are open as are served at once.
        Streams = "streams",
        /// As many lists are being made as are at once.
        Busy = "busy",
        /// A failure of our own.
        Internal = "internal",
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Metadata,
    #[serde(rename = "status")]
    outcome: &'static str,
    message: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Details>,
    code: u16,
}

#[derive(Serialize)]
struct Metadata {}

// === impl Refusal ===

impl Refusal {
    pub(crate) fn new(kind: Kind, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind,
            reason,
            message: message.into(),
            details: None,
        }
    }

    pub(crate) fn bad_request(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, reason, message)
    }

    pub(crate) fn not_found(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, reason, message)
    }

    pub(crate) fn code(&self) -> StatusCode {
        self.kind.code()
    }

    /// The response to a request of HTTP version `version`.
    pub(crate) fn into_response(self, version: Version) -> Response<Body> {
        let code = self.kind.code();
        let status = Status {
            kind: "Status",
            api_version: "v1",
            metadata: Metadata {},
            outcome: "Failure",
            message: &self.message,
            reason: self.kind.reason(),
            details: self.details.as_deref(),
            code: code.as_u16(),
        };
        let body = serde_json::to_vec(&status).unwrap_or_default();
        let mut response = Response::new(Body::from(Bytes::from(body)));
        *response.status_mut() = code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.kind == Kind::MethodNotAllowed {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        // The rest of a body is not read, so an HTTP/1.1 connection cannot be reused.
        let unread = matches!(self.reason, Reason::Body | Reason::Method);
        if unread && version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

// === impl Kind ===

impl Kind {
    fn code(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// `metav1.StatusReason`.
    fn reason(self) -> &'static str {
        match self {
            Self::BadRequest | Self::UriTooLong | Self::HeadersTooLarge => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::Internal => "InternalError",
            Self::Unavailable => "ServiceUnavailable",
        }
    }
}
