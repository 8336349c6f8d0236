//! Injection into the responses of aggregated discovery, in both of its forms.
//!
//! State of the world: `DiscoveryResponse{resources 2, type_url 4, nonce 5}`,
//! `DiscoveryRequest{type_url 4, response_nonce 5, error_detail 6}`. Delta:
//! `DeltaDiscoveryResponse{resources 2, type_url 4, nonce 5, removed_resources 6}` with
//! `Resource{name 3, resource 2}`, `DeltaDiscoveryRequest{type_url 2, response_nonce 6,
//! error_detail 7}`.

use std::collections::BTreeSet;

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

/// Longest text of a rejection that is kept.
const REASON_BYTES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// All of a type at once.
    StateOfTheWorld,
    Delta,
}

/// What an xDS proxy has to know of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestHead {
    pub type_url: String,
    /// The response that it answers, "" if none.
    pub nonce: String,
    /// Why that was rejected, if it was.
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

/// Reads the head of a request.
pub fn request_head(request: &[u8], form: Form) -> Result<RequestHead, WireError> {
    let message = Message::parse(request)?;
    let (type_url, nonce, error) = form.request_fields();
    let rejection = match message.one(error)? {
        None => None,
        Some(field) => {
            let status = Message::parse(message.content(field)?)?;
            let text = status.text(STATUS_MESSAGE)?;
            Some(text.chars().take(REASON_BYTES_MAX).collect())
        }
    };
    Ok(RequestHead {
        type_url: message.text(type_url)?.to_owned(),
        nonce: message.text(nonce)?.to_owned(),
        rejection,
    })
}

/// The message with another nonce, for an answer that goes on to the control plane or a response
/// that goes out again.
pub fn with_nonce(message: &[u8], nonce_field: u32, nonce: &str) -> Result<Vec<u8>, WireError> {
    let parsed = Message::parse(message)?;
    let mut edit = parsed.edit();
    match parsed.one(nonce_field)? {
        Some(field) => edit.replace(field, nonce.as_bytes()),
        None => edit.append(nonce_field, nonce.as_bytes()),
    }
    Ok(edit.finish())
}

/// The name in one of the fields [`RESOURCES`] and [`REMOVED`] of delta discovery.
fn name<'a>(message: &Message<'a>, field: &Field) -> Result<&'a str, WireError> {
    let content = message.content(field)?;
    if field.number == RESOURCES {
        return Message::parse(content)?.text(RESOURCE_NAME);
    }
    std::str::from_utf8(content).map_err(|_| WireError::Text(field.number))
}

/// A response of delta discovery without what it says of these names; `None` if nothing is left of
/// it.
pub fn without_names(
    response: &[u8],
    names: &BTreeSet<&str>,
) -> Result<Option<Vec<u8>>, WireError> {
    let message = Message::parse(response)?;
    let mut edit = message.edit();
    let mut left = 0;
    for field in message.all(RESOURCES).chain(message.all(REMOVED)) {
        let name = name(&message, field)?;
        if names.contains(name) {
            edit.remove(field);
        } else {
            left += 1;
        }
    }
    Ok((left > 0).then(|| edit.finish()))
}

/// A request that accepts what it rejected.
pub fn without_rejection(request: &[u8], form: Form) -> Result<Vec<u8>, WireError> {
    let message = Message::parse(request)?;
    let mut edit = message.edit();
    let (_, _, error) = form.request_fields();
    for field in message.all(error) {
        edit.remove(field);
    }
    Ok(edit.finish())
}

/// A request of delta discovery without the versions of these resources; `None` if it has none of
/// them.
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

/// The field of a response's nonce.
pub fn response_nonce_field() -> u32 {
    RESPONSE_NONCE
}

/// The field of the nonce that a request answers.
pub fn request_nonce_field(form: Form) -> u32 {
    form.request_fields().1
}
