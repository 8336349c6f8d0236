//! Injection into the responses of aggregated discovery, in both of its forms.
//!
//! State of the world: `DiscoveryResponse{resources 2, type_url 4, nonce 5}`,
//! `DiscoveryRequest{type_url 4, response_nonce 5, error_detail 6}`. Delta:
//! `DeltaDiscoveryResponse{resources 2, type_url 4, nonce 5, removed_resources 6}` with
//! `Resource{name 3, resource 2}`, `DeltaDiscoveryRequest{type_url 2, response_nonce 6,
//! error_detail 7}`.

use std::collections::BTreeSet;

use crate::envoy_version::EnvoyVersion;
use crate::wire::{Field, Message, WireError};

mod response;

pub use response::{Changed, Response};

pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

const RESOURCES: u32 = 2;
const RESPONSE_NONCE: u32 = 5;
const REMOVED: u32 = 6;
const RESOURCE_NAME: u32 = 3;
const STATUS_MESSAGE: u32 = 2;
const INITIAL_VERSIONS: u32 = 5;
const MAP_KEY: u32 = 1;

/// Fields of `Node`, `BuildVersion` and `SemanticVersion`.
const BUILD_VERSION: u32 = 8;
const VERSION: u32 = 1;
const MAJOR: u32 = 1;
const MINOR: u32 = 2;

/// Characters of Envoy's rejection text that are kept.
const REASON_CHARS_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    StateOfTheWorld,
    Delta,
}

/// The fields of a discovery request that the xDS proxy acts on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestHead {
    pub type_url: String,
    /// Nonce of the acknowledged response; "" in the first request of a type.
    pub nonce: String,
    /// Envoy's reason if this is a NACK.
    pub rejection: Option<String>,
}

// === impl Form ===

impl Form {
    fn request_fields(self) -> (u32, u32, u32) {
        match self {
            Self::StateOfTheWorld => (4, 5, 6),
            Self::Delta => (2, 6, 7),
        }
    }
}

pub fn request_head(request: &[u8], form: Form) -> Result<RequestHead, WireError> {
    let message = Message::parse(request)?;
    let (type_url, nonce, error) = form.request_fields();
    let rejection = match message.one(error)? {
        None => None,
        Some(field) => {
            let status = Message::parse(message.content(field)?)?;
            let text = status.text(STATUS_MESSAGE)?;
            Some(text.chars().take(REASON_CHARS_MAX).collect())
        }
    };
    Ok(RequestHead {
        type_url: message.text(type_url)?.to_owned(),
        nonce: message.text(nonce)?.to_owned(),
        rejection,
    })
}

/// The version of Envoy in a request's node, which the first request of a stream has. Other clients
/// say none.
pub fn envoy_version(request: &[u8], form: Form) -> Result<Option<EnvoyVersion>, WireError> {
    let node = match form {
        Form::StateOfTheWorld => 2,
        Form::Delta => 1,
    };
    let mut message = Message::parse(request)?;
    for number in [node, BUILD_VERSION, VERSION] {
        let Some(field) = message.one(number)? else {
            return Ok(None);
        };
        message = Message::parse(message.content(field)?)?;
    }
    let (major, minor) = (message.number(MAJOR)?, message.number(MINOR)?);
    Ok(Some(EnvoyVersion::new(major, minor)))
}

/// Replaces the nonce of a request or response; every other byte stays.
pub fn with_nonce(message: &[u8], nonce_field: u32, nonce: &str) -> Result<Vec<u8>, WireError> {
    let parsed = Message::parse(message)?;
    let mut edit = parsed.edit();
    match parsed.one(nonce_field)? {
        Some(field) => edit.replace(field, nonce.as_bytes()),
        // Field order is free in protobuf, so appending sets a field that was left out.
        None => edit.append(nonce_field, nonce.as_bytes()),
    }
    Ok(edit.finish())
}

/// The resource name in a [`RESOURCES`] or [`REMOVED`] field of delta discovery.
fn name<'a>(message: &Message<'a>, field: &Field) -> Result<&'a str, WireError> {
    let content = message.content(field)?;
    if field.number == RESOURCES {
        return Message::parse(content)?.text(RESOURCE_NAME);
    }
    std::str::from_utf8(content).map_err(|_| WireError::Text(field.number))
}

/// A delta response without these resources and removals; `None` if none remain.
pub fn without_names(
    response: &[u8],
    names: &BTreeSet<&str>,
) -> Result<Option<Vec<u8>>, WireError> {
    let message = Message::parse(response)?;
    let mut edit = message.edit();
    let mut remaining = 0;
    for field in message.all(RESOURCES).chain(message.all(REMOVED)) {
        let name = name(&message, field)?;
        if names.contains(name) {
            edit.remove(field);
        } else {
            remaining += 1;
        }
    }
    Ok((remaining > 0).then(|| edit.finish()))
}

/// Turns a NACK into an ACK.
pub fn without_rejection(request: &[u8], form: Form) -> Result<Vec<u8>, WireError> {
    let message = Message::parse(request)?;
    let mut edit = message.edit();
    let (_, _, error) = form.request_fields();
    for field in message.all(error) {
        edit.remove(field);
    }
    Ok(edit.finish())
}

/// A delta request without the initial versions of these resources; `None` if it lists none.
pub fn without_versions(request: &[u8], names: &[&str]) -> Result<Option<Vec<u8>>, WireError> {
    let message = Message::parse(request)?;
    let mut edit = message.edit();
    for field in message.all(INITIAL_VERSIONS) {
        let entry = Message::parse(message.content(field)?)?;
        if names.contains(&entry.text(MAP_KEY)?) {
            edit.remove(field);
        }
    }
    Ok((!edit.is_empty()).then(|| edit.finish()))
}

pub fn response_nonce_field() -> u32 {
    RESPONSE_NONCE
}

pub fn request_nonce_field(form: Form) -> u32 {
    form.request_fields().1
}
