//! Messages of Envoy's `envoy.service.metrics.v3.MetricsService`, reduced to the fields that are
//! read; others are skipped.

use std::collections::HashMap;

use bytes::{Buf as _, Bytes};
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::close_reason::Refusal;

/// Least average bytes per string or message in a message. Envoy's shortest statistic has 33 bytes
/// for four of them. Decoded, each takes at most some 80 bytes: hence
/// [`crate::limits::GROWTH_MAX`].
const BYTES_EACH: usize = 5;
/// Strings and messages allowed beyond the average, for short messages.
const PARTS_FREE: usize = 64;
/// Levels that are read: message, family, statistic.
const DEPTH: u32 = 3;
/// Bytes of an identifier: the node's metadata, of which Istio has some 20 KiB.
const IDENTIFIER_BYTES_MAX: usize = 256 * 1024;

/// Initial size of a stream's buffers.
const BUFFER_BYTES: usize = 512;
/// Encoded bytes after which a buffer is sent.
const YIELD_BYTES: usize = 8 * 1024;

/// Passes messages on as bytes: the session limits how many are decoded at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codec;

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

/// `google.protobuf.Value`
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

// === impl Codec ===

impl tonic::codec::Codec for Codec {
    type Encode = StreamMetricsResponse;
    type Decode = Bytes;
    type Encoder = ProstEncoder<StreamMetricsResponse>;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(self.buffer_settings())
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Decoder for Codec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

// === impl StreamMetricsMessage ===

impl StreamMetricsMessage {
    /// Decodes a message; refuses one that would take far more memory than its bytes.
    pub(crate) fn from_bytes(bytes: &Bytes) -> Result<Self, Refusal> {
        let malformed = |why: &str| Refusal::Malformed(format!("StreamMetricsMessage: {why}"));
        // Before decoding: an empty string costs two bytes on the wire and a struct in memory.
        let most = bytes.len() / BYTES_EACH + PARTS_FREE;
        let mut left = most;
        count(bytes, DEPTH, &mut left).ok_or_else(|| malformed("not a protobuf message"))?;
        if left == 0 {
            return Err(Refusal::TooLarge(format!(
                "StreamMetricsMessage: more than {most} parts in {} bytes, or an identifier of more than \
                 {IDENTIFIER_BYTES_MAX} bytes",
                bytes.len()
            )));
        }
        Self::decode(bytes.clone()).map_err(|error| malformed(&error.to_string()))
    }
}

/// Decrements `left` for each string or message in `bytes`, down to `depth`, and stops at 0; `None`
/// if `bytes` are no message.
fn count(bytes: &[u8], depth: u32, left: &mut usize) -> Option<()> {
    let mut rest = bytes;
    while !rest.is_empty() && *left > 0 {
        let (field, wire) = decode_key(&mut rest).ok()?;
        if wire != WireType::LengthDelimited {
            skip_field(wire, field, &mut rest, DecodeContext::default()).ok()?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
        let (inner, tail) = rest.split_at_checked(length)?;
        rest = tail;
        *left -= 1;
        match (depth, field) {
            (DEPTH, 1) if length > IDENTIFIER_BYTES_MAX => *left = 0,
            // Families, and their statistics.
            (DEPTH, 2) | (2, 4) => count(inner, depth - 1, left)?,
            _ => {}
        }
    }
    Some(())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What Envoy says is read, and what would take many times its bytes is not.
    #[test]
    fn a_message_that_grows_is_refused() {
        let metric = Metric {
            label: Vec::new(),
            gauge: None,
            counter: Some(Number { value: 0.0 }),
            timestamp_ms: 1_700_000_000_000,
        };
        let family = MetricFamily {
            name: "runtime.num_keys".to_owned(),
            metric: vec![metric],
        };
        let honest = StreamMetricsMessage {
            identifier: None,
            envoy_metrics: vec![family; 1000],
        };
        let bytes = Bytes::from(honest.encode_to_vec());
        assert_eq!(StreamMetricsMessage::from_bytes(&bytes).unwrap(), honest);
        let grows = |family: &[u8], length: usize| {
            let mut bytes = vec![0x12];
            prost::encoding::encode_varint((family.len() * length) as u64, &mut bytes);
            bytes.extend(family.repeat(length));
            Bytes::from(bytes)
        };
        let node = vec![0x0a; IDENTIFIER_BYTES_MAX + 1];
        let mut identifier = vec![0x0a];
        prost::encoding::encode_varint(node.len() as u64, &mut identifier);
        identifier.extend(node);
        for (what, bytes, reason) in [
            (
                "families",
                Bytes::from([0x12, 0].repeat(10_000)),
                "frame_too_large",
            ),
            ("statistics", grows(&[0x22, 0], 10_000), "frame_too_large"),
            ("identifier", identifier.into(), "frame_too_large"),
            (
                "garbage",
                Bytes::from_static(&[0xff; 12]),
                "malformed_frame",
            ),
            (
                "cut short",
                Bytes::from_static(&[0x12, 9, 0]),
                "malformed_frame",
            ),
        ] {
            let refused = StreamMetricsMessage::from_bytes(&bytes).unwrap_err();
            assert_eq!(refused.reason(), reason, "{what}");
        }
    }
}
