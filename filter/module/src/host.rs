//! [`Host`] for the one VM of the process: metrics and shared data in memory, gRPC over Envoy's
//! HTTP streams.
//!
//! Envoy may call back while it is called: no lock is held meanwhile.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;

use filter_core::grpc_service;
use filter_core::host::{Cas, Host, HostError, LogLevel, MetricId, MetricKind, StreamToken};
use filter_core::time::{Monotonic, UnixMillis};
use parking_lot::Mutex;

use crate::clock;
use crate::grpc::{self, Deframer, Status};

/// A configuration in Envoy: the address of its object, valid until Envoy destroys it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ConfigHandle(pub(crate) usize);

/// Envoy's number of an HTTP stream of a configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StreamId(pub(crate) u64);

/// What the VM needs of Envoy. To be called on the main thread, but for `log`.
pub(crate) trait Proxy: Send + Sync + 'static {
    fn log(&self, level: LogLevel, message: &str);

    /// Opens an HTTP stream for gRPC to `cluster`.
    fn start_stream(
        &self,
        config: ConfigHandle,
        cluster: &str,
        authority: &str,
        path: &str,
    ) -> Option<StreamId>;

    fn send(&self, config: ConfigHandle, stream: StreamId, data: &[u8], ends: bool) -> bool;

    fn reset(&self, config: ConfigHandle, stream: StreamId);
}

/// What happened on a stream.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum StreamEvent {
    Message(StreamToken, Vec<u8>),
    Closed(StreamToken, Status),
}

/// Shared by the VM and the callbacks of its streams.
#[derive(Debug)]
pub(crate) struct Native<P>(Arc<Inner<P>>);

#[derive(Debug)]
struct Inner<P> {
    proxy: P,
    memory: Mutex<Memory>,
    streams: Mutex<Streams>,
    random: RandomState,
}

/// What Envoy keeps for the VMs of a process, here for the life of the process too: it outlives the
/// VM.
#[derive(Debug, Default)]
struct Memory {
    metrics: Vec<(MetricKind, u64)>,
    names: HashMap<String, u32>,
    shared: HashMap<String, (Vec<u8>, Cas)>,
    versions: u32,
    draws: u64,
}

#[derive(Debug, Default)]
struct Streams {
    /// The configuration that new streams belong to.
    current: Option<ConfigHandle>,
    last_token: u32,
    open: Vec<Stream>,
    close_message: Option<String>,
}

#[derive(Debug)]
struct Stream {
    token: StreamToken,
    config: ConfigHandle,
    id: StreamId,
    deframer: Deframer,
    /// The peer's end was told to the VM.
    closed: bool,
    /// Envoy has no such stream any more.
    gone: bool,
}

const BAD_ARGUMENT: HostError = HostError::Refused(2);
const INTERNAL_FAILURE: HostError = HostError::Refused(10);

impl<P> Clone for Native<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

// === impl Native ===

impl<P: Proxy> Native<P> {
    pub(crate) fn new(proxy: P) -> Self {
        Self(Arc::new(Inner {
            proxy,
            memory: Mutex::default(),
            streams: Mutex::default(),
            random: RandomState::new(),
        }))
    }

    pub(crate) fn proxy(&self) -> &P {
        &self.0.proxy
    }

    /// Sets the configuration that new streams belong to.
    pub(crate) fn set_current(&self, config: Option<ConfigHandle>) {
        self.0.streams.lock().current = config;
    }

    /// Forgets a configuration that Envoy destroys, with its streams, and returns the end of those
    /// whose end the VM does not know.
    pub(crate) fn forget(&self, config: ConfigHandle) -> Vec<StreamEvent> {
        let mut streams = self.0.streams.lock();
        if streams.current == Some(config) {
            streams.current = None;
        }
        let mut ends = Vec::new();
        for stream in streams
            .open
            .extract_if(.., |stream| stream.config == config)
        {
            if !stream.closed {
                let text = "its listener was replaced".to_owned();
                let code = grpc::UNAVAILABLE;
                ends.push(StreamEvent::Closed(stream.token, Status { code, text }));
            }
        }
        ends
    }

    /// Bytes of a response.
    pub(crate) fn on_data(
        &self,
        config: ConfigHandle,
        id: StreamId,
        data: &[u8],
    ) -> Vec<StreamEvent> {
        let mut streams = self.0.streams.lock();
        let mut events = Vec::new();
        let Some(stream) = streams.find(config, id).filter(|stream| !stream.closed) else {
            return events;
        };
        let token = stream.token;
        let readable = stream.deframer.push(data, |message| {
            events.push(StreamEvent::Message(token, message));
        });
        if readable.is_err() {
            stream.closed = true;
            let text = "sent a message that cannot be read".to_owned();
            let code = grpc::UNKNOWN;
            events.push(StreamEvent::Closed(token, Status { code, text }));
        }
        events
    }

    /// The end of a response. With `gone`, Envoy has freed the stream.
    pub(crate) fn on_end(
        &self,
        config: ConfigHandle,
        id: StreamId,
        status: Status,
        gone: bool,
    ) -> Option<StreamEvent> {
        let mut streams = self.0.streams.lock();
        let stream = streams.find(config, id)?;
        stream.gone |= gone;
        let first = !std::mem::replace(&mut stream.closed, true);
        let token = stream.token;
        if !first && gone {
            // The VM knows of the end, and Envoy has freed it.
            streams.open.retain(|stream| stream.token != token);
        }
        first.then_some(StreamEvent::Closed(token, status))
    }

    /// Sets the text that goes with the end that is about to be told.
    pub(crate) fn set_close_message(&self, text: Option<String>) {
        self.0.streams.lock().close_message = text;
    }

    /// Where a stream is; with `take`, it is forgotten.
    fn place(&self, token: StreamToken, take: bool) -> Result<(ConfigHandle, StreamId), HostError> {
        let mut streams = self.0.streams.lock();
        let position = streams.open.iter().position(|open| open.token == token);
        let position = position.ok_or(HostError::NotFound)?;
        let Some(stream) = streams.open.get(position) else {
            return Err(HostError::NotFound);
        };
        let (place, gone) = ((stream.config, stream.id), stream.gone);
        if take {
            streams.open.swap_remove(position);
        }
        if gone {
            return Err(HostError::NotFound);
        }
        Ok(place)
    }

    fn with_metric<T>(
        &self,
        id: MetricId,
        change: impl FnOnce(MetricKind, &mut u64) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let mut memory = self.0.memory.lock();
        let position = usize::try_from(id.0).unwrap_or(usize::MAX);
        let (kind, value) = memory
            .metrics
            .get_mut(position)
            .ok_or(HostError::NotFound)?;
        change(*kind, value)
    }
}

impl Streams {
    fn find(&mut self, config: ConfigHandle, id: StreamId) -> Option<&mut Stream> {
        self.open
            .iter_mut()
            .find(|stream| (stream.config, stream.id) == (config, id))
    }
}

impl<P: Proxy> Host for Native<P> {
    fn log(&self, level: LogLevel, message: &str) {
        self.0.proxy.log(level, message);
    }

    fn unix_now(&self) -> UnixMillis {
        clock::unix_now()
    }

    fn monotonic_now(&self) -> Monotonic {
        clock::now()
    }

    fn random(&self) -> u64 {
        // The keys of `RandomState` are the system's random numbers.
        let mut memory = self.0.memory.lock();
        memory.draws = memory.draws.wrapping_add(1);
        let mut hasher = self.0.random.build_hasher();
        hasher.write_u64(memory.draws);
        hasher.finish()
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn property(&self, _path: &[u8], _buffer: &mut [u8]) -> Result<usize, HostError> {
        // Envoy shows a dynamic module no node metadata, and the VM has no requests of its own.
        Err(HostError::NotFound)
    }

    fn response_status(&self) -> Option<u16> {
        None
    }

    fn set_tick_period(&self, _millis: u32) -> Result<(), HostError> {
        Ok(())
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, HostError> {
        let mut memory = self.0.memory.lock();
        if let Some(known) = memory.names.get(name) {
            return Ok(MetricId(*known));
        }
        let id = u32::try_from(memory.metrics.len()).map_err(|_| BAD_ARGUMENT)?;
        memory.metrics.push((kind, 0));
        memory.names.insert(name.to_owned(), id);
        Ok(MetricId(id))
    }

    fn increment_metric(&self, id: MetricId, offset: i64) -> Result<(), HostError> {
        self.with_metric(id, |kind, value| {
            if kind == MetricKind::Counter && offset == 0 {
                return Err(BAD_ARGUMENT);
            }
            *value = value.wrapping_add_signed(offset);
            Ok(())
        })
    }

    fn set_gauge(&self, id: MetricId, set: u64) -> Result<(), HostError> {
        self.with_metric(id, |_, value| {
            *value = set;
            Ok(())
        })
    }

    fn read_metric(&self, id: MetricId) -> Result<u64, HostError> {
        self.with_metric(id, |_, value| Ok(*value))
    }

    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, Cas), HostError> {
        let memory = self.0.memory.lock();
        memory.shared.get(key).cloned().ok_or(HostError::NotFound)
    }

    fn set_shared_data(
        &self,
        key: &str,
        value: &[u8],
        expected: Option<Cas>,
    ) -> Result<(), HostError> {
        let mut memory = self.0.memory.lock();
        if memory.shared.get(key).map(|(_, version)| *version) != expected {
            return Err(HostError::CasMismatch);
        }
        memory.versions = memory.versions.wrapping_add(1);
        let version = Cas(memory.versions);
        memory
            .shared
            .insert(key.to_owned(), (value.to_owned(), version));
        Ok(())
    }

    fn open_stream(
        &self,
        upstream: &[u8],
        service: &str,
        method: &str,
    ) -> Result<StreamToken, HostError> {
        let aggregator = grpc_service::decode(upstream).ok_or(BAD_ARGUMENT)?;
        let authority = if aggregator.authority.is_empty() {
            &aggregator.cluster
        } else {
            &aggregator.authority
        };
        let current = self.0.streams.lock().current;
        let config = current.ok_or(INTERNAL_FAILURE)?;
        let path = format!("/{service}/{method}");
        let opened = self
            .0
            .proxy
            .start_stream(config, &aggregator.cluster, authority, &path);
        let id = opened.ok_or(INTERNAL_FAILURE)?;
        let mut streams = self.0.streams.lock();
        streams.last_token = streams.last_token.wrapping_add(1);
        let token = StreamToken(streams.last_token);
        streams.open.push(Stream {
            token,
            config,
            id,
            deframer: Deframer::default(),
            closed: false,
            gone: false,
        });
        Ok(token)
    }

    fn send(&self, token: StreamToken, message: &[u8]) -> Result<(), HostError> {
        let (config, id) = self.place(token, false)?;
        if self.0.proxy.send(config, id, &grpc::frame(message), false) {
            Ok(())
        } else {
            Err(HostError::NotFound)
        }
    }

    fn close_stream(&self, token: StreamToken) -> Result<(), HostError> {
        let was_closed = {
            let streams = self.0.streams.lock();
            let stream = streams.open.iter().find(|open| open.token == token);
            stream.is_some_and(|stream| stream.closed)
        };
        let (config, id) = self.place(token, was_closed)?;
        if self.0.proxy.send(config, id, &[], true) {
            Ok(())
        } else {
            Err(HostError::NotFound)
        }
    }

    fn cancel_stream(&self, token: StreamToken) -> Result<(), HostError> {
        let (config, id) = self.place(token, true)?;
        self.0.proxy.reset(config, id);
        Ok(())
    }

    fn close_message(&self) -> Option<String> {
        self.0.streams.lock().close_message.clone()
    }
}
