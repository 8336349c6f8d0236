//! [`Host`] over the imports.

use filter_core::host::{Cas, Host, HostError, LogLevel, MetricId, MetricKind, StreamToken};
use filter_core::time::{Monotonic, UnixMillis};

use crate::imports;

/// Property with the status of the response, a number of 64 bits; absent if there was no response.
const RESPONSE_CODE: &[u8] = b"response\0code";

#[derive(Debug)]
pub(crate) struct Envoy;

// === impl Envoy ===

impl Host for Envoy {
    fn log(&self, level: LogLevel, message: &str) {
        // The numbers of proxy-wasm.
        let level = match level {
            LogLevel::Debug => 1,
            LogLevel::Info => 2,
            LogLevel::Warn => 3,
            LogLevel::Error => 4,
        };
        imports::log(level, message);
    }

    fn unix_now(&self) -> UnixMillis {
        UnixMillis(imports::unix_nanos() / 1_000_000)
    }

    fn monotonic_now(&self) -> Monotonic {
        Monotonic(imports::monotonic_nanos())
    }

    fn random(&self) -> u64 {
        imports::random()
    }

    fn env(&self, name: &str) -> Option<String> {
        imports::environment()
            .split(|byte| *byte == 0)
            .filter_map(|entry| str::from_utf8(entry).ok()?.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    }

    fn property(&self, path: &[u8], buffer: &mut [u8]) -> Result<usize, HostError> {
        imports::property(path, |value| {
            for (target, byte) in buffer.iter_mut().zip(value) {
                *target = *byte;
            }
            value.len()
        })
    }

    /// The property and not the header `:status`, which Envoy no longer shows when a stream ends.
    fn response_status(&self) -> Option<u16> {
        imports::property(RESPONSE_CODE, |value| {
            let code = value.first_chunk().map(|code| i64::from_le_bytes(*code));
            code.and_then(|code| u16::try_from(code).ok())
        })
        .ok()
        .flatten()
    }

    fn set_tick_period(&self, millis: u32) -> Result<(), HostError> {
        imports::set_tick_period(millis)
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, HostError> {
        let kind = match kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
        };
        imports::define_metric(kind, name).map(MetricId)
    }

    fn increment_metric(&self, id: MetricId, offset: i64) -> Result<(), HostError> {
        imports::increment_metric(id.0, offset)
    }

    fn set_gauge(&self, id: MetricId, value: u64) -> Result<(), HostError> {
        imports::record_metric(id.0, value)
    }

    fn read_metric(&self, id: MetricId) -> Result<u64, HostError> {
        imports::read_metric(id.0)
    }

    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, Cas), HostError> {
        imports::shared_data(key).map(|(value, cas)| (value, Cas(cas)))
    }

    fn set_shared_data(
        &self,
        key: &str,
        value: &[u8],
        expected: Option<Cas>,
    ) -> Result<(), HostError> {
        // Envoy compares versions only if the key exists: with a version that no value has, the
        // first writer wins and a second one gets `CasMismatch`.
        let cas = expected.map_or(u32::MAX, |cas| cas.0);
        imports::set_shared_data(key, value, cas)
    }

    fn open_stream(
        &self,
        upstream: &[u8],
        service: &str,
        method: &str,
    ) -> Result<StreamToken, HostError> {
        imports::grpc_open(upstream, service, method).map(StreamToken)
    }

    fn send(&self, token: StreamToken, message: &[u8]) -> Result<(), HostError> {
        imports::grpc_send(token.0, message)
    }

    fn close_stream(&self, token: StreamToken) -> Result<(), HostError> {
        imports::grpc_close(token.0)
    }

    fn cancel_stream(&self, token: StreamToken) -> Result<(), HostError> {
        imports::grpc_cancel(token.0)
    }

    fn close_message(&self) -> Option<String> {
        let message = imports::grpc_status_message().ok()?;
        String::from_utf8(message).ok()
    }
}
