//! A response, read once: what is asked of it afterwards, and what goes into it. Envelopes of
//! resources are read one after the other, since what a message takes once it is read may be many
//! times its bytes.

use super::{CLUSTER, Form, LISTENER, REMOVED, RESOURCE_NAME, RESOURCES, RESPONSE_NONCE, name};
use crate::injection::Injection;
use crate::listener;
use crate::wire::{Message, Splices, WireError, delimited};

const RESPONSE_TYPE: u32 = 4;
const ANY_TYPE: u32 = 1;
const ANY_VALUE: u32 = 2;
const RESOURCE_VERSION: u32 = 1;
const RESOURCE_ANY: u32 = 2;

#[derive(Debug)]
pub struct Response<'a> {
    message: Message<'a>,
    form: Form,
    type_url: &'a str,
    nonce: &'a str,
}

/// A response with our parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed<'a> {
    pub response: Vec<u8>,
    /// Resources that were changed or added.
    pub resources: usize,
    /// Resources of the type that could not be read, and are as they were.
    pub malformed: usize,
    /// Resources that are as they were because their change was refused before.
    pub refused: usize,
    /// What [`Response::contents`] says of it as it was; `None` if that is an error.
    pub contents: Option<Vec<&'a [u8]>>,
}

struct Resource<'a> {
    /// In delta discovery what is around its content.
    envelope: Option<Message<'a>>,
    /// An `Any`.
    content: &'a [u8],
}

// === impl Response ===

impl<'a> Response<'a> {
    /// Reads the fields of a response, not what is in them.
    pub fn parse(bytes: &'a [u8], form: Form) -> Result<Self, WireError> {
        let message = Message::parse(bytes)?;
        Ok(Self {
            form,
            type_url: message.text(RESPONSE_TYPE)?,
            nonce: message.text(RESPONSE_NONCE)?,
            message,
        })
    }

    pub fn type_url(&self) -> &'a str {
        self.type_url
    }

    /// Number used once, by which it is answered.
    pub fn nonce(&self) -> &'a str {
        self.nonce
    }

    /// The resources, as bytes; in delta discovery without their envelopes, which have versions.
    pub fn contents(&self) -> Result<Vec<&'a [u8]>, WireError> {
        let resources = self.resources();
        let contents = resources.map(|resource| Ok(Resource::parse(resource?, self.form)?.content));
        contents.collect()
    }

    /// The names of what a response of delta discovery changes or removes.
    pub fn names<T: FromIterator<&'a str>>(&self) -> Result<T, WireError> {
        let message = &self.message;
        let all = message.all(RESOURCES).chain(message.all(REMOVED));
        all.map(|field| name(message, field)).collect()
    }

    /// The response with our parts; `None` if they have no place in it. In delta discovery what is
    /// `refused`, by its content, is left as it is.
    pub fn insert(
        &self,
        injection: &Injection,
        refused: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Changed<'a>>, WireError> {
        let refused = |content: &[u8]| self.form == Form::Delta && refused(content);
        match self.type_url {
            LISTENER => Ok(self.with_listeners(injection, refused)),
            CLUSTER => self.with_clusters(injection, refused),
            _ => Ok(None),
        }
    }

    fn resources(&self) -> impl Iterator<Item = Result<&'a [u8], WireError>> {
        let fields = self.message.all(RESOURCES);
        fields.map(|field| self.message.content(field))
    }

    fn with_listeners(
        &self,
        injection: &Injection,
        was_refused: impl Fn(&[u8]) -> bool,
    ) -> Option<Changed<'a>> {
        let mut edit = self.message.edit();
        let mut contents = Some(Vec::new());
        let (mut resources, mut malformed, mut refused) = (0, 0, 0);
        for field in self.message.all(RESOURCES) {
            let resource = self.message.content(field);
            let Ok(resource) = resource.and_then(|bytes| Resource::parse(bytes, self.form)) else {
                contents = None;
                malformed += 1;
                continue;
            };
            if let Some(contents) = &mut contents {
                contents.push(resource.content);
            }
            match resource.splices(injection) {
                Ok(Some(_)) if was_refused(resource.content) => refused += 1,
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
            contents,
        })
    }

    fn with_clusters(
        &self,
        injection: &Injection,
        was_refused: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Changed<'a>>, WireError> {
        let there = self.resources().collect::<Result<Vec<_>, _>>()?;
        let mut edit = self.message.edit();
        let mut resources = 0;
        for cluster in &injection.clusters {
            let mut any = Vec::new();
            delimited(&mut any, ANY_TYPE, CLUSTER.as_bytes());
            delimited(&mut any, ANY_VALUE, &cluster.encode());
            if self.form == Form::Delta {
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
        let contents = self.contents().ok();
        let all_refused = |contents: &Vec<&[u8]>| {
            !contents.is_empty() && contents.iter().all(|content| was_refused(content))
        };
        Ok(Some(if contents.as_ref().is_some_and(all_refused) {
            Changed {
                response: self.message.edit().finish(),
                resources: 0,
                malformed: 0,
                refused: there.len(),
                contents,
            }
        } else {
            Changed {
                response: edit.finish(),
                resources,
                malformed: 0,
                refused: 0,
                contents,
            }
        }))
    }
}

// === impl Resource ===

impl<'a> Resource<'a> {
    fn parse(bytes: &'a [u8], form: Form) -> Result<Self, WireError> {
        if form == Form::StateOfTheWorld {
            return Ok(Self {
                envelope: None,
                content: bytes,
            });
        }
        let envelope = Message::parse(bytes)?;
        let any = envelope.one(RESOURCE_ANY)?;
        let content = any.map_or(Ok(&[][..]), |field| envelope.content(field))?;
        Ok(Self {
            envelope: Some(envelope),
            content,
        })
    }

    /// What becomes of it with our parts; `None` if they have no place in it.
    fn splices(&self, injection: &Injection) -> Result<Option<Splices>, WireError> {
        let Some(changed) = into_any(self.content, injection)? else {
            return Ok(None);
        };
        let Some(envelope) = &self.envelope else {
            return Ok(Some(changed));
        };
        let mut edit = envelope.edit();
        if let Some(any) = envelope.one(RESOURCE_ANY)? {
            edit.nest(any, changed);
        }
        Ok(Some(edit.splices()))
    }
}

fn into_any(any: &[u8], injection: &Injection) -> Result<Option<Splices>, WireError> {
    let any = Message::parse(any)?;
    if any.text(ANY_TYPE)? != LISTENER {
        return Ok(None);
    }
    let Some(value) = any.one(ANY_VALUE)? else {
        return Ok(None);
    };
    let Some(changed) = listener::splices(any.content(value)?, injection)? else {
        return Ok(None);
    };
    let mut edit = any.edit();
    edit.nest(value, changed);
    Ok(Some(edit.splices()))
}
