//! One stream of aggregated discovery, without network: what becomes of each message.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;
use mesh_core::discovery::{self, Form, Response};
use mesh_core::injection::Injection;
use parking_lot::Mutex;

#[cfg(test)]
mod tests;

/// Nonces of ours begin so.
const OURS: &str = "meshmeter-";

/// Responses at most that Envoy may answer yet, or ask after by a nonce of ours; of more, the
/// oldest is forgotten.
const OPEN_MAX: usize = 64;

/// Changes at most that are remembered as rejected, of each type; at more, all are forgotten and
/// tried once more.
const REJECTIONS_MAX: usize = 4096;

/// Largest message in either direction, in bytes, whatever the memory limit.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A message that passes is there up to three times: received, waiting, and written. One more for
/// what the allocator keeps.
const COPIES_PASSED: u64 = 4;

/// One that is changed is there twice more: its original until Envoy has answered it, and what it
/// is made into.
const COPIES_CHANGED: u64 = 6;

/// What the memory for messages allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of a response; a stream with a larger one ends.
    pub message_bytes: usize,
    /// Bytes of a response that is looked into; a larger one passes as it is.
    pub changed_bytes: usize,
    /// Bytes of responses that wait for Envoy's answer; with more, others pass as they are.
    pub original_bytes: usize,
}

#[derive(Debug)]
pub struct Session {
    form: Form,
    injection: Arc<Injection>,
    /// Responses that were changed and not answered yet, or are ours: several of a type, since
    /// nobody has to wait for an answer with the next one. In the order in which Envoy has them.
    open: VecDeque<Open>,
    rejections: Arc<Rejections>,
    limits: Limits,
    numbers: u64,
}

/// What Envoy rejected, by type: it is not tried again, on whatever stream, until it is something
/// else.
#[derive(Debug, Default)]
pub struct Rejections(Mutex<HashMap<String, HashSet<u64>>>);

#[derive(Debug)]
struct Open {
    type_url: String,
    nonce: String,
    sent: Sent,
}

#[derive(Debug)]
enum Sent {
    /// Something else than the control plane did.
    Changed {
        /// What the control plane did, less what it said anew of the same resources since. `None`
        /// if nothing is left.
        original: Option<Bytes>,
        /// Of what is not tried again if Envoy rejects it.
        marks: Vec<u64>,
    },
    /// The original, after it rejected the response of this nonce.
    Restored { of_control_plane: String },
}

/// A response of the control plane on its way to Envoy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Passed {
    pub response: Bytes,
    /// Resources that were changed or added.
    pub changed: usize,
    /// Resources, or the response itself, that could not be read and are as they were.
    pub malformed: usize,
    /// True if something is left as it is because Envoy rejected the change of just this.
    pub given_up: bool,
    /// The type of its resources, if it was not looked into since it is too large.
    pub unread: Option<String>,
}

/// What becomes of a request of Envoy.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestOutcome {
    /// The control plane gets this.
    pub to_control_plane: Option<Bytes>,
    /// Envoy gets this: the original of what it rejected, under a nonce of ours.
    pub to_envoy: Option<Bytes>,
    /// Envoy rejected what was changed.
    pub rejected: Option<Rejected>,
}

/// A rejection of what was changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rejected {
    pub type_url: String,
    pub reason: String,
}

// === impl Limits ===

impl Limits {
    /// Those under which messages take at most so much memory.
    pub fn within(memory: u64) -> Self {
        let part = |copies: u64| {
            let bytes = usize::try_from(memory / copies).unwrap_or(usize::MAX);
            bytes.min(MESSAGE_BYTES_MAX)
        };
        Self {
            message_bytes: part(COPIES_PASSED),
            changed_bytes: part(COPIES_CHANGED),
            original_bytes: part(COPIES_CHANGED),
        }
    }
}

// === impl Session ===

impl Session {
    pub fn new(
        form: Form,
        injection: Arc<Injection>,
        rejections: Arc<Rejections>,
        limits: Limits,
    ) -> Self {
        Self {
            form,
            injection,
            open: VecDeque::new(),
            rejections,
            limits,
            numbers: 0,
        }
    }

    /// A response of the control plane. `may_insert`: the modules are there.
    pub fn response(&mut self, response: Bytes, may_insert: bool) -> Passed {
        let Ok(read) = Response::parse(&response, self.form) else {
            return Passed::unchanged(response, 1);
        };
        let type_url = read.type_url();
        self.supersede(&read);
        if !may_insert {
            return Passed::unchanged(response, 0);
        }
        let is_ours = [discovery::LISTENER, discovery::CLUSTER].contains(&type_url);
        if is_ours && !self.has_room(response.len()) {
            let unread = Some(type_url.to_owned());
            return Passed {
                unread,
                ..Passed::unchanged(response, 0)
            };
        }
        // Most often nothing is: then no content has to be hashed to look it up.
        let any_refused = self.rejections.has_any(type_url);
        let refused = |mark: u64| any_refused && self.rejections.has(type_url, mark);
        let refused_content = |content: &[u8]| any_refused && refused(mark(content));
        let changed = match read.insert(&self.injection, refused_content) {
            Ok(Some(changed)) => changed,
            Ok(None) => return Passed::unchanged(response, 0),
            Err(_) => return Passed::unchanged(response, 1),
        };
        let marks = marks(&response, changed.contents.as_deref(), self.form);
        // The state of the world is rejected as a whole.
        let whole = self.form == Form::StateOfTheWorld && marks.iter().any(|mark| refused(*mark));
        let passed = Passed {
            response: changed.response.into(),
            changed: changed.resources,
            malformed: changed.malformed,
            given_up: changed.refused > 0 || (whole && changed.resources > 0),
            unread: None,
        };
        if changed.resources == 0 || whole {
            return Passed {
                response,
                changed: 0,
                ..passed
            };
        }
        self.remember(Open {
            type_url: type_url.to_owned(),
            nonce: read.nonce().to_owned(),
            sent: Sent::Changed {
                original: Some(response),
                marks,
            },
        });
        passed
    }

    pub fn request(&mut self, request: Bytes) -> RequestOutcome {
        let Ok(head) = discovery::request_head(&request, self.form) else {
            return RequestOutcome::forward(request);
        };
        let request = self.without_ours(request, &head.type_url);
        if head.nonce.is_empty() {
            return RequestOutcome::forward(request);
        }
        let Some(open) = self.answered(&head.type_url, &head.nonce) else {
            // It answers one that is forgotten: ours are nobody else's business.
            return RequestOutcome::forward(if head.nonce.starts_with(OURS) {
                self.renamed(request, "")
            } else {
                request
            });
        };
        match (open.sent, head.rejection) {
            (Sent::Changed { original, marks }, Some(reason)) => {
                self.rejections.add(&head.type_url, &marks);
                let rejected = Rejected {
                    type_url: head.type_url,
                    reason,
                };
                self.rejected(&request, original, head.nonce, rejected)
            }
            (Sent::Changed { .. }, None) => RequestOutcome::forward(request),
            (Sent::Restored { of_control_plane }, _) => {
                let renamed = self.renamed(request, &of_control_plane);
                // It may ask for other resources by the same nonce again. What came before it is
                // gone.
                self.open.push_front(Open {
                    type_url: head.type_url,
                    nonce: head.nonce,
                    sent: Sent::Restored { of_control_plane },
                });
                RequestOutcome::forward(renamed)
            }
        }
    }

    /// What Envoy gets instead, under a nonce of ours. If the control plane said something else of
    /// all of it since, that is on its way to Envoy, and what was before must not come after.
    fn rejected(
        &mut self,
        request: &Bytes,
        original: Option<Bytes>,
        nonce: String,
        rejected: Rejected,
    ) -> RequestOutcome {
        let Some(original) = original else {
            // In delta discovery each response is to be answered. Of the state of the world only
            // the last one is.
            let accepted = discovery::without_rejection(request, self.form).ok();
            let accepted = accepted.filter(|_| self.form == Form::Delta);
            return RequestOutcome {
                to_control_plane: accepted.map(Bytes::from),
                rejected: Some(rejected),
                ..RequestOutcome::default()
            };
        };
        self.numbers += 1;
        let ours = format!("{OURS}{}", self.numbers);
        let renamed = discovery::with_nonce(&original, discovery::response_nonce_field(), &ours);
        self.remember(Open {
            type_url: rejected.type_url.clone(),
            nonce: ours,
            sent: Sent::Restored {
                of_control_plane: nonce,
            },
        });
        RequestOutcome {
            to_envoy: Some(renamed.map_or(original, Bytes::from)),
            rejected: Some(rejected),
            ..RequestOutcome::default()
        }
    }

    /// The originals of before, without what the control plane now says something else of.
    fn supersede(&mut self, response: &Response<'_>) {
        let mut names: Option<BTreeSet<&str>> = None;
        for open in &mut self.open {
            let Sent::Changed { original, .. } = &mut open.sent else {
                continue;
            };
            if open.type_url != response.type_url() {
                continue;
            }
            *original = match (original.take(), self.form) {
                (Some(original), Form::Delta) => {
                    let names = names.get_or_insert_with(|| response.names().unwrap_or_default());
                    let less = discovery::without_names(&original, names);
                    less.map_or(Some(original), |less| less.map(Bytes::from))
                }
                _ => None,
            };
        }
    }

    /// Whether a response of so many bytes may be looked into, and kept until Envoy answers it.
    fn has_room(&self, bytes: usize) -> bool {
        let kept = self.open.iter().filter_map(|open| match &open.sent {
            Sent::Changed { original, .. } => original.as_ref().map(Bytes::len),
            Sent::Restored { .. } => None,
        });
        bytes <= self.limits.changed_bytes
            && kept.sum::<usize>() + bytes <= self.limits.original_bytes
    }

    fn remember(&mut self, open: Open) {
        if self.open.len() >= OPEN_MAX {
            self.open.pop_front();
        }
        self.open.push_back(open);
    }

    /// Takes out what has this nonce, and what was sent before it: Envoy answers in order, or not
    /// at all.
    fn answered(&mut self, type_url: &str, nonce: &str) -> Option<Open> {
        let at = self
            .open
            .iter()
            .position(|open| open.type_url == type_url && open.nonce == nonce)?;
        let found = self.open.remove(at)?;
        let mut index = 0;
        self.open.retain(|open| {
            index += 1;
            index > at || open.type_url != type_url
        });
        Some(found)
    }

    fn renamed(&self, request: Bytes, nonce: &str) -> Bytes {
        let field = discovery::request_nonce_field(self.form);
        discovery::with_nonce(&request, field, nonce).map_or(request, Bytes::from)
    }

    /// A new stream of delta discovery begins with the versions that Envoy has; the control plane
    /// does not know ours.
    fn without_ours(&self, request: Bytes, type_url: &str) -> Bytes {
        if self.form != Form::Delta || type_url != discovery::CLUSTER {
            return request;
        }
        let names = self
            .injection
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
    fn add(&self, type_url: &str, marks: &[u64]) {
        let mut held = self.0.lock();
        let held = held.entry(type_url.to_owned()).or_default();
        if held.len() + marks.len() > REJECTIONS_MAX {
            held.clear();
        }
        held.extend(marks.iter().take(REJECTIONS_MAX));
    }

    fn has_any(&self, type_url: &str) -> bool {
        let held = self.0.lock();
        held.contains_key(type_url)
    }

    fn has(&self, type_url: &str, mark: u64) -> bool {
        let held = self.0.lock();
        held.get(type_url).is_some_and(|held| held.contains(&mark))
    }
}

// === impl Answer ===

impl RequestOutcome {
    fn forward(request: Bytes) -> Self {
        Self {
            to_control_plane: Some(request),
            ..Self::default()
        }
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
            unread: None,
        }
    }
}

/// Of what Envoy rejects at once, whatever its nonce and version: all of a type, or in delta
/// discovery each for itself.
fn marks(response: &[u8], contents: Option<&[&[u8]]>, form: Form) -> Vec<u64> {
    match (contents, form) {
        (Some(contents), Form::Delta) => contents.iter().map(|content| mark(*content)).collect(),
        (Some(contents), Form::StateOfTheWorld) => vec![mark(contents)],
        (None, _) => vec![mark(response)],
    }
}

fn mark<T: Hash + ?Sized>(of: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
