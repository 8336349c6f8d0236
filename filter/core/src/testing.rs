//! A fake Envoy process: several VMs share its metrics, shared data and clocks; each has its own
//! streams and log.
//!
//! For the tests of this crate and for simulations. It behaves as Envoy was measured to: counters
//! take positive offsets only, hidden metrics take every addition and read 0, shared data is
//! compared by version only where it exists, and a message on a stream that the peer ended is taken
//! and dropped.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::host::{Cas, Host, HostError, LogLevel, MetricId, MetricKind, StreamToken};
use crate::time::{Monotonic, UnixMillis};

/// The wall clock of a new process.
const UNIX_START_MS: u64 = 1_700_000_000_000;
/// The steady clock of a new process: an hour after the machine began.
const MONOTONIC_START_NS: u64 = 3_600_000_000_000;
/// Status `BadArgument`.
const BAD_ARGUMENT: HostError = HostError::Refused(2);
/// Status `InternalFailure`.
const INTERNAL_FAILURE: HostError = HostError::Refused(10);

/// A process whose VMs are [`FakeHost`]s.
#[derive(Clone, Debug)]
pub struct FakeProcess(Rc<RefCell<Process>>);

#[derive(Debug)]
struct Process {
    unix_ms: u64,
    monotonic_ns: u64,
    random: u64,
    env: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
    metrics: BTreeMap<String, (MetricKind, u64)>,
    /// What a parent added to the gauges of these names.
    parent_gauges: BTreeMap<String, u64>,
    /// Beginnings of the names of metrics that a `stats_matcher` hides.
    hidden: Vec<String>,
    shared: BTreeMap<String, (Vec<u8>, u32)>,
    next_cas: u32,
}

/// One VM of a [`FakeProcess`], as the host of a core. Clones are the same VM.
#[derive(Clone, Debug)]
pub struct FakeHost {
    process: FakeProcess,
    vm: Rc<RefCell<VmSide>>,
}

#[derive(Debug, Default)]
struct VmSide {
    metric_names: Vec<String>,
    open: Vec<u32>,
    next_token: u32,
    calls: Vec<Call>,
    log: Vec<(LogLevel, String)>,
    properties: BTreeMap<Vec<u8>, Vec<u8>>,
    status: Option<u16>,
    close_message: Option<String>,
    refuses_streams: bool,
    stream_attempts: u64,
    tick_ms: u32,
    metric_calls: u64,
}

/// What a VM did with its streams, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Call {
    Open {
        token: StreamToken,
        /// Serialised `GrpcService`.
        upstream: Vec<u8>,
    },
    Send {
        token: StreamToken,
        message: Vec<u8>,
    },
    Close(StreamToken),
    Cancel(StreamToken),
}

// === impl FakeProcess ===

impl FakeProcess {
    /// A process with its own sequence of random numbers.
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(Process {
            unix_ms: UNIX_START_MS,
            monotonic_ns: MONOTONIC_START_NS,
            random: seed,
            env: BTreeMap::new(),
            metadata: BTreeMap::new(),
            metrics: BTreeMap::new(),
            parent_gauges: BTreeMap::new(),
            hidden: Vec::new(),
            shared: BTreeMap::new(),
            next_cas: 1,
        })))
    }

    pub fn host(&self) -> FakeHost {
        FakeHost {
            process: self.clone(),
            vm: Rc::new(RefCell::new(VmSide {
                next_token: 6,
                ..VmSide::default()
            })),
        }
    }

    pub fn advance_ms(&self, millis: u64) {
        let mut process = self.0.borrow_mut();
        process.unix_ms += millis;
        process.monotonic_ns += millis * 1_000_000;
    }

    /// Steps the wall clock; the steady clock goes on.
    pub fn step_unix_ms(&self, millis: i64) {
        let mut process = self.0.borrow_mut();
        process.unix_ms = process.unix_ms.saturating_add_signed(millis);
    }

    /// The wall clock now, in milliseconds.
    pub fn unix_ms(&self) -> u64 {
        self.0.borrow().unix_ms
    }

    /// Sets an environment variable of all VMs.
    pub fn set_env(&self, name: &str, value: &str) {
        let mut process = self.0.borrow_mut();
        process.env.insert(name.to_owned(), value.to_owned());
    }

    /// Sets a field of the node's metadata.
    pub fn set_node_metadata(&self, name: &str, value: &str) {
        let mut process = self.0.borrow_mut();
        process.metadata.insert(name.to_owned(), value.to_owned());
    }

    /// Hides metrics whose names begin so, as a `stats_matcher` does.
    pub fn hide_metrics(&self, prefix: &str) {
        self.0.borrow_mut().hidden.push(prefix.to_owned());
    }

    /// Sets all counters back to 0, as `/reset_counters` does; gauges stay.
    pub fn reset_counters(&self) {
        for (kind, value) in self.0.borrow_mut().metrics.values_mut() {
            if *kind == MetricKind::Counter {
                *value = 0;
            }
        }
    }

    /// Envoy adds the counters and gauges of `parent` to this process's, as it does after a hot
    /// restart at each flush of statistics: of counters what came since the last time, which is for
    /// the caller to see to.
    pub fn merge(&self, parent: &Self) {
        let mut process = self.0.borrow_mut();
        for (name, (kind, value)) in &parent.0.borrow().metrics {
            if *kind == MetricKind::Gauge {
                process.parent_gauges.insert(name.clone(), *value);
            } else {
                let metric = process.metrics.entry(name.clone());
                metric.or_insert((*kind, 0)).1 += value;
            }
        }
    }

    /// The parent of a hot restart ends: what it added to gauges goes with it.
    pub fn end_parent(&self) {
        self.0.borrow_mut().parent_gauges.clear();
    }

    /// Forgets shared data, as the host does with that of a `vm_id` whose last VM ends.
    pub fn forget_shared_data(&self) {
        self.0.borrow_mut().shared.clear();
    }

    /// Value of a metric; `None` if nobody defined it.
    pub fn metric(&self, name: &str) -> Option<u64> {
        self.0.borrow().metrics.get(name).map(|(_, value)| *value)
    }

    /// How many metrics and pieces of shared data there are: what is visible outside of the VMs.
    pub fn traces(&self) -> usize {
        let process = self.0.borrow();
        process.metrics.len() + process.shared.len()
    }
}

// === impl FakeHost ===

impl FakeHost {
    /// What the VM did with its streams since this was last asked.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.vm.borrow_mut().calls)
    }

    /// What the VM logged so far.
    pub fn log_lines(&self) -> Vec<(LogLevel, String)> {
        self.vm.borrow().log.clone()
    }

    /// Sets a property of the current request; parts of `path` are joined by dots here.
    pub fn set_property(&self, path: &str, value: &[u8]) {
        let path = path.replace('.', "\0").into_bytes();
        let mut vm = self.vm.borrow_mut();
        vm.properties.insert(path, value.to_owned());
    }

    /// Removes a property of the current request.
    pub fn unset_property(&self, path: &str) {
        let path = path.replace('.', "\0").into_bytes();
        self.vm.borrow_mut().properties.remove(&path);
    }

    /// Sets the status of the current response.
    pub fn set_status(&self, status: Option<u16>) {
        self.vm.borrow_mut().status = status;
    }

    /// Makes opening a stream fail, or succeed again.
    pub fn refuse_streams(&self, refuses: bool) {
        self.vm.borrow_mut().refuses_streams = refuses;
    }

    /// How often the VM tried to open a stream.
    pub fn stream_attempts(&self) -> u64 {
        self.vm.borrow().stream_attempts
    }

    /// Streams that the host keeps for the VM, also those that their peer ended.
    pub fn streams_held(&self) -> usize {
        self.vm.borrow().open.len()
    }

    /// Sets the message that goes with the end of a stream.
    pub fn set_close_message(&self, message: &str) {
        self.vm.borrow_mut().close_message = Some(message.to_owned());
    }

    /// Period of ticks that the VM asked for.
    pub fn tick_ms(&self) -> u32 {
        self.vm.borrow().tick_ms
    }

    /// Calls about metrics so far: what a tick costs.
    pub fn metric_calls(&self) -> u64 {
        self.vm.borrow().metric_calls
    }

    fn with_metric<T>(
        &self,
        id: MetricId,
        change: impl FnOnce(MetricKind, &mut u64) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let mut vm = self.vm.borrow_mut();
        vm.metric_calls += 1;
        let name = vm.metric_names.get(id.0 as usize);
        let name = name.ok_or(HostError::NotFound)?;
        let mut process = self.process.0.borrow_mut();
        let hidden = process.hidden.iter().any(|prefix| name.starts_with(prefix));
        let (kind, value) = process.metrics.get_mut(name).ok_or(HostError::NotFound)?;
        let done = change(*kind, value);
        if hidden {
            *value = 0;
        }
        done
    }

    fn take(&self, token: StreamToken) -> Result<(), HostError> {
        let mut vm = self.vm.borrow_mut();
        let position = vm.open.iter().position(|open| *open == token.0);
        vm.open.swap_remove(position.ok_or(HostError::NotFound)?);
        Ok(())
    }
}

impl Host for FakeHost {
    fn log(&self, level: LogLevel, message: &str) {
        self.vm.borrow_mut().log.push((level, message.to_owned()));
    }

    fn unix_now(&self) -> UnixMillis {
        UnixMillis(self.process.0.borrow().unix_ms)
    }

    fn monotonic_now(&self) -> Monotonic {
        Monotonic(self.process.0.borrow().monotonic_ns)
    }

    fn random(&self) -> u64 {
        // splitmix64.
        let mut process = self.process.0.borrow_mut();
        process.random = process.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = process.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn env(&self, name: &str) -> Option<String> {
        self.process.0.borrow().env.get(name).cloned()
    }

    fn property(&self, path: &[u8], buffer: &mut [u8]) -> Result<usize, HostError> {
        let vm = self.vm.borrow();
        let process = self.process.0.borrow();
        let metadata = path
            .strip_prefix(b"xds\0node\0metadata\0")
            .and_then(|name| process.metadata.get(str::from_utf8(name).ok()?))
            .map(String::as_bytes);
        let value = vm.properties.get(path).map(Vec::as_slice).or(metadata);
        let value = value.ok_or(HostError::NotFound)?;
        for (target, byte) in buffer.iter_mut().zip(value) {
            *target = *byte;
        }
        Ok(value.len())
    }

    fn response_status(&self) -> Option<u16> {
        self.vm.borrow().status
    }

    fn set_tick_period(&self, millis: u32) -> Result<(), HostError> {
        self.vm.borrow_mut().tick_ms = millis;
        Ok(())
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, HostError> {
        let mut vm = self.vm.borrow_mut();
        vm.metric_calls += 1;
        let mut process = self.process.0.borrow_mut();
        process.metrics.entry(name.to_owned()).or_insert((kind, 0));
        vm.metric_names.push(name.to_owned());
        let id = vm.metric_names.len() - 1;
        u32::try_from(id).map(MetricId).map_err(|_| BAD_ARGUMENT)
    }

    fn increment_metric(&self, id: MetricId, offset: i64) -> Result<(), HostError> {
        self.with_metric(id, |kind, value| {
            if kind == MetricKind::Counter && offset <= 0 {
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
        let own = self.with_metric(id, |_, value| Ok(*value))?;
        let vm = self.vm.borrow();
        let name = vm
            .metric_names
            .get(id.0 as usize)
            .ok_or(HostError::NotFound)?;
        let process = self.process.0.borrow();
        Ok(own.wrapping_add(process.parent_gauges.get(name).copied().unwrap_or(0)))
    }

    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, Cas), HostError> {
        let process = self.process.0.borrow();
        let (value, cas) = process.shared.get(key).ok_or(HostError::NotFound)?;
        Ok((value.clone(), Cas(*cas)))
    }

    fn set_shared_data(
        &self,
        key: &str,
        value: &[u8],
        expected: Option<Cas>,
    ) -> Result<(), HostError> {
        let mut process = self.process.0.borrow_mut();
        let is = process.shared.get(key).map(|(_, cas)| Cas(*cas));
        if is.is_some() && is != expected {
            return Err(HostError::CasMismatch);
        }
        let cas = process.next_cas;
        process.next_cas += 1;
        process
            .shared
            .insert(key.to_owned(), (value.to_owned(), cas));
        Ok(())
    }

    fn open_stream(
        &self,
        upstream: &[u8],
        _service: &str,
        _method: &str,
    ) -> Result<StreamToken, HostError> {
        let mut vm = self.vm.borrow_mut();
        vm.stream_attempts += 1;
        if vm.refuses_streams {
            return Err(INTERNAL_FAILURE);
        }
        let token = StreamToken(vm.next_token);
        vm.next_token += 4;
        vm.open.push(token.0);
        let upstream = upstream.to_owned();
        vm.calls.push(Call::Open { token, upstream });
        Ok(token)
    }

    fn send(&self, token: StreamToken, message: &[u8]) -> Result<(), HostError> {
        let mut vm = self.vm.borrow_mut();
        if !vm.open.contains(&token.0) {
            return Err(HostError::NotFound);
        }
        let message = message.to_owned();
        vm.calls.push(Call::Send { token, message });
        Ok(())
    }

    fn close_stream(&self, token: StreamToken) -> Result<(), HostError> {
        self.take(token)?;
        self.vm.borrow_mut().calls.push(Call::Close(token));
        Ok(())
    }

    fn cancel_stream(&self, token: StreamToken) -> Result<(), HostError> {
        self.take(token)?;
        self.vm.borrow_mut().calls.push(Call::Cancel(token));
        Ok(())
    }

    fn close_message(&self) -> Option<String> {
        self.vm.borrow().close_message.clone()
    }
}
