//! Resolution of an aggregator's name as a cluster type of its own, in place of fields of
//! `Cluster` about which Envoy warns.

use prost::Message;

use super::{Any, Duration, any};
use crate::envoy_version::EnvoyVersion;

/// Oldest Envoy that gets the cluster type: the oldest on which it was tried. One that does not
/// know it rejects the cluster.
pub const SINCE: EnvoyVersion = EnvoyVersion::new(1, 36);

const NAME: &str = "envoy.cluster.dns";
const DNS_CLUSTER: &str = "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster";
/// Not numbered as the field of `Cluster` is.
const V4_PREFERRED: i32 = 4;

pub(super) fn cluster_type(refresh: Duration) -> ClusterType {
    let dns = DnsCluster {
        dns_refresh_rate: Some(refresh),
        dns_lookup_family: V4_PREFERRED,
    };
    ClusterType {
        name: NAME.to_owned(),
        typed_config: Some(any(DNS_CLUSTER, &dns)),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ClusterType {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    typed_config: Option<Any>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct DnsCluster {
    #[prost(message, optional, tag = "3")]
    dns_refresh_rate: Option<Duration>,
    #[prost(int32, tag = "8")]
    dns_lookup_family: i32,
}
