//! The interface to the proxy that hosts the VM.
//!
//! Every call may fail, none may panic. The real host maps these to proxy-wasm calls; the fake in
//! `testing` simulates an Envoy process with several VMs.

use crate::time::{Monotonic, UnixMillis};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostError {
    /// No such property, key, metric or token.
    NotFound,
    /// Shared data changed since it was read.
    CasMismatch,
    /// Any other status of the host, by its number.
    Refused(u32),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogLevel {
    Debug,
    Info,
    /// A setting is not as configured; counting continues.
    Warn,
    /// Requests are not counted or not streamed.
    Error,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricKind {
    Counter,
    /// Rises, falls, can be set.
    Gauge,
}

/// A metric of the host, valid in the VM that defined it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MetricId(pub u32);

/// A root context: one plugin configuration in one VM.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RootId(pub u32);

/// Any context: a root's or that of one HTTP stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ContextId(pub u32);

/// A gRPC stream of one VM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamToken(pub u32);

/// Version of a piece of shared data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cas(pub u32);

pub trait Host {
    fn log(&self, level: LogLevel, message: &str);

    fn unix_now(&self) -> UnixMillis;

    fn monotonic_now(&self) -> Monotonic;

    fn random(&self) -> u64;

    /// An environment variable of the VM.
    fn env(&self, name: &str) -> Option<String>;

    /// Copies a property into `buffer`, as much as fits, and returns its full length. Parts of
    /// `path` are joined by zero bytes. Does not allocate.
    fn property(&self, path: &[u8], buffer: &mut [u8]) -> Result<usize, HostError>;

    /// Status of the response of the current HTTP stream, if it has one; also when the stream ends.
    /// Does not allocate.
    fn response_status(&self) -> Option<u16>;

    /// Sets the tick period of the current root; 0 stops ticks.
    fn set_tick_period(&self, millis: u32) -> Result<(), HostError>;

    /// Defines a process-wide metric: a name refers to the same metric in every VM.
    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, HostError>;

    /// Adds to a metric; a counter accepts positive offsets only.
    fn increment_metric(&self, id: MetricId, offset: i64) -> Result<(), HostError>;

    fn set_gauge(&self, id: MetricId, value: u64) -> Result<(), HostError>;

    fn read_metric(&self, id: MetricId) -> Result<u64, HostError>;

    /// Reads data shared by the VMs of the process.
    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, Cas), HostError>;

    /// Writes data shared by the VMs of the process if it is at version `expected`; `None` expects
    /// that the key does not exist.
    fn set_shared_data(
        &self,
        key: &str,
        value: &[u8],
        expected: Option<Cas>,
    ) -> Result<(), HostError>;

    /// Opens a bidirectional gRPC stream in the current root context. `upstream` is a serialised
    /// `envoy.config.core.v3.GrpcService`.
    fn open_stream(
        &self,
        upstream: &[u8],
        service: &str,
        method: &str,
    ) -> Result<StreamToken, HostError>;

    /// Sends a message. Success does not mean delivery.
    fn send(&self, token: StreamToken, message: &[u8]) -> Result<(), HostError>;

    /// Closes our half of a stream, or frees one that the peer has closed.
    fn close_stream(&self, token: StreamToken) -> Result<(), HostError>;

    fn cancel_stream(&self, token: StreamToken) -> Result<(), HostError>;

    /// Status message of a closed stream; valid only during its close callback.
    fn close_message(&self) -> Option<String>;
}
