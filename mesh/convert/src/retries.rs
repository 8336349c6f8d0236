//! Retries of routes by HTTP.

use std::collections::BTreeSet;

use mesh_control_plane::resources::{HttpRetryEvent, RetryPolicy};
use serde_json::{Value, json};

use crate::duration;

/// App Mesh set no time between retries: that of Envoy, in milliseconds.
const BACKOFF_MS: u64 = 25;

/// App Mesh's retries where there is no policy.
const DEFAULT_ATTEMPTS: u32 = 2;
const DEFAULT_CODE: u16 = 503;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Retry {
    pub(crate) attempts: u32,
    /// Status codes; failed connections are retried in any case.
    pub(crate) codes: BTreeSet<u16>,
}

// === impl Retry ===

impl Retry {
    pub(crate) fn of(policy: Option<&RetryPolicy>) -> Self {
        let Some(policy) = policy else {
            return Self {
                attempts: DEFAULT_ATTEMPTS,
                codes: BTreeSet::from([DEFAULT_CODE]),
            };
        };
        let codes = policy
            .http_retry_events
            .iter()
            .flat_map(|event| codes(*event));
        Self {
            attempts: policy.max_retries,
            codes: codes.copied().collect(),
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        if self.attempts == 0 {
            return json!({"attempts": 0});
        }
        let mut value = json!({
            "attempts": self.attempts,
            "backoff": duration::text(BACKOFF_MS),
        });
        if !self.codes.is_empty() {
            value["codes"] = json!(self.codes);
        }
        value
    }
}

/// As App Mesh documents them; Envoy's `5xx` has further ones that nothing sends.
fn codes(event: HttpRetryEvent) -> &'static [u16] {
    match event {
        HttpRetryEvent::ServerError => &[500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511],
        HttpRetryEvent::GatewayError => &[502, 503, 504],
        HttpRetryEvent::ClientError => &[409],
        HttpRetryEvent::StreamError => &[],
    }
}

/// Whether App Mesh retried whatever failure of a connection there is, as Gateway API does.
pub(crate) fn has_every_failure(policy: &RetryPolicy) -> bool {
    let mut events = policy.http_retry_events.iter();
    let is_of_all = |event: &HttpRetryEvent| {
        matches!(
            event,
            HttpRetryEvent::ServerError | HttpRetryEvent::GatewayError
        )
    };
    policy.max_retries == 0 || events.any(is_of_all)
}
