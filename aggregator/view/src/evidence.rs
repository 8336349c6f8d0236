//! What is known of an HPA: its spec, what it read from us, and how its status changed.

use autoscaler::Hpa;

use crate::documents::{Change, Read, ReplicaAnswer};

/// Everything that an explanation or a timeline is derived from.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub hpa: &'a Hpa,
    /// For each metric of the HPA whether this server answers it.
    pub ours: &'a [bool],
    /// Of all replicas, the oldest first. Reads that name another HPA, or none, are passed over.
    pub reads: &'a [Read],
    /// Of this HPA, the oldest first; those of several replicas may repeat each other.
    pub changes: &'a [Change],
    /// Who gave its part, and since when it has reads.
    pub replicas: &'a [ReplicaAnswer],
}
