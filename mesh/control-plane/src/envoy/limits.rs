//! Limits of clusters, health checks and outlier detection.

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, OutlierDetection};
use envoy_types::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck,
};
use envoy_types::pb::envoy::config::core::v3::{HealthCheck, RoutingPriority};
use envoy_types::pb::google::protobuf::UInt32Value;

use super::millis;
use crate::resources::{self, ConnectionPool, Protocol};

/// Value of `host` in requests of health checks.
const OWN_HOST: &str = "127.0.0.1";

/// Limit of concurrent connections, requests and retries of a cluster: unlimited as in App Mesh.
/// Envoy's defaults are 1,024, and 3 retries.
const UNLIMITED: u32 = 2_147_483_647;

fn count(value: u32) -> UInt32Value {
    UInt32Value { value }
}

/// What the pool does not name is unlimited.
pub(super) fn circuit_breakers(pool: Option<ConnectionPool>) -> CircuitBreakers {
    CircuitBreakers {
        thresholds: [RoutingPriority::Default, RoutingPriority::High]
            .map(|priority| thresholds(priority, pool))
            .to_vec(),
        ..CircuitBreakers::default()
    }
}

fn thresholds(priority: RoutingPriority, pool: Option<ConnectionPool>) -> Thresholds {
    let mut thresholds = Thresholds {
        priority: priority.into(),
        max_connections: Some(count(UNLIMITED)),
        max_pending_requests: Some(count(UNLIMITED)),
        max_requests: Some(count(UNLIMITED)),
        max_retries: Some(count(UNLIMITED)),
        ..Thresholds::default()
    };
    match pool {
        None => {}
        Some(ConnectionPool::Http(pool)) => {
            thresholds.max_connections = Some(count(pool.max_connections));
            let pending = pool.max_pending_requests;
            thresholds.max_pending_requests = Some(count(pending.unwrap_or(UNLIMITED)));
        }
        Some(ConnectionPool::Http2(pool) | ConnectionPool::Grpc(pool)) => {
            thresholds.max_requests = Some(count(pool.max_requests));
        }
        Some(ConnectionPool::Tcp(pool)) => {
            thresholds.max_connections = Some(count(pool.max_connections));
        }
    }
    thresholds
}

/// By errors in a row alone, as App Mesh has no other field: Envoy would also compare the pods'
/// success rates.
pub(super) fn outlier_detection(outliers: &resources::OutlierDetection) -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: Some(count(outliers.max_server_errors)),
        enforcing_consecutive_5xx: Some(count(100)),
        interval: Some(millis(outliers.interval.millis())),
        base_ejection_time: Some(millis(outliers.base_ejection_duration.millis())),
        max_ejection_percent: Some(count(outliers.max_ejection_percent)),
        enforcing_success_rate: Some(count(0)),
        enforcing_consecutive_gateway_failure: Some(count(0)),
        ..OutlierDetection::default()
    }
}

pub(super) fn health_check(check: &resources::HealthCheck) -> HealthCheck {
    let checker = match check.protocol {
        Protocol::Http | Protocol::Http2 => HealthChecker::HttpHealthCheck(HttpHealthCheck {
            host: OWN_HOST.to_owned(),
            path: check.path.clone(),
            codec_client_type: i32::from(check.protocol == Protocol::Http2),
            ..HttpHealthCheck::default()
        }),
        Protocol::Grpc => HealthChecker::GrpcHealthCheck(GrpcHealthCheck::default()),
        // Without bytes to send, a connection is enough.
        Protocol::Tcp => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
    };
    HealthCheck {
        timeout: Some(millis(check.timeout_millis)),
        interval: Some(millis(check.interval_millis)),
        unhealthy_threshold: Some(count(check.unhealthy_threshold)),
        healthy_threshold: Some(count(check.healthy_threshold)),
        alt_port: check.port.map(|port| count(port.into())),
        health_checker: Some(checker),
        ..HealthCheck::default()
    }
}
