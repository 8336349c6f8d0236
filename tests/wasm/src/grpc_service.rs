//! The upstream of `proxy_grpc_stream`: a serialised `envoy.config.core.v3.GrpcService`.
//!
//! Envoy takes any other bytes for the name of a cluster, but aborts if they happen to parse as a
//! `GrpcService` without a target. So here everything but the safe form is an error.

use prost::Message;

/// `envoy.config.core.v3.GrpcService`, trimmed to what the filter may send.
#[derive(Clone, PartialEq, Message)]
struct GrpcService {
    #[prost(message, optional, tag = "1")]
    envoy_grpc: Option<EnvoyGrpc>,
}

/// `GrpcService.EnvoyGrpc`, trimmed likewise.
#[derive(Clone, PartialEq, Message)]
struct EnvoyGrpc {
    #[prost(string, tag = "1")]
    cluster_name: String,
    #[prost(string, tag = "2")]
    authority: String,
}

/// Reads the name of the cluster; an error says what Envoy would have made of the bytes.
pub(crate) fn parse(bytes: &[u8]) -> Result<String, String> {
    let service = GrpcService::decode(bytes).map_err(|_| {
        "is not a serialised GrpcService: Envoy takes it for the name of a cluster".to_owned()
    })?;
    if service.encode_to_vec() != bytes {
        return Err("parses as a GrpcService, but holds more than envoy_grpc".to_owned());
    }
    let envoy_grpc = service
        .envoy_grpc
        .ok_or("parses as a GrpcService without a target: Envoy aborts")?;
    if envoy_grpc.cluster_name.is_empty() {
        return Err("names no cluster".to_owned());
    }
    Ok(envoy_grpc.cluster_name)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_safe_form_names_its_cluster() {
        for bytes in [
            &b"\x0a\x05\x0a\x03agg"[..],
            b"\x0a\x09\x0a\x03agg\x12\x02me",
        ] {
            assert_eq!(parse(bytes).unwrap(), "agg");
        }
    }

    #[test]
    fn bare_names_are_refused_and_those_that_abort_envoy_are_named() {
        assert!(parse(b"aggregator").unwrap_err().contains("name of a cl"));
        for name in ["envoy", "aggregate", "ingestion", "autoscale", ""] {
            let error = parse(name.as_bytes()).unwrap_err();
            assert!(!error.contains("name of a cl"), "{name}: {error}");
        }
    }
}
