//! Why there is no answer, as a sentence that says what to do.

use std::time::Duration;

use aggregator_view::GROUP;
use common_kubernetes::ClusterError;
use kube::config::KubeconfigError;
use thiserror::Error;

use crate::Program;

/// Resources that may be asked for in one namespace.
const NAMESPACED: [&str; 5] = [
    "pods",
    "workloads",
    "services",
    "reads",
    "horizontalpodautoscalers",
];

/// Where the request went.
#[derive(Clone, Debug)]
pub(super) struct Place {
    server: String,
    method: String,
    path: String,
    program: Program,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ConnectionError {
    #[error(
        "no kubeconfig: set KUBECONFIG, or give --kubeconfig FILE (or --server URL for an aggregator that runs without a cluster)"
    )]
    NoKubeconfig,
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(String),
    #[error("--server {0}: not an address such as https://127.0.0.1:7443")]
    Server(String),
    #[error("{0:?} is no name of a namespace")]
    Namespace(String),
    #[error("{0:?} cannot be acted as: not the name of a user or group")]
    Impersonation(String),
    #[error("the client cannot be made: {0}")]
    Client(Box<kube::Error>),
    #[error("{0}: not a request")]
    Malformed(String),
    #[error("{path}: the answer is not what was expected ({error}): is that {GROUP}?")]
    Document {
        path: String,
        error: serde_json::Error,
    },
    /// No answer at all.
    #[error(
        "{server} does not answer: {reason}; is the cluster up, and is that its address in the kubeconfig?"
    )]
    Unreachable { server: String, reason: String },
    #[error("{server} did not answer within {within:?}: try --request-timeout with more")]
    Late { server: String, within: Duration },
    #[error(
        "{server} does not accept who you are (401): log in again, or choose another --context"
    )]
    Unauthorized { server: String },
    /// The right is named.
    #[error("you may not: {message}; what is missing is {right}")]
    Forbidden { message: String, right: String },
    #[error("{message}")]
    NotFound {
        message: String,
        /// The first cause's reason, for programs; often empty.
        cause: String,
    },
    #[error(
        "meshmeter is not installed here, or its API {GROUP} is not registered: run `{program} check`"
    )]
    NotInstalled { program: Program },
    #[error(
        "kube-apiserver does not reach the API server behind {path} ({message}): run `{program} check`"
    )]
    Unavailable {
        path: String,
        message: String,
        program: Program,
    },
    /// Any other refusal.
    #[error("{path}: {message} ({code})")]
    Refused {
        path: String,
        message: String,
        code: u16,
    },
}

// === impl Place ===

impl Place {
    pub(super) fn new(server: &str, method: &str, path: &str, program: Program) -> Self {
        Self {
            server: server.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            program,
        }
    }
}

// === impl ConnectionError ===

impl ConnectionError {
    pub(super) fn kubeconfig(error: &KubeconfigError) -> Self {
        Self::Kubeconfig(chain(error))
    }

    pub(super) fn of(error: ClusterError, place: Place) -> Self {
        match error {
            ClusterError::Late { within, .. } => Self::Late {
                server: place.server,
                within,
            },
            ClusterError::Request { source, .. } => match *source {
                kube::Error::Api(status) => {
                    let refused = Self::refused(status.code, &status.message, place);
                    refused.caused_by(&status)
                }
                other => Self::Unreachable {
                    server: place.server,
                    reason: innermost(&other),
                },
            },
            other => Self::Unreachable {
                server: place.server,
                reason: chain(&other),
            },
        }
    }

    pub(super) fn refused(code: u16, message: &str, place: Place) -> Self {
        let message = message.trim().to_owned();
        let is_view = place.path.starts_with(&format!("/apis/{GROUP}"));
        match code {
            401 => Self::Unauthorized {
                server: place.server,
            },
            403 => Self::Forbidden {
                message,
                right: right(&place),
            },
            // A group that nobody registered is answered in plain text.
            404 if is_view && message.starts_with("404 page not found") => Self::NotInstalled {
                program: place.program,
            },
            404 => Self::NotFound {
                message,
                cause: String::new(),
            },
            502..=504 => Self::Unavailable {
                path: place.path,
                message,
                program: place.program,
            },
            _ => Self::Refused {
                path: place.path,
                message,
                code,
            },
        }
    }

    fn caused_by(mut self, status: &kube::core::Status) -> Self {
        if let Self::NotFound { cause, .. } = &mut self {
            let details = status.details.as_ref();
            let first = details.and_then(|details| details.causes.first());
            cause.clone_from(&first.map(|first| first.reason.clone()).unwrap_or_default());
        }
        self
    }

    /// Status of an answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Unauthorized { .. } => Some(401),
            Self::Forbidden { .. } => Some(403),
            Self::NotFound { .. } | Self::NotInstalled { .. } => Some(404),
            Self::Unavailable { .. } => Some(503),
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// The right that a request takes, as RBAC has it: verb, resource, group, namespace.
fn right(place: &Place) -> String {
    let mut parts = place.path.split('/').filter(|part| !part.is_empty());
    let group = match parts.next() {
        Some("apis") => {
            let group = parts.next().unwrap_or_default();
            parts.next();
            group
        }
        Some("api") => {
            parts.next();
            ""
        }
        _ => return format!("the verb get on the path {}", place.path),
    };
    let parts: Vec<_> = parts.collect();
    let (namespace, parts) = match parts.as_slice() {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        all => (None, all),
    };
    let resource = parts.first().copied().unwrap_or_default();
    let verb = match (place.method.as_str(), parts.len()) {
        ("POST", _) => "create",
        (_, 1) => "list",
        _ => "get",
    };
    let of = match group {
        "" => String::new(),
        group => format!(".{group}"),
    };
    let has_namespaces = NAMESPACED.contains(&resource);
    let within = match namespace {
        Some(namespace) => format!("in namespace {namespace}"),
        None if has_namespaces => "in the whole cluster (or ask for one by -n)".to_owned(),
        None => "in the whole cluster".to_owned(),
    };
    format!("{verb} {resource}{of} {within}")
}

/// The cause below all others, which names what happened.
fn innermost(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    text
}
