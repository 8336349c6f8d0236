//! Who an Envoy is, by the metadata of its node.

use aggregator_core::limits::{
    LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX, NAME_BYTES_MAX, NAMESPACE_BYTES_MAX,
    UID_BYTES_MAX,
};
use aggregator_core::pod::{Labels, PodKey};

use crate::native_sink::message::{Kind, Node, Struct};
use crate::parse::FieldError;

/// Where the identity stands in the node's metadata.
const METADATA: &str = "identifier.node.metadata.meshmeter";
/// Beginnings of the names that meshes give to the connection managers of inbound listeners.
const INBOUND_PREFIXES: [&str; 2] = ["ingress", "inbound"];

/// An Envoy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sidecar {
    pub(crate) pod: PodKey,
    pub(crate) uid: String,
    pub(crate) labels: Labels,
    /// Stat prefixes of the connection managers of inbound listeners, if the node says.
    inbound: Option<Vec<String>>,
}

// === impl Sidecar ===

impl Sidecar {
    /// Reads `metadata.meshmeter.{namespace,pod,uid,labels,inbound}`; Istio's `NAMESPACE` and `NAME` will do for the first two.
    pub(crate) fn of(node: Option<&Node>) -> Result<Self, FieldError> {
        let metadata = node.and_then(|node| node.metadata.as_ref());
        let own = metadata.and_then(|metadata| metadata.inner("meshmeter"));
        let text = |name: &str, istio: &str| {
            own.and_then(|own| own.text(name))
                .or_else(|| metadata?.text(istio))
                .unwrap_or_default()
        };
        let namespace = bounded(
            "namespace",
            text("namespace", "NAMESPACE"),
            NAMESPACE_BYTES_MAX,
        )?;
        let pod = bounded("pod", text("pod", "NAME"), NAME_BYTES_MAX)?;
        for (field, value) in [("namespace", namespace), ("pod", pod)] {
            if value.is_empty() {
                return Err(FieldError::Missing {
                    field: format!("{METADATA}.{field}"),
                });
            }
        }
        let inbound = own.and_then(|own| own.text("inbound"));
        Ok(Self {
            pod: PodKey::new(namespace, pod),
            uid: bounded("uid", text("uid", ""), UID_BYTES_MAX)?.to_owned(),
            labels: labels(own.and_then(|own| own.inner("labels")))?,
            inbound: inbound.map(|text| {
                text.split(',')
                    .map(|prefix| prefix.trim().to_owned())
                    .collect()
            }),
        })
    }

    /// Whether a connection manager's stat prefix is one of an inbound listener.
    pub(crate) fn is_inbound(&self, stat_prefix: &str) -> bool {
        match &self.inbound {
            Some(named) => named.iter().any(|prefix| prefix == stat_prefix),
            None => INBOUND_PREFIXES
                .iter()
                .any(|prefix| stat_prefix.starts_with(prefix)),
        }
    }
}

fn labels(of: Option<&Struct>) -> Result<Labels, FieldError> {
    let mut labels = Labels::new();
    let Some(of) = of else { return Ok(labels) };
    if of.fields.len() > LABELS_MAX {
        return Err(FieldError::TooMany {
            field: format!("{METADATA}.labels"),
            count: of.fields.len(),
            max: LABELS_MAX,
        });
    }
    let mut fields: Vec<_> = of.fields.iter().collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    for (name, value) in fields {
        if let Some(Kind::Text(value)) = &value.kind {
            let name = bounded("labels", name, LABEL_KEY_BYTES_MAX)?;
            let value = bounded("labels", value, LABEL_VALUE_BYTES_MAX)?;
            labels.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(labels)
}

fn bounded<'a>(field: &str, value: &'a str, max: usize) -> Result<&'a str, FieldError> {
    if value.len() > max {
        return Err(FieldError::TooLong {
            field: format!("{METADATA}.{field}"),
            bytes: value.len(),
            max,
        });
    }
    Ok(value)
}
