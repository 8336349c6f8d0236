//! The messages of Envoy's `envoy.service.metrics.v3.MetricsService`, as far as they are read: fields that are not
//! named here are Envoy's own and are passed over.

use std::collections::HashMap;

/// `envoy.service.metrics.v3.StreamMetricsMessage`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StreamMetricsMessage {
    /// Only in the first message of a stream.
    #[prost(message, optional, tag = "1")]
    pub(crate) identifier: Option<Identifier>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) envoy_metrics: Vec<MetricFamily>,
}

/// `envoy.service.metrics.v3.StreamMetricsResponse`
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct StreamMetricsResponse {}

/// `StreamMetricsMessage.Identifier`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Identifier {
    #[prost(message, optional, tag = "1")]
    pub(crate) node: Option<Node>,
}

/// `envoy.config.core.v3.Node`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Node {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) metadata: Option<Struct>,
}

/// `google.protobuf.Struct`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Struct {
    #[prost(map = "string, message", tag = "1")]
    pub(crate) fields: HashMap<String, Value>,
}

/// `google.protobuf.Value`, as far as it is read.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Value {
    #[prost(oneof = "Kind", tags = "3, 5")]
    pub(crate) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Kind {
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(message, tag = "5")]
    Struct(Struct),
}

/// `io.prometheus.client.MetricFamily`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MetricFamily {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "4")]
    pub(crate) metric: Vec<Metric>,
}

/// `io.prometheus.client.Metric`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub(crate) label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub(crate) gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    pub(crate) counter: Option<Number>,
    #[prost(int64, tag = "6")]
    pub(crate) timestamp_ms: i64,
}

/// `io.prometheus.client.LabelPair`
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct LabelPair {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

/// `io.prometheus.client.Counter` and `Gauge`
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Number {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
}

// === impl Struct ===

impl Struct {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.fields.get(name)?.kind.as_ref()? {
            Kind::Text(text) => Some(text),
            Kind::Struct(_) => None,
        }
    }

    pub(crate) fn inner(&self, name: &str) -> Option<&Self> {
        match self.fields.get(name)?.kind.as_ref()? {
            Kind::Struct(inner) => Some(inner),
            Kind::Text(_) => None,
        }
    }
}
