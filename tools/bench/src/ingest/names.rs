//! Names that servers and senders have to agree on.

/// The name in the servers' certificates.
pub(super) const SERVER_NAME: &str = "meshmeter.meshmeter.svc";

pub(super) fn pod_name(number: u32) -> String {
    format!("jazz-v1-7d9c8b6f5-{number:05}")
}

pub(super) fn pod_uid(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}
