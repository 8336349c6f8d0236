//! A discovery response, parsed once, and injection into it. Resource envelopes are parsed one at
//! a time: a parsed message may take many times the memory of its bytes.

use super::{CLUSTER, Form, LISTENER, REMOVED, RESOURCE_NAME, RESOURCES, RESPONSE_NONCE, name};
use crate::envoy_version::EnvoyVersion;
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

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed<'a> {
    pub response: Vec<u8>,
    /// Number of resources changed or added.
    pub resources: usize,
    /// Number of resources that could not be parsed and stay unchanged.
    pub malformed: usize,
    /// Number of resources left unchanged because Envoy rejected their change before.
    pub rejected: usize,
    /// [`Response::contents`] of the original; `None` if that is an error.
    pub contents: Option<Vec<&'a [u8]>>,
}

struct Resource<'a> {
    /// The `Resource` message around the `Any` in delta discovery.
    envelope: Option<Message<'a>>,
    /// An encoded `Any`.
    content: &'a [u8],
}

// === impl Response ===

impl<'a> Response<'a> {
    /// Parses the top-level fields only.
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

    pub fn nonce(&self) -> &'a str {
        self.nonce
    }

    /// The encoded `Any` of each resource; delta discovery's envelopes, which hold versions, are
    /// left out.
    pub fn contents(&self) -> Result<Vec<&'a [u8]>, WireError> {
        let resources = self.resources();
        let contents = resources.map(|resource| Ok(Resource::parse(resource?, self.form)?.content));
        contents.collect()
    }

    /// Names that a delta response changes or removes.
    pub fn names<T: FromIterator<&'a str>>(&self) -> Result<T, WireError> {
        let message = &self.message;
        let all = message.all(RESOURCES).chain(message.all(REMOVED));
        all.map(|field| name(message, field)).collect()
    }

    /// Injects into listeners, adds clusters; `None` if nothing is to be changed. In delta
    /// discovery a resource whose content `was_rejected` stays unchanged.
    pub fn insert(
        &self,
        injection: &Injection,
        envoy: Option<EnvoyVersion>,
        was_rejected: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Changed<'a>>, WireError> {
        // State of the world is rejected as a whole, so there the caller decides by the whole.
        let was_rejected = |content: &[u8]| self.form == Form::Delta && was_rejected(content);
        match self.type_url {
            LISTENER => Ok(self.with_listeners(injection, was_rejected)),
            CLUSTER => self.with_clusters(injection, envoy, was_rejected),
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
        was_rejected: impl Fn(&[u8]) -> bool,
    ) -> Option<Changed<'a>> {
        let mut edit = self.message.edit();
        let mut contents = Some(Vec::new());
        let (mut resources, mut malformed, mut rejected) = (0, 0, 0);
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
                // Only a listener that would be changed counts as left out: a NACK in delta
                // discovery covers all resources of a response, also unchanged ones.
                Ok(Some(_)) if was_rejected(resource.content) => rejected += 1,
                Ok(Some(changed)) => {
                    edit.nest(field, changed);
                    resources += 1;
                }
                Ok(None) => {}
                Err(_) => malformed += 1,
            }
        }
        (resources + malformed + rejected > 0).then(|| Changed {
            response: edit.finish(),
            resources,
            malformed,
            rejected,
            contents,
        })
    }

    fn with_clusters(
        &self,
        injection: &Injection,
        envoy: Option<EnvoyVersion>,
        was_rejected: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Changed<'a>>, WireError> {
        let present = self.resources().collect::<Result<Vec<_>, _>>()?;
        let mut edit = self.message.edit();
        let mut resources = 0;
        for cluster in &injection.clusters {
            let mut any = Vec::new();
            delimited(&mut any, ANY_TYPE, CLUSTER.as_bytes());
            delimited(&mut any, ANY_VALUE, &cluster.encode(envoy));
            if self.form == Form::Delta {
                let mut resource = Vec::new();
                delimited(&mut resource, RESOURCE_VERSION, b"meshmeter");
                delimited(&mut resource, RESOURCE_ANY, &any);
                delimited(&mut resource, RESOURCE_NAME, cluster.name.as_bytes());
                any = resource;
            }
            // Compared as bytes: a response that already passed an xDS proxy is not changed twice.
            if !present.contains(&any.as_slice()) {
                edit.append(RESOURCES, &any);
                resources += 1;
            }
        }
        if resources == 0 {
            return Ok(None);
        }
        let contents = self.contents().ok();
        // A NACK does not say which resource is at fault. If each resource of this response was in
        // a rejected one, the added clusters may be the cause, and are left out.
        let all_rejected = |contents: &Vec<&[u8]>| {
            !contents.is_empty() && contents.iter().all(|content| was_rejected(content))
        };
        Ok(Some(if contents.as_ref().is_some_and(all_rejected) {
            Changed {
                response: self.message.edit().finish(),
                resources: 0,
                malformed: 0,
                rejected: present.len(),
                contents,
            }
        } else {
            Changed {
                response: edit.finish(),
                resources,
                malformed: 0,
                rejected: 0,
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

    /// The changes that inject into this resource; `None` if there are none.
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
