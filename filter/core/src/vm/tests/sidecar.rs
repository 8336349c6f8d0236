//! A sidecar made of VMs of one fake process, and an aggregator that merges by maximum.

use std::collections::BTreeMap;

use prost::Message as _;
use proto::v1;

use crate::config::Module;
use crate::host::{ContextId, RootId, StreamToken};
use crate::testing::{Call, FakeHost, FakeProcess};
use crate::vm::Vm;

/// The configuration of most tests.
pub(super) const CONFIG: &str =
    r#"{"role":"filter","direction":"inbound","aggregators":[{"cluster":"agg"}]}"#;

/// What happens to what sidecar and aggregator say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Network {
    Fine,
    /// Frames arrive, acknowledgements do not.
    LosesAcks,
    LosesAll,
    /// Frames arrive, then every stream ends with this status.
    Ends(u32),
}

/// VMs of one process; the first is the main thread's.
pub(super) struct Sidecar {
    pub(super) process: FakeProcess,
    pub(super) vms: Vec<Option<Vm<FakeHost>>>,
    pub(super) aggregator: Aggregator,
    pub(super) root: RootId,
    pub(super) roots: Vec<RootId>,
    next_context: u32,
}

/// Keeps the maximum of every total, as the real one does.
#[derive(Default)]
pub(super) struct Aggregator {
    pub(super) hellos: Vec<v1::Hello>,
    pub(super) reports: Vec<v1::Report>,
    pub(super) settings: u32,
    /// By VM and token: the instance and the last number.
    streams: BTreeMap<(usize, u32), Option<(u64, u64)>>,
    /// By instance and code; code 1000 is requests.
    totals: BTreeMap<(u64, u32), u64>,
    inflight: BTreeMap<u64, u64>,
}

impl Sidecar {
    pub(super) fn unstarted(seed: u64) -> Self {
        let process = FakeProcess::new(seed);
        process.set_env("POD_NAME", "dj-1");
        process.set_env("POD_NAMESPACE", "prod");
        Self {
            process,
            vms: Vec::new(),
            aggregator: Aggregator::default(),
            root: RootId(1),
            roots: vec![RootId(1)],
            next_context: 100,
        }
    }

    pub(super) fn new(seed: u64, vms: usize, config: &str) -> Self {
        let mut sidecar = Self::unstarted(seed);
        (0..vms).for_each(|vm| sidecar.start(vm, config));
        sidecar
    }

    /// Starts a VM, a little later than the one before.
    pub(super) fn start(&mut self, vm: usize, config: &str) {
        self.start_as(Module::Filter, vm, config);
    }

    pub(super) fn start_as(&mut self, module: Module, vm: usize, config: &str) {
        self.process.advance_ms(1);
        let mut started = Vm::new(self.process.host(), module);
        for root in &self.roots {
            started.on_configure(*root, config.as_bytes());
        }
        if vm < self.vms.len() {
            self.vms[vm] = Some(started);
        } else {
            self.vms.push(Some(started));
        }
    }

    /// A new root takes the place of the old one in every VM.
    pub(super) fn reconfigure(&mut self, config: &str) {
        let (old, new) = (self.root, RootId(self.root.0 + 1));
        for vm in self.vms.iter_mut().flatten() {
            vm.on_configure(new, config.as_bytes());
            vm.on_done(ContextId(old.0));
        }
        self.root = new;
        self.roots = vec![new];
        // The streams went with the old root.
        self.deliver(Network::LosesAcks);
        self.aggregator.streams.clear();
    }

    /// Ends a VM in order.
    pub(super) fn end(&mut self, vm: usize) {
        if let Some(ending) = self.vms[vm].as_mut() {
            for root in &self.roots {
                ending.on_done(ContextId(root.0));
            }
        }
        self.drain(vm, Network::LosesAcks);
        self.vms[vm] = None;
        self.aggregator.streams.retain(|(at, _), _| *at != vm);
    }

    pub(super) fn begin(&mut self, vm: usize) -> ContextId {
        self.next_context += 1;
        let context = ContextId(self.next_context);
        if let Some(vm) = self.vms[vm].as_mut() {
            vm.on_context_create(context, self.root);
            vm.on_request_headers(context);
        }
        context
    }

    pub(super) fn finish(&mut self, vm: usize, context: ContextId, status: Option<u16>) {
        if let Some(vm) = self.vms[vm].as_mut() {
            vm.host().set_status(status);
            vm.on_log(context);
            vm.on_done(context);
        }
    }

    pub(super) fn request(&mut self, vm: usize, status: Option<u16>) {
        let context = self.begin(vm);
        self.finish(vm, context, status);
    }

    pub(super) fn tick(&mut self, vm: usize) {
        if let Some(vm) = self.vms[vm].as_mut() {
            for root in &self.roots {
                vm.on_tick(*root);
            }
        }
    }

    /// So many ticks of every VM, 100 ms apart.
    pub(super) fn run(&mut self, ticks: usize, network: Network) {
        for _ in 0..ticks {
            self.process.advance_ms(100);
            for vm in 0..self.vms.len() {
                self.tick(vm);
            }
            self.deliver(network);
        }
    }

    /// Lets what was sent arrive, and what is answered.
    pub(super) fn deliver(&mut self, network: Network) {
        for vm in 0..self.vms.len() {
            self.drain(vm, network);
        }
    }

    fn drain(&mut self, at: usize, network: Network) {
        let Some(vm) = self.vms[at].as_mut() else {
            return;
        };
        for call in vm.host().take_calls() {
            for (token, answer) in self.aggregator.take_in(at, &call, network) {
                vm.on_grpc_receive(token, &answer);
            }
        }
        if let Network::Ends(status) = network {
            let streams = &mut self.aggregator.streams;
            let ended: Vec<u32> = streams
                .keys()
                .filter(|key| key.0 == at)
                .map(|key| key.1)
                .collect();
            for token in ended {
                streams.remove(&(at, token));
                vm.on_grpc_close(StreamToken(token), status);
            }
            vm.host().take_calls();
        }
    }

    /// VMs with an open stream.
    pub(super) fn streaming(&self) -> Vec<usize> {
        self.aggregator.streams.keys().map(|key| key.0).collect()
    }
}

impl Aggregator {
    fn take_in(&mut self, at: usize, call: &Call, network: Network) -> Vec<(StreamToken, Vec<u8>)> {
        match call {
            Call::Open { token, upstream } => {
                assert_eq!(upstream, b"\x0a\x05\x0a\x03agg");
                self.streams.insert((at, token.0), None);
                Vec::new()
            }
            Call::Close(token) | Call::Cancel(token) => {
                self.streams.remove(&(at, token.0));
                Vec::new()
            }
            Call::Send { token, message } => {
                if network == Network::LosesAll {
                    return Vec::new();
                }
                let frame = v1::SidecarFrame::decode(message.as_slice()).unwrap();
                let answer = self.frame(at, *token, frame.frame.unwrap());
                let answers = answer.filter(|_| network != Network::LosesAcks);
                answers
                    .map(|frame| v1::AggregatorFrame { frame: Some(frame) }.encode_to_vec())
                    .map(|answer| (*token, answer))
                    .into_iter()
                    .collect()
            }
        }
    }

    fn frame(
        &mut self,
        at: usize,
        token: StreamToken,
        frame: v1::sidecar_frame::Frame,
    ) -> Option<v1::aggregator_frame::Frame> {
        let stream = self.streams.get_mut(&(at, token.0))?;
        match frame {
            v1::sidecar_frame::Frame::Hello(hello) => {
                assert!(hello.instance != 0 && hello.process != 0);
                assert!(stream.is_none(), "one hello per stream");
                *stream = Some((hello.instance, 0));
                self.hellos.push(hello);
                Some(v1::aggregator_frame::Frame::Settings(v1::Settings {
                    flush_interval_ms: self.settings,
                    protocol: proto::PROTOCOL,
                }))
            }
            v1::sidecar_frame::Frame::Report(report) => {
                // Its hello was lost: the real aggregator refuses the stream.
                let (instance, seq) = stream.as_mut()?;
                assert!(report.seq > *seq, "numbers rise");
                *seq = report.seq;
                let (instance, seq) = (*instance, *seq);
                for series in &report.series {
                    let requests = series.requests.map(|total| (1000, total));
                    let responses = series.responses.iter().map(|r| (r.code, r.total));
                    for (code, total) in requests.into_iter().chain(responses) {
                        let known = self.totals.entry((instance, code)).or_default();
                        *known = (*known).max(total);
                    }
                    match series.inflight {
                        Some(inflight) => self.inflight.insert(instance, inflight),
                        None => self.inflight.remove(&instance),
                    };
                }
                self.reports.push(report);
                Some(v1::aggregator_frame::Frame::Ack(v1::Ack { seq }))
            }
        }
    }

    fn total(&self, code: u32) -> u64 {
        let totals = self.totals.iter().filter(|((_, of), _)| *of == code);
        totals.map(|(_, total)| total).sum()
    }

    pub(super) fn requests(&self) -> u64 {
        self.total(1000)
    }

    pub(super) fn requests_of(&self, instance: u64) -> u64 {
        self.totals.get(&(instance, 1000)).copied().unwrap_or(0)
    }

    pub(super) fn responses(&self, code: u32) -> u64 {
        self.total(code)
    }

    pub(super) fn inflight(&self) -> u64 {
        self.inflight.values().sum()
    }

    pub(super) fn take_reports(&mut self) -> Vec<v1::Report> {
        std::mem::take(&mut self.reports)
    }

    pub(super) fn only_hello(&self) -> &v1::Hello {
        assert_eq!(self.hellos.len(), 1);
        &self.hellos[0]
    }

    pub(super) fn last_hello(&self) -> &v1::Hello {
        self.hellos.last().unwrap()
    }

    pub(super) fn last_report(&self) -> &v1::Report {
        self.reports.last().unwrap()
    }

    /// The newest word on the only series.
    pub(super) fn last_series(&self) -> &v1::Series {
        let mut series = self.reports.iter().rev().flat_map(|report| &report.series);
        series.next().unwrap()
    }
}
