//! One stream of aggregated discovery, without I/O: which message goes where, and in which form.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;
use mesh_core::discovery::{self, Form, Response};
use mesh_core::envoy_version::EnvoyVersion;
use mesh_core::injection::Injection;
use parking_lot::Mutex;

#[cfg(test)]
mod tests;

/// Prefix of nonces that this proxy makes.
const OUR_PREFIX: &str = "meshmeter-";

/// Responses at most that await Envoy's ACK or NACK, or have a nonce of ours; beyond it the oldest
/// is forgotten.
const PENDING_MAX: usize = 64;

/// Rejected changes at most that are remembered per type; beyond it all are forgotten, and tried
/// once more.
const REJECTIONS_MAX: usize = 4096;

/// Largest message in either direction, in bytes, whatever the memory limit.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Copies of a message that passes: received, queued and written, and one that the allocator may
/// retain.
const COPIES_PASSED: u64 = 4;

/// A changed response has two more: the original, until Envoy's ACK or NACK, and the changed form.
const COPIES_CHANGED: u64 = 6;

/// Message sizes that fit into the memory limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Largest response in bytes; a larger one ends its stream.
    pub message_bytes: usize,
    /// Largest response in bytes that is changed; a larger one passes unchanged.
    pub changed_bytes: usize,
    /// Bytes of all originals that await Envoy's ACK or NACK; beyond it responses pass unchanged.
    pub original_bytes: usize,
}

#[derive(Debug)]
pub struct Session {
    form: Form,
    injection: Arc<Injection>,
    /// By the newest request with a node, of which each stream has one at its beginning.
    envoy: Option<EnvoyVersion>,
    /// Changed responses without ACK or NACK yet, and restored originals, in the order in which
    /// they were sent. Several of a type: a control plane need not wait for an ACK.
    pending: VecDeque<Pending>,
    rejections: Arc<Rejections>,
    limits: Limits,
    last_nonce: u64,
}

/// Fingerprints of resources whose change Envoy rejected, by type URL. They are not changed again,
/// on any stream, until their contents differ.
#[derive(Debug, Default)]
pub struct Rejections(Mutex<HashMap<String, HashSet<u64>>>);

#[derive(Debug)]
struct Pending {
    type_url: String,
    nonce: String,
    sent: Sent,
}

#[derive(Debug)]
enum Sent {
    Changed {
        /// The control plane's response without resources that later responses replaced; `None` if
        /// none remain.
        original: Option<Bytes>,
        /// Added to [`Rejections`] if Envoy rejects the response.
        fingerprints: Vec<u64>,
    },
    /// The original of a rejected response, and the nonce that the control plane gave it.
    Restored { control_plane_nonce: String },
}

/// A response of the control plane on its way to Envoy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Passed {
    pub response: Bytes,
    /// Number of resources changed or added.
    pub changed: usize,
    /// Number of resources that could not be parsed; 1 for an unparsable response.
    pub malformed: usize,
    /// A resource stays unchanged because Envoy rejected its change before.
    pub given_up: bool,
    /// Type URL if the response is too large to be changed.
    pub unread: Option<String>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestOutcome {
    pub to_control_plane: Option<Bytes>,
    /// The original of the rejected response, with a nonce of ours.
    pub to_envoy: Option<Bytes>,
    pub rejected: Option<Rejected>,
}

/// Envoy's NACK of a changed response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rejected {
    pub type_url: String,
    pub reason: String,
}

// === impl Limits ===

impl Limits {
    /// Limits under which messages take at most `memory` bytes.
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
            envoy: None,
            pending: VecDeque::new(),
            rejections,
            limits,
            last_nonce: 0,
        }
    }

    /// Handles a response of the control plane. `may_inject`: all modules are usable.
    pub fn response(&mut self, response: Bytes, may_inject: bool) -> Passed {
        let Ok(read) = Response::parse(&response, self.form) else {
            return Passed::unchanged(response, 1);
        };
        let type_url = read.type_url();
        // First of all: also a response that passes unchanged makes older originals obsolete.
        self.supersede(&read);
        if !may_inject || self.injection.unfit(self.envoy).is_some() {
            return Passed::unchanged(response, 0);
        }
        let is_injectable = [discovery::LISTENER, discovery::CLUSTER].contains(&type_url);
        if is_injectable && !self.has_room(response.len()) {
            let unread = Some(type_url.to_owned());
            return Passed {
                unread,
                ..Passed::unchanged(response, 0)
            };
        }
        // Usually nothing was rejected: then no content is hashed.
        let any_rejected = self.rejections.has_any(type_url);
        let rejected = |fingerprint| any_rejected && self.rejections.has(type_url, fingerprint);
        let content_rejected = |content: &[u8]| any_rejected && rejected(fingerprint(content));
        let changed = match read.insert(&self.injection, self.envoy, content_rejected) {
            Ok(Some(changed)) => changed,
            Ok(None) => return Passed::unchanged(response, 0),
            Err(_) => return Passed::unchanged(response, 1),
        };
        let fingerprints = fingerprints(&response, changed.contents.as_deref(), self.form);
        // Envoy rejects a state-of-the-world response as a whole, so it is left as a whole.
        let whole = self.form == Form::StateOfTheWorld
            && fingerprints
                .iter()
                .any(|fingerprint| rejected(*fingerprint));
        let passed = Passed {
            response: changed.response.into(),
            changed: changed.resources,
            malformed: changed.malformed,
            given_up: changed.rejected > 0 || (whole && changed.resources > 0),
            unread: None,
        };
        if changed.resources == 0 || whole {
            return Passed {
                response,
                changed: 0,
                ..passed
            };
        }
        self.remember(Pending {
            type_url: type_url.to_owned(),
            nonce: read.nonce().to_owned(),
            sent: Sent::Changed {
                original: Some(response),
                fingerprints,
            },
        });
        passed
    }

    pub fn request(&mut self, request: Bytes) -> RequestOutcome {
        let Ok(head) = discovery::request_head(&request, self.form) else {
            return RequestOutcome::forward(request);
        };
        let envoy = discovery::envoy_version(&request, self.form);
        let known = self.envoy;
        self.envoy = envoy.ok().flatten().or(known);
        if known.is_none()
            && let Some(sentence) = self.injection.unfit(self.envoy)
        {
            tracing::error!("{sentence}");
        }
        let request = self.without_our_versions(request, &head.type_url);
        if head.nonce.is_empty() {
            return RequestOutcome::forward(request);
        }
        let Some(pending) = self.take_acknowledged(&head.type_url, &head.nonce) else {
            // The response is forgotten or was never changed. The control plane does not know a
            // nonce of ours; without one the request still subscribes.
            return RequestOutcome::forward(if head.nonce.starts_with(OUR_PREFIX) {
                self.with_nonce(request, "")
            } else {
                request
            });
        };
        match (pending.sent, head.rejection) {
            (
                Sent::Changed {
                    original,
                    fingerprints,
                },
                Some(reason),
            ) => {
                self.rejections.add(&head.type_url, &fingerprints);
                let rejected = Rejected {
                    type_url: head.type_url,
                    reason,
                };
                self.restore(&request, original, head.nonce, rejected)
            }
            (Sent::Changed { .. }, None) => RequestOutcome::forward(request),
            (
                Sent::Restored {
                    control_plane_nonce,
                },
                _,
            ) => {
                let forwarded = self.with_nonce(request, &control_plane_nonce);
                // Kept: Envoy sends the same nonce again when it subscribes to other resources. In
                // front, since older responses of this type are gone.
                self.pending.push_front(Pending {
                    type_url: head.type_url,
                    nonce: head.nonce,
                    sent: Sent::Restored {
                        control_plane_nonce,
                    },
                });
                RequestOutcome::forward(forwarded)
            }
        }
    }

    /// Sends Envoy the original under a nonce of ours. If later responses replaced all of it, they
    /// are on their way to Envoy already, and the original must not follow them.
    fn restore(
        &mut self,
        request: &Bytes,
        original: Option<Bytes>,
        nonce: String,
        rejected: Rejected,
    ) -> RequestOutcome {
        let Some(original) = original else {
            // Delta discovery needs an ACK for each response, state of the world only for the last.
            // An ACK, because what Envoy rejected was our change.
            let accepted = discovery::without_rejection(request, self.form).ok();
            let accepted = accepted.filter(|_| self.form == Form::Delta);
            return RequestOutcome {
                to_control_plane: accepted.map(Bytes::from),
                rejected: Some(rejected),
                ..RequestOutcome::default()
            };
        };
        self.last_nonce += 1;
        let ours = format!("{OUR_PREFIX}{}", self.last_nonce);
        let restored = discovery::with_nonce(&original, discovery::response_nonce_field(), &ours);
        self.remember(Pending {
            type_url: rejected.type_url.clone(),
            nonce: ours,
            sent: Sent::Restored {
                control_plane_nonce: nonce,
            },
        });
        // The control plane gets nothing yet: Envoy's ACK or NACK of the original is its answer.
        RequestOutcome {
            to_envoy: Some(restored.map_or(original, Bytes::from)),
            rejected: Some(rejected),
            ..RequestOutcome::default()
        }
    }

    /// Removes from earlier originals what this response replaces.
    fn supersede(&mut self, response: &Response<'_>) {
        let mut names: Option<BTreeSet<&str>> = None;
        for pending in &mut self.pending {
            let Sent::Changed { original, .. } = &mut pending.sent else {
                continue;
            };
            if pending.type_url != response.type_url() {
                continue;
            }
            *original = match (original.take(), self.form) {
                (Some(original), Form::Delta) => {
                    let names = names.get_or_insert_with(|| response.names().unwrap_or_default());
                    let remaining = discovery::without_names(&original, names);
                    remaining.map_or(Some(original), |remaining| remaining.map(Bytes::from))
                }
                // A state of the world replaces everything of its type.
                _ => None,
            };
        }
    }

    /// Whether a response of this size may be changed, and its original kept until Envoy's ACK.
    fn has_room(&self, bytes: usize) -> bool {
        let kept = self
            .pending
            .iter()
            .filter_map(|pending| match &pending.sent {
                Sent::Changed { original, .. } => original.as_ref().map(Bytes::len),
                Sent::Restored { .. } => None,
            });
        bytes <= self.limits.changed_bytes
            && kept.sum::<usize>() + bytes <= self.limits.original_bytes
    }

    fn remember(&mut self, pending: Pending) {
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back(pending);
    }

    /// Removes the response with this nonce, and older ones of its type: Envoy acknowledges in
    /// order, or not at all.
    fn take_acknowledged(&mut self, type_url: &str, nonce: &str) -> Option<Pending> {
        let at = self
            .pending
            .iter()
            .position(|pending| pending.type_url == type_url && pending.nonce == nonce)?;
        let found = self.pending.remove(at)?;
        let mut index = 0;
        self.pending.retain(|pending| {
            index += 1;
            index > at || pending.type_url != type_url
        });
        Some(found)
    }

    fn with_nonce(&self, request: Bytes, nonce: &str) -> Bytes {
        let field = discovery::request_nonce_field(self.form);
        discovery::with_nonce(&request, field, nonce).map_or(request, Bytes::from)
    }

    /// Envoy opens a delta stream with the versions of all resources it has; the control plane does
    /// not know the clusters that were added here.
    fn without_our_versions(&self, request: Bytes, type_url: &str) -> Bytes {
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
    fn add(&self, type_url: &str, fingerprints: &[u64]) {
        let mut by_type = self.0.lock();
        let rejected = by_type.entry(type_url.to_owned()).or_default();
        if rejected.len() + fingerprints.len() > REJECTIONS_MAX {
            rejected.clear();
        }
        rejected.extend(fingerprints.iter().take(REJECTIONS_MAX));
    }

    fn has_any(&self, type_url: &str) -> bool {
        self.0.lock().contains_key(type_url)
    }

    fn has(&self, type_url: &str, fingerprint: u64) -> bool {
        let by_type = self.0.lock();
        let rejected = by_type.get(type_url);
        rejected.is_some_and(|rejected| rejected.contains(&fingerprint))
    }
}

// === impl RequestOutcome ===

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

/// Fingerprints of the contents, without nonce and versions: one for all resources of a state of
/// the world, one for each in delta discovery.
fn fingerprints(response: &[u8], contents: Option<&[&[u8]]>, form: Form) -> Vec<u64> {
    match (contents, form) {
        (Some(contents), Form::Delta) => contents
            .iter()
            .map(|content| fingerprint(*content))
            .collect(),
        (Some(contents), Form::StateOfTheWorld) => vec![fingerprint(contents)],
        (None, _) => vec![fingerprint(response)],
    }
}

fn fingerprint<T: Hash + ?Sized>(content: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
