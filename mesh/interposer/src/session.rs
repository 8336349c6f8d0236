//! One stream of aggregated discovery, without network: what becomes of each message.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mesh_core::discovery::{self, Form};
use mesh_core::insertion::Insertion;

#[cfg(test)]
mod tests;

/// Nonces of ours begin so.
const OURS: &str = "meshmeter-";

/// Types whose last response is remembered at most; Envoy has a dozen.
const TYPES_MAX: usize = 64;

/// A stream.
#[derive(Debug)]
pub struct Session {
    form: Form,
    insertion: Arc<Insertion>,
    /// The last response of each type that was changed or is ours, and not answered yet.
    open: HashMap<String, Open>,
    rejections: Arc<Rejections>,
    numbers: u64,
}

/// What Envoy rejected, by type: it is not tried again, on whatever stream, until it is something else.
#[derive(Debug, Default)]
pub struct Rejections(Mutex<HashMap<String, u64>>);

#[derive(Debug)]
struct Open {
    nonce: String,
    /// The origin's nonce, if `nonce` is ours.
    of_origin: Option<String>,
    /// What the origin sent, if Envoy has something else.
    original: Option<Bytes>,
}

/// A response of the origin on its way to Envoy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Passed {
    /// What Envoy gets.
    pub response: Bytes,
    /// Resources that were changed or added.
    pub changed: usize,
    /// Resources, or the response itself, that could not be read and are as they were.
    pub malformed: usize,
    /// True if it is left as it is because Envoy rejected the change of just this.
    pub given_up: bool,
}

/// What becomes of a request of Envoy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// It goes to the origin.
    Forward(Bytes),
    /// Envoy rejected what was changed, for this reason; it gets the original.
    Restore {
        /// The original, under a nonce of ours.
        response: Bytes,
        /// Type of the resources.
        type_url: String,
        /// Envoy's words.
        reason: String,
    },
}

// === impl Session ===

impl Session {
    /// A new stream.
    pub fn new(form: Form, insertion: Arc<Insertion>, rejections: Arc<Rejections>) -> Self {
        Self {
            form,
            insertion,
            open: HashMap::new(),
            rejections,
            numbers: 0,
        }
    }

    /// A response of the origin. `may_insert`: the modules are there.
    pub fn response(&mut self, response: Bytes, may_insert: bool) -> Passed {
        let Ok(head) = discovery::response_head(&response) else {
            return Passed::unchanged(response, 1);
        };
        self.open.remove(&head.type_url);
        if !may_insert {
            return Passed::unchanged(response, 0);
        }
        let changed = match discovery::insert(&response, self.form, &self.insertion) {
            Ok(Some(changed)) => changed,
            Ok(None) => return Passed::unchanged(response, 0),
            Err(_) => return Passed::unchanged(response, 1),
        };
        if changed.resources == 0 {
            return Passed::unchanged(response, changed.malformed);
        }
        let given_up = self.rejections.has(&head.type_url, &response);
        if given_up || self.open.len() >= TYPES_MAX {
            return Passed {
                given_up,
                ..Passed::unchanged(response, changed.malformed)
            };
        }
        self.open.insert(
            head.type_url,
            Open {
                nonce: head.nonce,
                of_origin: None,
                original: Some(response),
            },
        );
        Passed {
            response: changed.response.into(),
            changed: changed.resources,
            malformed: changed.malformed,
            given_up: false,
        }
    }

    /// A request of Envoy.
    pub fn request(&mut self, request: Bytes) -> Request {
        let Ok(head) = discovery::request_head(&request, self.form) else {
            return Request::Forward(request);
        };
        let request = self.without_ours(request, &head.type_url);
        if head.nonce.is_empty() {
            return Request::Forward(request);
        }
        let answered = self.open.get(&head.type_url);
        let Some(answered) = answered.filter(|open| open.nonce == head.nonce) else {
            // It answers one before: ours are nobody else's business.
            return Request::Forward(if head.nonce.starts_with(OURS) {
                self.renamed(request, "")
            } else {
                request
            });
        };
        match (&answered.original, &answered.of_origin, head.rejection) {
            (Some(original), _, Some(reason)) => {
                let (original, nonce) = (original.clone(), head.nonce);
                self.restore(original, head.type_url, nonce, reason)
            }
            (None, Some(of_origin), _) => {
                let of_origin = of_origin.clone();
                Request::Forward(self.renamed(request, &of_origin))
            }
            _ => Request::Forward(request),
        }
    }

    fn restore(
        &mut self,
        original: Bytes,
        type_url: String,
        nonce: String,
        reason: String,
    ) -> Request {
        self.numbers += 1;
        let ours = format!("{OURS}{}", self.numbers);
        let renamed = discovery::with_nonce(&original, discovery::response_nonce_field(), &ours);
        self.rejections.add(&type_url, &original);
        let response = renamed.map_or(original, Bytes::from);
        let open = Open {
            nonce: ours,
            of_origin: Some(nonce),
            original: None,
        };
        self.open.insert(type_url.clone(), open);
        Request::Restore {
            response,
            type_url,
            reason,
        }
    }

    fn renamed(&self, request: Bytes, nonce: &str) -> Bytes {
        let field = discovery::request_nonce_field(self.form);
        discovery::with_nonce(&request, field, nonce).map_or(request, Bytes::from)
    }

    /// A new stream of delta discovery begins with the versions that Envoy has; the origin does not know ours.
    fn without_ours(&self, request: Bytes, type_url: &str) -> Bytes {
        if self.form != Form::Delta || type_url != discovery::CLUSTER {
            return request;
        }
        let names = self
            .insertion
            .clusters
            .iter()
            .map(|cluster| cluster.name.as_str());
        let names: Vec<_> = names.collect();
        match discovery::without_versions(&request, &names) {
            Ok(Some(changed)) => changed.into(),
            Ok(None) | Err(_) => request,
        }
    }
}

// === impl Rejections ===

impl Rejections {
    fn add(&self, type_url: &str, response: &[u8]) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() < TYPES_MAX || held.contains_key(type_url) {
            held.insert(type_url.to_owned(), fingerprint(response));
        }
    }

    fn has(&self, type_url: &str, response: &[u8]) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(type_url)
            .is_some_and(|rejected| *rejected == fingerprint(response))
    }
}

// === impl Passed ===

impl Passed {
    fn unchanged(response: Bytes, malformed: usize) -> Self {
        Self {
            response,
            changed: 0,
            malformed,
            given_up: false,
        }
    }
}

/// Of what a response holds, whatever its nonce and version.
fn fingerprint(response: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    match discovery::resources(response) {
        Ok(resources) => resources.hash(&mut hasher),
        Err(_) => response.hash(&mut hasher),
    }
    hasher.finish()
}
