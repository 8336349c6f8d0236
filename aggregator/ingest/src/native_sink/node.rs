//! The pod of an Envoy, from the metadata of its node.

use std::collections::BTreeMap;

use aggregator_core::limits::UID_BYTES_MAX;
use aggregator_core::pod::{Labels, PodKey};

use crate::native_sink::message::{Kind, Node, Struct};
use crate::parse::{self, FieldError};

/// Path of the identity, for errors.
const METADATA: &str = "identifier.node.metadata.meshmeter";
/// Stat prefixes that meshes give to the connection managers of inbound listeners.
const INBOUND_PREFIXES: [&str; 2] = ["ingress", "inbound"];
/// Bytes of the list of stat prefixes in a node's metadata.
const INBOUND_BYTES_MAX: usize = 1024;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sidecar {
    pub(crate) pod: PodKey,
    pub(crate) uid: String,
    pub(crate) labels: Labels,
    /// Stat prefixes of the connection managers of inbound listeners, if the node lists them.
    inbound: Option<Vec<String>>,
}

// === impl Sidecar ===

impl Sidecar {
    /// Reads `metadata.meshmeter.{namespace,pod,uid,labels,inbound}`; Istio's `NAMESPACE` and
    /// `NAME` will do for the first two.
    pub(crate) fn of(node: Option<&Node>) -> Result<Self, FieldError> {
        let metadata = node.and_then(|node| node.metadata.as_ref());
        let own = metadata.and_then(|metadata| metadata.inner("meshmeter"));
        let text = |name: &str, istio: &str| {
            own.and_then(|own| own.text(name))
                .or_else(|| metadata?.text(istio))
                .unwrap_or_default()
        };
        let field = |name: &str| format!("{METADATA}.{name}");
        let (namespace, pod) = (text("namespace", "NAMESPACE"), text("pod", "NAME"));
        let uid = text("uid", "");
        parse::namespace_name(&field("namespace"), namespace)?;
        parse::pod_name(&field("pod"), pod)?;
        parse::text(field("uid"), uid, UID_BYTES_MAX)?;
        let inbound = own.and_then(|own| own.text("inbound"));
        parse::text(
            field("inbound"),
            inbound.unwrap_or_default(),
            INBOUND_BYTES_MAX,
        )?;
        Ok(Self {
            pod: PodKey::new(namespace, pod),
            uid: uid.to_owned(),
            labels: labels(&field("labels"), own.and_then(|own| own.inner("labels")))?,
            inbound: inbound.map(|text| {
                text.split(',')
                    .map(|prefix| prefix.trim().to_owned())
                    .collect()
            }),
        })
    }

    /// True if `stat_prefix` is that of an inbound listener's connection manager.
    pub(crate) fn is_inbound(&self, stat_prefix: &str) -> bool {
        match &self.inbound {
            Some(named) => named.iter().any(|prefix| prefix == stat_prefix),
            None => INBOUND_PREFIXES
                .iter()
                .any(|prefix| stat_prefix.starts_with(prefix)),
        }
    }
}

fn labels(field: &str, of: Option<&Struct>) -> Result<Labels, FieldError> {
    let fields = of.into_iter().flat_map(|of| &of.fields);
    let labels: BTreeMap<String, String> = fields
        .filter_map(|(name, value)| match &value.kind {
            Some(Kind::Text(value)) => Some((name.clone(), value.clone())),
            _ => None,
        })
        .collect();
    parse::labels(field, labels)
}
