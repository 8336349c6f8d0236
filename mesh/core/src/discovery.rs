//! Insertion into the responses of aggregated discovery, in both of its forms.
//!
//! State of the world: `DiscoveryResponse{resources 2, type_url 4, nonce 5}`, `DiscoveryRequest{type_url 4,
//! response_nonce 5, error_detail 6}`. Delta: `DeltaDiscoveryResponse{resources 2, type_url 4, nonce 5,
//! removed_resources 6}` with `Resource{name 3, resource 2}`, `DeltaDiscoveryRequest{type_url 2, response_nonce 6,
//! error_detail 7}`.

use crate::insertion::Insertion;
use crate::listener;
use crate::wire::{Field, Message, Splices, WireError, delimited};

/// Type of listeners.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Type of clusters.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

const RESOURCES: u32 = 2;
const RESPONSE_TYPE: u32 = 4;
const RESPONSE_NONCE: u32 = 5;
const REMOVED: u32 = 6;
const ANY_TYPE: u32 = 1;
const ANY_VALUE: u32 = 2;
const RESOURCE_VERSION: u32 = 1;
const RESOURCE_ANY: u32 = 2;
const RESOURCE_NAME: u32 = 3;
const STATUS_MESSAGE: u32 = 2;
const INITIAL_VERSIONS: u32 = 5;
const MAP_KEY: u32 = 1;

/// Longest text of a rejection that is kept.
const REASON_BYTES_MAX: usize = 1024;

/// How resources are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// All of a type at once.
    StateOfTheWorld,
    /// What changed.
    Delta,
}

/// A response with our parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed {
    /// It.
    pub response: Vec<u8>,
    /// Resources that were changed or added.
    pub resources: usize,
    /// Resources of the type that could not be read, and are as they were.
    pub malformed: usize,
    /// Resources that are as they were because their change was refused before.
    pub refused: usize,
}

/// What an interposer has to know of a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResponseHead {
    /// Type of its resources.
    pub type_url: String,
    /// Number used once, by which it is answered.
    pub nonce: String,
}

/// What an interposer has to know of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestHead {
    /// Type of the resources.
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

/// Reads the head of a response.
pub fn response_head(response: &[u8]) -> Result<ResponseHead, WireError> {
    let message = Message::parse(response)?;
    Ok(ResponseHead {
        type_url: message.text(RESPONSE_TYPE)?.to_owned(),
        nonce: message.text(RESPONSE_NONCE)?.to_owned(),
    })
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

/// The message with another nonce, for an answer that goes on to the origin or a response that goes out again.
pub fn with_nonce(message: &[u8], nonce_field: u32, nonce: &str) -> Result<Vec<u8>, WireError> {
    let parsed = Message::parse(message)?;
    let mut edit = parsed.edit();
    match parsed.one(nonce_field)? {
        Some(field) => edit.replace(field, nonce.as_bytes()),
        None => edit.append(nonce_field, nonce.as_bytes()),
    }
    Ok(edit.finish())
}

/// The resources of a response, as bytes; in delta discovery without their envelopes, which have versions.
pub fn resources(response: &[u8], form: Form) -> Result<Vec<&[u8]>, WireError> {
    let message = Message::parse(response)?;
    let all = message.all(RESOURCES).map(|field| {
        let resource = message.content(field)?;
        content(resource, form)
    });
    all.collect()
}

fn content(resource: &[u8], form: Form) -> Result<&[u8], WireError> {
    if form == Form::StateOfTheWorld {
        return Ok(resource);
    }
    let envelope = Message::parse(resource)?;
    let any = envelope.one(RESOURCE_ANY)?;
    any.map_or(Ok(&[]), |field| envelope.content(field))
}

/// The names of what a response of delta discovery changes or removes.
pub fn names(response: &[u8]) -> Result<Vec<String>, WireError> {
    let message = Message::parse(response)?;
    let all = message.all(RESOURCES).chain(message.all(REMOVED));
    all.map(|field| Ok(name(&message, field)?.to_owned()))
        .collect()
}

fn name<'a>(message: &Message<'a>, field: &Field) -> Result<&'a str, WireError> {
    let content = message.content(field)?;
    if field.number == RESOURCES {
        return Message::parse(content)?.text(RESOURCE_NAME);
    }
    std::str::from_utf8(content).map_err(|_| WireError::Text(field.number))
}

/// A response of delta discovery without what it says of these names; `None` if nothing is left of it.
pub fn without_names(response: &[u8], names: &[String]) -> Result<Option<Vec<u8>>, WireError> {
    let message = Message::parse(response)?;
    let mut edit = message.edit();
    let mut left = 0;
    for field in message.all(RESOURCES).chain(message.all(REMOVED)) {
        let name = name(&message, field)?;
        if names.iter().any(|one| one == name) {
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

/// A request of delta discovery without the versions of these resources; `None` if it has none of them.
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

/// The response with our parts; `None` if they have no place in it. In delta discovery what is `refused`, by its bytes, is
/// left as it is.
pub fn insert(
    response: &[u8],
    form: Form,
    insertion: &Insertion,
    refused: impl Fn(&[u8]) -> bool,
) -> Result<Option<Changed>, WireError> {
    let message = Message::parse(response)?;
    let refused =
        |resource: &[u8]| form == Form::Delta && content(resource, form).is_ok_and(&refused);
    match message.text(RESPONSE_TYPE)? {
        LISTENER => Ok(into_listeners(&message, form, insertion, refused)),
        CLUSTER => beside_clusters(&message, form, insertion, refused),
        _ => Ok(None),
    }
}

fn into_listeners(
    message: &Message<'_>,
    form: Form,
    insertion: &Insertion,
    was_refused: impl Fn(&[u8]) -> bool,
) -> Option<Changed> {
    let mut edit = message.edit();
    let (mut resources, mut malformed, mut refused) = (0, 0, 0);
    for field in message.all(RESOURCES) {
        let resource = message.content(field);
        match resource.and_then(|resource| into_resource(resource, form, insertion)) {
            Ok(Some(_)) if resource.is_ok_and(&was_refused) => refused += 1,
            Ok(Some(changed)) => {
                edit.nest(field, changed);
                resources += 1;
            }
            Ok(None) => {}
            Err(_) => malformed += 1,
        }
    }
    (resources + malformed + refused > 0).then(|| Changed {
        response: edit.finish(),
        resources,
        malformed,
        refused,
    })
}

fn into_resource(
    resource: &[u8],
    form: Form,
    insertion: &Insertion,
) -> Result<Option<Splices>, WireError> {
    if form == Form::StateOfTheWorld {
        return into_any(resource, insertion);
    }
    let resource = Message::parse(resource)?;
    let Some(any) = resource.one(RESOURCE_ANY)? else {
        return Ok(None);
    };
    let Some(changed) = into_any(resource.content(any)?, insertion)? else {
        return Ok(None);
    };
    let mut edit = resource.edit();
    edit.nest(any, changed);
    Ok(Some(edit.splices()))
}

fn into_any(any: &[u8], insertion: &Insertion) -> Result<Option<Splices>, WireError> {
    let any = Message::parse(any)?;
    if any.text(ANY_TYPE)? != LISTENER {
        return Ok(None);
    }
    let Some(value) = any.one(ANY_VALUE)? else {
        return Ok(None);
    };
    let Some(changed) = listener::splices(any.content(value)?, insertion)? else {
        return Ok(None);
    };
    let mut edit = any.edit();
    edit.nest(value, changed);
    Ok(Some(edit.splices()))
}

fn beside_clusters(
    message: &Message<'_>,
    form: Form,
    insertion: &Insertion,
    was_refused: impl Fn(&[u8]) -> bool,
) -> Result<Option<Changed>, WireError> {
    let there = message.all(RESOURCES).map(|field| message.content(field));
    let there = there.collect::<Result<Vec<_>, _>>()?;
    let mut edit = message.edit();
    let mut resources = 0;
    for cluster in &insertion.clusters {
        let mut any = Vec::new();
        delimited(&mut any, ANY_TYPE, CLUSTER.as_bytes());
        delimited(&mut any, ANY_VALUE, &cluster.encode());
        if form == Form::Delta {
            let mut resource = Vec::new();
            delimited(&mut resource, RESOURCE_VERSION, b"meshmeter");
            delimited(&mut resource, RESOURCE_ANY, &any);
            delimited(&mut resource, RESOURCE_NAME, cluster.name.as_bytes());
            any = resource;
        }
        if !there.contains(&any.as_slice()) {
            edit.append(RESOURCES, &any);
            resources += 1;
        }
    }
    if resources == 0 {
        return Ok(None);
    }
    let all_refused = !there.is_empty() && there.iter().all(|resource| was_refused(resource));
    Ok(Some(if all_refused {
        Changed {
            response: message.edit().finish(),
            resources: 0,
            malformed: 0,
            refused: there.len(),
        }
    } else {
        Changed {
            response: edit.finish(),
            resources,
            malformed: 0,
            refused: 0,
        }
    }))
}
