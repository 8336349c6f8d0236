//! One stream: what an Envoy wants, what it was told and took. No I/O.
//!
//! Make before break: new clusters and their endpoints are told first; what leads there (listeners,
//! routes) once Envoy has taken them, which it says when they are warm; and a cluster that is not
//! needed any more is taken away once Envoy has taken routes without it.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations>

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::protobuf::value::Kind;

use crate::envoy::{CLUSTER, ENDPOINT, LISTENER, Ports, ROUTE, Snapshot, TYPES, version};
use crate::mesh::Meshes;

/// Names that an Envoy may want of one type: more than it is ever told.
const NAMES_MAX: usize = 20_000;

#[derive(Debug)]
pub(super) struct Subscriber {
    node: String,
    place: Ports,
    told: BTreeMap<&'static str, SentState>,
    snapshot: Snapshot,
    /// What the snapshot is to be once Envoy is ready, if that is something else.
    waiting: Option<Snapshot>,
    /// Clusters that are not of the snapshot, but that routes of before may still lead to.
    leaving: BTreeMap<String, Any>,
    nonces: u64,
}

/// What was told of a type.
#[derive(Debug, Default)]
struct SentState {
    names: BTreeSet<String>,
    nonce: String,
    version: String,
    answer: EnvoyReply,
    /// To be told again, even if nothing changed.
    again: bool,
}

/// What Envoy said to what it was told last.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum EnvoyReply {
    #[default]
    None,
    Taken,
    Rejected,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    Fine,
    /// Envoy rejected what it was told of this type.
    Rejection(&'static str),
    /// It wants more names than there are.
    TooMany,
}

// === impl Subscriber ===

impl Subscriber {
    pub(super) fn new(node: &Node) -> Self {
        let metadata = |key: &str| -> Option<SocketAddr> {
            let value = node.metadata.as_ref()?.fields.get(key)?;
            match value.kind.as_ref()? {
                Kind::StringValue(text) => text.parse().ok(),
                _ => None,
            }
        };
        Self {
            node: node.id.clone(),
            place: Ports {
                ingress: metadata("meshmeter.ingress"),
                egress: metadata("meshmeter.egress"),
                application: metadata("meshmeter.application"),
            },
            told: BTreeMap::new(),
            snapshot: Snapshot::default(),
            waiting: None,
            leaving: BTreeMap::new(),
            nonces: 0,
        }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Takes over what the meshes are now. False if there is no such workload in them.
    pub(super) fn update(&mut self, meshes: &Meshes) -> bool {
        let Some(workload) = meshes.node_of(&self.node) else {
            return false;
        };
        let now = Snapshot::new(&workload, &self.place);
        self.waiting = None;
        if !self.begins() {
            self.replace(now);
            return true;
        }
        // An Envoy that is not ready, and has a cluster replaced by one of another kind, loses
        // count of those that it waits for (seen on 1.36.4 and 1.40.0): it would never be ready.
        let held = now.with_kinds_of(&self.snapshot);
        self.waiting = (held != now).then_some(now);
        self.replace(held);
        true
    }

    /// True while Envoy waits for its first clusters to be ready: after that it asks for listeners.
    fn begins(&self) -> bool {
        self.told.contains_key(CLUSTER) && !self.told.contains_key(LISTENER)
    }

    fn replace(&mut self, snapshot: Snapshot) {
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        // Of those, only what is not there any more is ever told from here.
        self.leaving.extend(before.of(CLUSTER).clone());
        let now = self.snapshot.of(CLUSTER);
        self.leaving.retain(|name, _| !now.contains_key(name));
    }

    /// Takes a request: what is wanted, and what Envoy says to what it was told.
    pub(super) fn hear(&mut self, request: DiscoveryRequest) -> Heard {
        let Some(type_url) = TYPES.into_iter().find(|known| **known == request.type_url) else {
            return Heard::Fine;
        };
        if request.resource_names.len() > NAMES_MAX {
            return Heard::TooMany;
        }
        let first = !self.told.contains_key(type_url);
        if type_url == LISTENER
            && let Some(now) = self.waiting.take()
        {
            self.replace(now);
        }
        let told = self.told.entry(type_url).or_default();
        // An answer to a response before the last one says nothing new.
        if !request.response_nonce.is_empty() && request.response_nonce != told.nonce {
            return Heard::Fine;
        }
        let names: BTreeSet<_> = request.resource_names.into_iter().collect();
        told.again |= first || request.response_nonce.is_empty() || names != told.names;
        told.names = names;
        if let Some(error) = &request.error_detail {
            told.answer = EnvoyReply::Rejected;
            tracing::error!(
                node = self.node,
                type_url,
                reason = error.message,
                "Envoy rejected a response"
            );
            return Heard::Rejection(type_url);
        }
        if !request.response_nonce.is_empty() {
            told.answer = EnvoyReply::Taken;
        }
        Heard::Fine
    }

    /// What Envoy is to be told now.
    pub(super) fn next(&mut self) -> Vec<DiscoveryResponse> {
        if !self.leaving.is_empty() && self.has_taken(LISTENER) && self.has_taken(ROUTE) {
            self.leaving.clear();
        }
        let mut responses = Vec::new();
        if let Some(response) = self.response(CLUSTER, true) {
            responses.push(response);
            // A cluster that changed waits for its endpoints, even if those did not.
            if let Some(told) = self.told.get_mut(ENDPOINT) {
                told.again = true;
            }
        }
        responses.extend(self.response(ENDPOINT, true));
        let clusters = self.told.get(CLUSTER).map(|told| told.answer);
        if clusters == Some(EnvoyReply::None) {
            return responses;
        }
        // Without its clusters nothing leads anywhere new; but an Envoy that begins has to have
        // something.
        let changes = clusters != Some(EnvoyReply::Rejected);
        responses.extend(self.response(LISTENER, changes));
        responses.extend(self.response(ROUTE, changes));
        responses
    }

    /// True if Envoy uses what the snapshot has of a type, or nothing of the type.
    fn has_taken(&self, type_url: &str) -> bool {
        self.told.get(type_url).is_none_or(|told| {
            let current = told.version == version(self.content(type_url, told).iter());
            current && told.answer == EnvoyReply::Taken && !told.again
        })
    }

    /// A response if it is asked for or, with `changes`, if it is another than the last one.
    fn response(&mut self, type_url: &'static str, changes: bool) -> Option<DiscoveryResponse> {
        let told = self.told.get(type_url)?;
        let resources = self.content(type_url, told);
        let version = version(resources.iter());
        let another = changes && told.version != version;
        if !(told.again || another) {
            return None;
        }
        let told = self.told.get_mut(type_url)?;
        told.again = false;
        told.version.clone_from(&version);
        if nothing_is_wanted(type_url, told) {
            // Envoy does not answer to what it does not want.
            told.answer = EnvoyReply::Taken;
            return None;
        }
        self.nonces += 1;
        told.nonce = self.nonces.to_string();
        told.answer = EnvoyReply::None;
        Some(DiscoveryResponse {
            version_info: version,
            resources: resources.into_values().collect(),
            type_url: type_url.to_owned(),
            nonce: told.nonce.clone(),
            ..DiscoveryResponse::default()
        })
    }

    /// Of a type, what Envoy wants.
    fn content(&self, type_url: &str, told: &SentState) -> BTreeMap<String, Any> {
        let mut resources = self.snapshot.of(type_url).clone();
        if type_url == CLUSTER {
            resources.extend(self.leaving.clone());
        }
        if nothing_is_wanted(type_url, told) {
            resources.clear();
        }
        if !told.names.is_empty() {
            resources.retain(|name, _| told.names.contains(name));
        }
        resources
    }
}

/// No names mean all of them, but of what is only ever asked for by name.
fn nothing_is_wanted(type_url: &str, told: &SentState) -> bool {
    told.names.is_empty() && [ENDPOINT, ROUTE].contains(&type_url)
}

#[cfg(test)]
mod tests;
