//! The gRPC upstream as a serialised `envoy.config.core.v3.GrpcService`.
//!
//! Envoy also accepts a bare cluster name, but parses it as a `GrpcService` first: a name that
//! happens to parse as one without a target aborts the proxy.

use crate::config::Aggregator;

/// Field 1 (`GrpcService.envoy_grpc`, `EnvoyGrpc.cluster_name`), length-delimited.
const FIELD_1: u8 = 0x0a;
/// Field 2 (`EnvoyGrpc.authority`), length-delimited.
const FIELD_2: u8 = 0x12;

pub fn encode(aggregator: &Aggregator) -> Vec<u8> {
    let mut envoy_grpc = Vec::new();
    field(FIELD_1, aggregator.cluster.as_bytes(), &mut envoy_grpc);
    if !aggregator.authority.is_empty() {
        field(FIELD_2, aggregator.authority.as_bytes(), &mut envoy_grpc);
    }
    let mut service = Vec::new();
    field(FIELD_1, &envoy_grpc, &mut service);
    service
}

/// The aggregator of an encoded service; `None` for anything that [`encode`] does not make. For
/// hosts that open streams by the name of the cluster.
pub fn decode(service: &[u8]) -> Option<Aggregator> {
    let (envoy_grpc, rest) = take(FIELD_1, service)?;
    let (cluster, authority) = take(FIELD_1, envoy_grpc)?;
    let (authority, rest_of_grpc) = match authority {
        [] => (authority, authority),
        present => take(FIELD_2, present)?,
    };
    if !rest.is_empty() || !rest_of_grpc.is_empty() {
        return None;
    }
    let text = |bytes: &[u8]| str::from_utf8(bytes).ok().map(str::to_owned);
    Some(Aggregator {
        cluster: text(cluster)?,
        authority: text(authority)?,
    })
}

/// The value of a field at the front, and what follows it.
fn take(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes.strip_prefix(&[tag])?;
    let mut len = 0_usize;
    for shift in [0, 7, 14, 21] {
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return rest.split_at_checked(len);
        }
    }
    None
}

fn field(tag: u8, value: &[u8], into: &mut Vec<u8>) {
    into.push(tag);
    let mut len = value.len();
    while len >= 0x80 {
        into.push(u8::try_from(len & 0x7f).unwrap_or(0) | 0x80);
        len >>= 7;
    }
    into.push(u8::try_from(len).unwrap_or(0));
    into.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// The part of `envoy.config.core.v3.GrpcService` that matters here.
    #[derive(Clone, PartialEq, prost::Message)]
    struct GrpcService {
        #[prost(message, optional, tag = "1")]
        envoy_grpc: Option<EnvoyGrpc>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct EnvoyGrpc {
        #[prost(string, tag = "1")]
        cluster_name: String,
        #[prost(string, tag = "2")]
        authority: String,
    }

    proptest! {
        /// Whatever the names, Envoy decodes a target and finds these names in it.
        #[test]
        fn any_name_is_a_target(cluster in ".{1,200}", authority in ".{0,200}") {
            let bytes = encode(&Aggregator { cluster: cluster.clone(), authority: authority.clone() });
            let service = GrpcService::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(service.envoy_grpc, Some(EnvoyGrpc { cluster_name: cluster, authority }));
        }

        /// What was encoded is read back; arbitrary bytes never panic.
        #[test]
        fn reads_what_it_wrote(cluster in ".{1,200}", authority in ".{0,200}", noise: Vec<u8>) {
            let aggregator = Aggregator { cluster, authority };
            prop_assert_eq!(decode(&encode(&aggregator)), Some(aggregator));
            let _ = decode(&noise);
        }
    }

    #[test]
    fn the_documented_bytes() {
        let bytes = encode(&Aggregator {
            cluster: "agg".to_owned(),
            authority: String::new(),
        });
        assert_eq!(bytes, b"\x0a\x05\x0a\x03agg");
    }
}
