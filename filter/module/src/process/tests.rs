//! The process with a scripted Envoy: streams, hand-over, the end, and callbacks from within calls.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use filter_core::series::Direction;
use prost::Message as _;
use proto::v1;

use super::*;
use crate::worker::Request;
use crate::worker::tests::Fake;

const CONFIG: &str = r#"{"direction":"inbound","aggregators":[{"cluster":"agg","authority":"meshmeter"}],
    "identity":{"namespace":"prod","pod":"dj-1"},"flush_interval_ms":100}"#;

/// What the scripted Envoy was asked, and what it answers.
#[derive(Default)]
struct Envoy {
    calls: Mutex<Vec<Call>>,
    last_stream: Mutex<u64>,
    log: Mutex<Vec<String>>,
    /// Called from within `send`, as Envoy does when a write fails.
    within_send: Mutex<Option<&'static Process<Shared>>>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Call {
    Start(usize, String),
    Send(usize, u64, Vec<u8>),
    Half(usize, u64),
    Reset(usize, u64),
}

#[derive(Clone, Default)]
struct Shared(Arc<Envoy>);

impl Proxy for Shared {
    fn log(&self, _level: LogLevel, message: &str) {
        self.0.log.lock().push(message.to_owned());
    }

    fn start_stream(
        &self,
        config: ConfigHandle,
        cluster: &str,
        authority: &str,
        path: &str,
    ) -> Option<StreamId> {
        let mut last = self.0.last_stream.lock();
        *last += 1;
        let target = format!("{cluster} {authority} {path}");
        self.0.calls.lock().push(Call::Start(config.0, target));
        Some(StreamId(*last))
    }

    fn send(&self, config: ConfigHandle, stream: StreamId, data: &[u8], ends: bool) -> bool {
        let call = if ends {
            Call::Half(config.0, stream.0)
        } else {
            Call::Send(config.0, stream.0, data.to_vec())
        };
        self.0.calls.lock().push(call);
        let back = self.0.within_send.lock().take();
        if let Some(process) = back {
            process.on_end(config, stream, end(grpc::UNAVAILABLE), true);
        }
        true
    }

    fn reset(&self, config: ConfigHandle, stream: StreamId) {
        self.0.calls.lock().push(Call::Reset(config.0, stream.0));
    }
}

fn end(code: u32) -> Status {
    Status {
        code,
        text: "test".to_owned(),
    }
}

/// A process, its Envoy, and an aggregator that takes the maximum of every total.
struct Rig {
    process: &'static Process<Shared>,
    envoy: Shared,
    requests: u64,
    finals: usize,
    open: Option<(usize, u64)>,
    last_seq: u64,
}

impl Rig {
    fn new() -> Self {
        let envoy = Shared::default();
        let process = Box::leak(Box::new(Process::new(envoy.clone())));
        Self {
            process,
            envoy,
            requests: 0,
            finals: 0,
            open: None,
            last_seq: 0,
        }
    }

    /// A configuration at the address `handle`.
    fn configure(&self, handle: usize) -> Plugin {
        self.process
            .configure(ConfigHandle(handle), CONFIG.as_bytes())
            .unwrap()
    }

    /// Reads what was sent since the last time.
    fn read(&mut self) -> Vec<Call> {
        let calls = std::mem::take(&mut *self.envoy.0.calls.lock());
        for call in &calls {
            let Call::Send(config, stream, bytes) = call else {
                continue;
            };
            self.open = Some((*config, *stream));
            let frame = v1::SidecarFrame::decode(&bytes[5..]).unwrap();
            if let Some(v1::sidecar_frame::Frame::Report(report)) = frame.frame {
                self.last_seq = report.seq;
                self.finals += usize::from(report.r#final);
                for series in &report.series {
                    self.requests = self.requests.max(series.requests.unwrap_or(0));
                }
            }
        }
        calls
    }

    /// Acknowledges the newest report.
    fn acknowledge(&self) {
        let Some((config, stream)) = self.open else {
            return;
        };
        let ack = v1::AggregatorFrame {
            frame: Some(v1::aggregator_frame::Frame::Ack(v1::Ack {
                seq: self.last_seq,
            })),
        };
        let bytes = grpc::frame(&ack.encode_to_vec());
        self.process
            .on_data(ConfigHandle(config), StreamId(stream), &bytes);
    }

    /// Ticks for so long, and acknowledges what comes.
    fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            thread::park_timeout(Duration::from_millis(20));
            self.process.tick();
            self.read();
            self.acknowledge();
        }
    }

    /// Until so many requests have arrived, at most three seconds.
    fn run_until(&mut self, requests: u64) {
        for _ in 0..150 {
            self.run(1);
            if self.requests >= requests {
                break;
            }
        }
        self.run(10);
        assert_eq!(self.requests, requests, "{:?}", self.envoy.0.log.lock());
    }
}

fn serve(worker: &Worker, plugin: &Plugin, requests: usize) {
    for _ in 0..requests {
        let mut request = Request::new(worker);
        let exchange = Fake {
            status: Some(200),
            ..Fake::default()
        };
        request.begin(plugin, &exchange);
        request.complete(&exchange);
        request.end();
    }
}

/// Four threads count while the main thread adds up: every request arrives, once.
#[test]
fn the_sum_of_all_threads_arrives() {
    const EACH: usize = 20_000;
    let mut rig = Rig::new();
    let plugin = Arc::new(rig.configure(0x10));
    assert_eq!(plugin.direction, Direction::Inbound);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (worker, plugin) = (rig.process.add_worker(), plugin.clone());
            thread::spawn(move || serve(worker, &plugin, EACH))
        })
        .collect();
    rig.run(20);
    for thread in threads {
        thread.join().unwrap();
    }
    rig.run_until(4 * EACH as u64);
    let opened = format!("{:?}", rig.envoy.0.log.lock());
    assert!(!opened.contains("identity"), "{opened}");
}

/// A newer configuration takes the stream over before the older one goes, and counts of both stay:
/// nothing is called on one that is gone.
#[test]
fn the_newest_configuration_has_the_stream() {
    let mut rig = Rig::new();
    let worker = rig.process.add_worker();
    let mut plugin = rig.configure(0x10);
    let mut sent = 0;
    for update in 1..30_usize {
        serve(worker, &plugin, 7);
        sent += 7;
        if update == 1 {
            rig.run_until(sent);
        }
        let newer = rig.configure(0x10 + update);
        rig.run(1);
        serve(worker, &plugin, 1);
        sent += 1;
        rig.process.destroy(plugin.root);
        let gone = 0x10 + update - 1;
        rig.read();
        rig.run(1);
        plugin = newer;
        rig.process.tick();
        for call in rig.read() {
            let (Call::Start(at, _) | Call::Send(at, ..) | Call::Half(at, _) | Call::Reset(at, _)) =
                call;
            assert!(at > gone, "a call to {at:#x} after {gone:#x} was destroyed");
        }
    }
    rig.run_until(sent);
    assert_eq!(rig.finals, 0);
}

/// A configuration that is destroyed on a worker loses its stream, not its counts, and is not
/// called again.
#[test]
fn a_worker_may_destroy_a_configuration() {
    let mut rig = Rig::new();
    let worker = rig.process.add_worker();
    let keeps = rig.configure(0x10);
    let goes = rig.configure(0x20);
    serve(worker, &goes, 3);
    rig.run_until(3);
    assert_eq!(rig.open.map(|(config, _)| config), Some(0x20));
    serve(worker, &goes, 2);
    let (process, root) = (rig.process, goes.root);
    thread::spawn(move || process.destroy(root)).join().unwrap();
    let calls = rig.read();
    assert!(calls.is_empty(), "{calls:?} from a worker");
    serve(worker, &keeps, 1);
    rig.run_until(6);
    assert_eq!(rig.open.map(|(config, _)| config), Some(0x10));
}

/// The last configuration says that it is the last; a later one counts on from there.
#[test]
fn counts_outlive_the_last_configuration() {
    let mut rig = Rig::new();
    let worker = rig.process.add_worker();
    let plugin = rig.configure(0x10);
    serve(worker, &plugin, 5);
    rig.run_until(5);
    serve(worker, &plugin, 1);
    rig.process.destroy(plugin.root);
    rig.read();
    assert_eq!((rig.requests, rig.finals), (6, 1));
    rig.process.tick();
    assert_eq!(rig.read(), []);
    let plugin = rig.configure(0x20);
    serve(worker, &plugin, 1);
    rig.run_until(7);
}

/// Envoy ends a stream from within a call of ours: no deadlock, and another stream is opened.
#[test]
fn a_callback_from_within_a_call_waits() {
    let mut rig = Rig::new();
    let worker = rig.process.add_worker();
    let plugin = rig.configure(0x10);
    serve(worker, &plugin, 5);
    *rig.envoy.0.within_send.lock() = Some(rig.process);
    rig.run_until(5);
    assert!(*rig.envoy.0.last_stream.lock() >= 2);
    assert!(rig.envoy.0.within_send.lock().is_none());
}

/// At the end Envoy waits until the last report is acknowledged, and it says that it is the last.
#[test]
fn the_end_waits_for_the_last_report() {
    let mut rig = Rig::new();
    let worker = rig.process.add_worker();
    let plugin = rig.configure(0x10);
    serve(worker, &plugin, 5);
    rig.run_until(5);
    serve(worker, &plugin, 2);
    let done = Arc::new(AtomicUsize::new(0));
    let count = done.clone();
    let completion = move || {
        count.fetch_add(1, Ordering::Relaxed);
    };
    rig.process.shut_down(Box::new(completion));
    rig.read();
    assert_eq!((rig.requests, rig.finals), (7, 1));
    assert_eq!(done.load(Ordering::Relaxed), 0);
    rig.acknowledge();
    rig.process.destroy(plugin.root);
    rig.process.tick();
    assert_eq!(done.load(Ordering::Relaxed), 1);
}

/// Without a stream, or without an answer, Envoy does not wait for long.
#[test]
fn the_end_does_not_wait_for_ever() {
    for streams in [false, true] {
        let mut rig = Rig::new();
        let worker = rig.process.add_worker();
        let plugin = rig.configure(0x10);
        if streams {
            serve(worker, &plugin, 5);
            rig.run_until(5);
        }
        let done = Arc::new(AtomicUsize::new(0));
        let count = done.clone();
        let completion = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        rig.process.shut_down(Box::new(completion));
        assert_eq!(done.load(Ordering::Relaxed), usize::from(!streams));
        thread::park_timeout(LAST_WITHIN + Duration::from_millis(10));
        rig.process.tick();
        assert_eq!(done.load(Ordering::Relaxed), 1);
    }
}

/// A configuration that would count wrongly is refused and leaves nothing behind.
#[test]
fn a_refused_configuration_leaves_nothing() {
    let rig = Rig::new();
    let refused = rig.process.configure(ConfigHandle(0x10), b"{}");
    assert!(refused.is_none());
    assert!(rig.process.plugins.lock().is_empty());
    rig.process.tick();
    let log = rig.envoy.0.log.lock();
    assert_eq!(log.len(), 1, "{log:?}");
}
