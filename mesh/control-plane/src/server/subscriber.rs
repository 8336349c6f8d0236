//! State of one stream: an Envoy's subscriptions, and the resources it was sent and accepted. No
//! I/O.
//!
//! Make before break: new clusters and their endpoints are sent first; listeners and routes that
//! refer to them once Envoy has accepted them, which it does when they are warm; and a cluster is
//! removed once Envoy has accepted routes without it.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations>

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::protobuf::value::Kind;

use crate::envoy::{CLUSTER, ENDPOINT, LISTENER, Ports, ROUTE, Snapshot, TYPES, version};
use crate::mesh::Meshes;

/// Names in one subscription at most: more than there are resources of a type.
const NAMES_MAX: usize = 20_000;

#[derive(Debug)]
pub(super) struct Subscriber {
    node: String,
    ports: Ports,
    /// By type URL; a type is present once Envoy subscribed to it.
    sent: BTreeMap<&'static str, SentState>,
    snapshot: Snapshot,
    /// Replaces `snapshot` once Envoy's first clusters are warm.
    deferred: Option<Snapshot>,
    /// Clusters that are no longer in the snapshot, but that Envoy's routes may still refer to.
    draining: BTreeMap<String, Any>,
    last_nonce: u64,
}

/// The subscription to a type, and the last response of it.
#[derive(Debug, Default)]
struct SentState {
    names: BTreeSet<String>,
    nonce: String,
    version: String,
    reply: EnvoyReply,
    /// Send the type again even if it is unchanged.
    resend: bool,
}

/// Envoy's reply to the last response of a type.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum EnvoyReply {
    #[default]
    Pending,
    Accepted,
    Rejected,
}

/// Result of [`Subscriber::receive`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Received {
    Ok,
    /// Envoy rejected the last response of this type.
    Rejection(&'static str),
    /// More than [`NAMES_MAX`].
    TooManyNames,
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
            ports: Ports {
                ingress: metadata("meshmeter.ingress"),
                egress: metadata("meshmeter.egress"),
                application: metadata("meshmeter.application"),
            },
            sent: BTreeMap::new(),
            snapshot: Snapshot::default(),
            deferred: None,
            draining: BTreeMap::new(),
            last_nonce: 0,
        }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Takes a new snapshot from `meshes`; false if they have no workload or gateway for the node.
    pub(super) fn update(&mut self, meshes: &Meshes) -> bool {
        let new = if let Some(workload) = meshes.node_of(&self.node) {
            Snapshot::new(&workload, &self.ports)
        } else if let Some(gateway) = meshes.gateway_of(&self.node) {
            Snapshot::of_gateway(&gateway, &self.ports)
        } else {
            return false;
        };
        self.deferred = None;
        if !self.is_initializing() {
            self.replace(new);
            return true;
        }
        // If the discovery type of a cluster changes while Envoy initializes, Envoy miscounts the
        // clusters that it waits for (seen on 1.36.4 and 1.40.0), and would never become ready.
        let kept = new.keeping_discovery_types_of(&self.snapshot);
        self.deferred = (kept != new).then_some(new);
        self.replace(kept);
        true
    }

    /// True while Envoy waits for its first clusters: only after that it requests listeners.
    fn is_initializing(&self) -> bool {
        self.sent.contains_key(CLUSTER) && !self.sent.contains_key(LISTENER)
    }

    fn replace(&mut self, snapshot: Snapshot) {
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        // Only clusters that the new snapshot lacks drain; the others are sent from it.
        self.draining.extend(before.of(CLUSTER).clone());
        let current = self.snapshot.of(CLUSTER);
        self.draining.retain(|name, _| !current.contains_key(name));
    }

    /// Handles a request: a subscription, and Envoy's ACK or NACK of the last response.
    pub(super) fn receive(&mut self, request: DiscoveryRequest) -> Received {
        let Some(type_url) = TYPES
            .into_iter()
            .find(|served| **served == request.type_url)
        else {
            return Received::Ok;
        };
        if request.resource_names.len() > NAMES_MAX {
            return Received::TooManyNames;
        }
        let first = !self.sent.contains_key(type_url);
        // The first request for listeners shows that Envoy's first clusters are warm.
        if type_url == LISTENER
            && let Some(snapshot) = self.deferred.take()
        {
            self.replace(snapshot);
        }
        let sent = self.sent.entry(type_url).or_default();
        // xDS: a request with the nonce of an earlier response is stale, its names included.
        if !request.response_nonce.is_empty() && request.response_nonce != sent.nonce {
            return Received::Ok;
        }
        let names: BTreeSet<_> = request.resource_names.into_iter().collect();
        // xDS: a changed subscription is answered even if the resources are unchanged.
        sent.resend |= first || request.response_nonce.is_empty() || names != sent.names;
        sent.names = names;
        if let Some(error) = &request.error_detail {
            sent.reply = EnvoyReply::Rejected;
            tracing::error!(
                node = self.node,
                type_url,
                reason = error.message,
                "Envoy rejected a response"
            );
            return Received::Rejection(type_url);
        }
        if !request.response_nonce.is_empty() {
            sent.reply = EnvoyReply::Accepted;
        }
        Received::Ok
    }

    /// The responses to send now.
    pub(super) fn next(&mut self) -> Vec<DiscoveryResponse> {
        if !self.draining.is_empty() && self.has_accepted(LISTENER) && self.has_accepted(ROUTE) {
            self.draining.clear();
        }
        let mut responses = Vec::new();
        if let Some(response) = self.response(CLUSTER, true) {
            responses.push(response);
            // A changed EDS cluster warms until it gets its endpoints again, changed or not.
            if let Some(sent) = self.sent.get_mut(ENDPOINT) {
                sent.resend = true;
            }
        }
        responses.extend(self.response(ENDPOINT, true));
        let clusters = self.sent.get(CLUSTER).map(|sent| sent.reply);
        if clusters == Some(EnvoyReply::Pending) {
            return responses;
        }
        // Changed routes may refer to clusters that Envoy rejected. A first request is answered
        // all the same: without listeners and routes Envoy would not become ready.
        let changes = clusters != Some(EnvoyReply::Rejected);
        responses.extend(self.response(LISTENER, changes));
        responses.extend(self.response(ROUTE, changes));
        responses
    }

    /// True if Envoy accepted the snapshot's resources of a type, or does not subscribe to it.
    fn has_accepted(&self, type_url: &str) -> bool {
        self.sent.get(type_url).is_none_or(|sent| {
            let is_current = sent.version == version(self.content(type_url, sent).iter());
            is_current && sent.reply == EnvoyReply::Accepted && !sent.resend
        })
    }

    /// A response if one is due or, with `changes`, if the resources differ from the last one.
    fn response(&mut self, type_url: &'static str, changes: bool) -> Option<DiscoveryResponse> {
        let sent = self.sent.get(type_url)?;
        let resources = self.content(type_url, sent);
        let version = version(resources.iter());
        let differs = changes && sent.version != version;
        if !(sent.resend || differs) {
            return None;
        }
        let sent = self.sent.get_mut(type_url)?;
        sent.resend = false;
        sent.version.clone_from(&version);
        if subscribes_to_none(type_url, sent) {
            // Envoy sends no ACK for a type without subscriptions.
            sent.reply = EnvoyReply::Accepted;
            return None;
        }
        self.last_nonce += 1;
        sent.nonce = self.last_nonce.to_string();
        sent.reply = EnvoyReply::Pending;
        Some(DiscoveryResponse {
            version_info: version,
            resources: resources.into_values().collect(),
            type_url: type_url.to_owned(),
            nonce: sent.nonce.clone(),
            ..DiscoveryResponse::default()
        })
    }

    /// The resources of a type that Envoy subscribes to.
    fn content(&self, type_url: &str, sent: &SentState) -> BTreeMap<String, Any> {
        let mut resources = self.snapshot.of(type_url).clone();
        if type_url == CLUSTER {
            resources.extend(self.draining.clone());
        }
        if subscribes_to_none(type_url, sent) {
            resources.clear();
        }
        if !sent.names.is_empty() {
            resources.retain(|name, _| sent.names.contains(name));
        }
        resources
    }
}

/// xDS: an empty list of names is a wildcard for listeners and clusters only.
fn subscribes_to_none(type_url: &str, sent: &SentState) -> bool {
    sent.names.is_empty() && [ENDPOINT, ROUTE].contains(&type_url)
}

#[cfg(test)]
mod tests;
