//! Retries of routes.

use envoy_types::pb::envoy::config::route::v3::RetryPolicy;
use envoy_types::pb::google::protobuf::UInt32Value;

use super::millis;
use crate::resources::{self, HttpRetryEvent, TcpRetryEvent};

pub(super) fn of(policy: &resources::RetryPolicy) -> RetryPolicy {
    let http = policy.http_retry_events.iter().map(|event| match event {
        HttpRetryEvent::ServerError => "5xx",
        HttpRetryEvent::GatewayError => "gateway-error",
        HttpRetryEvent::ClientError => "retriable-4xx",
        HttpRetryEvent::StreamError => "refused-stream",
    });
    let tcp = policy.tcp_retry_events.iter().map(|event| match event {
        TcpRetryEvent::ConnectionError => "connect-failure",
    });
    let grpc = policy.grpc_retry_events.iter().map(|event| event.as_str());
    RetryPolicy {
        retry_on: http.chain(tcp).chain(grpc).collect::<Vec<_>>().join(","),
        num_retries: Some(UInt32Value {
            value: policy.max_retries,
        }),
        per_try_timeout: Some(millis(policy.per_retry_timeout.millis())),
        ..RetryPolicy::default()
    }
}

/// App Mesh's retries for routes without a policy, and for workloads without a router.
pub(super) fn default() -> RetryPolicy {
    RetryPolicy {
        retry_on: "reset,connect-failure,refused-stream,retriable-status-codes,unavailable"
            .to_owned(),
        retriable_status_codes: vec![503],
        num_retries: Some(UInt32Value { value: 2 }),
        ..RetryPolicy::default()
    }
}
