//! Memory of a connected sidecar with one series, as the allocator counts it: the memory budget of
//! the aggregator (`aggregator/src/budget.rs`) and the sizes in the documents count on it.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as it does")]

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aggregator_core::limits::StoreLimits;
use aggregator_core::store::Store;
use aggregator_directory::Directory;
use aggregator_ingest::{Identity, Limits, Server};
use common_time::{Clock, Monotonic, UnixMillis};
use prometheus_client::registry::Registry;
use prost::Message as _;
use proto::v1::{self, SidecarFrame, sidecar_frame};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NOW: u64 = 1_764_500_000_000;
/// Sidecars before the count begins: tables grow by doubling, and all have begun then.
const BEFORE: u64 = 64;
const COUNTED: u64 = 512;
/// Bytes of a sidecar. h2 takes 28 KiB of it whatever is said: 16 to write into, 8 to read into, 4
/// for headers; most pages of the first are never touched, so resident memory is less.
const BYTES: std::ops::RangeInclusive<u64> = 40 * 1024..=48 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_HEADERS: u8 = 4;

#[test]
fn a_sidecar_takes_what_the_budget_says() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shutdown = CancellationToken::new();
    let time = Arc::new(AtomicU64::new(NOW));
    let (address, serving) = serve(&runtime, &time, &shutdown);
    // Sockets of the standard library: what is counted is the server's alone.
    let mut sidecars = Vec::with_capacity(usize::try_from(BEFORE + COUNTED).unwrap());
    sidecars.extend((0..BEFORE).map(|number| connect(address, number)));
    let before = live_bytes();
    sidecars.extend((BEFORE..BEFORE + COUNTED).map(|number| connect(address, number)));
    for seq in 2..5 {
        time.fetch_add(1000, Ordering::SeqCst);
        for sidecar in &mut sidecars {
            sidecar.write_all(&data(report(seq))).unwrap();
            answers(sidecar, 1);
        }
    }
    let each = (live_bytes() - before) / COUNTED;
    assert!(BYTES.contains(&each), "{each} bytes a sidecar");
    drop(sidecars);
    shutdown.cancel();
    runtime.block_on(serving).unwrap();
}

fn live_bytes() -> u64 {
    let stats = ALLOCATOR.stats();
    u64::try_from(stats.bytes_allocated - stats.bytes_deallocated).unwrap()
}

fn serve(
    runtime: &tokio::runtime::Runtime,
    time: &Arc<AtomicU64>,
    shutdown: &CancellationToken,
) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let time = Arc::clone(time);
    let mut registry = Registry::with_prefix("meshmeter");
    let server = Server::new(
        Arc::new(Store::new(StoreLimits::default())),
        Arc::new(Directory::default()),
        Clock::new(
            move || Monotonic(time.load(Ordering::SeqCst)),
            UnixMillis::default,
        ),
        Limits {
            streams_per_peer: usize::MAX,
            ..Limits::default()
        },
        &mut registry,
        true,
        Identity::None,
        common_http::Security::Plain,
        shutdown.clone(),
    );
    let connections = common_http::Metrics::register(&mut registry);
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = runtime.spawn(async move { server.serve(listener, &connections).await });
    (address, serving)
}

/// A sidecar that has said hello and sent its first report.
fn connect(address: SocketAddr, number: u64) -> TcpStream {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &headers()));
    bytes.extend(data(hello(number)));
    bytes.extend(data(report(1)));
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.write_all(&bytes).unwrap();
    answers(&mut socket, 2);
    socket
}

/// Reads until so many answers have come; a frame may hold several.
fn answers(socket: &mut TcpStream, mut count: usize) {
    let mut payload = [0; 1024];
    while count > 0 {
        let mut head = [0; 9];
        socket.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let length = usize::try_from(length).unwrap();
        socket.read_exact(&mut payload[..length]).unwrap();
        let mut rest = &payload[..length];
        while head[3] == DATA && !rest.is_empty() {
            let message = u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]);
            rest = &rest[5 + usize::try_from(message).unwrap()..];
            count -= 1;
        }
    }
}

fn hello(number: u64) -> sidecar_frame::Frame {
    let labels = [("app", "jazz"), ("version", "v1")];
    sidecar_frame::Frame::Hello(v1::Hello {
        identity: Some(v1::Identity {
            namespace: "prod".to_owned(),
            pod: format!("jazz-v1-7d9c8b6f5-{number:05}"),
            pod_uid: format!("00000000-0000-4000-8000-{number:012}"),
            node: "ip-10-0-1-23.eu-west-1.compute.internal".to_owned(),
            labels: labels.map(|(key, value)| (key.into(), value.into())).into(),
        }),
        instance: number + 1,
        process: number + 1,
        scope: v1::CounterScope::Process.into(),
        started_at_unix_ms: NOW - 5_000,
        clock_unix_ms: NOW,
        flush_interval_ms: 1000,
        build: "test".to_owned(),
        protocol: proto::PROTOCOL,
        hot_restart: false,
    })
}

fn report(seq: u64) -> sidecar_frame::Frame {
    sidecar_frame::Frame::Report(v1::Report {
        seq,
        interval_end_unix_ms: NOW + (seq - 1) * 1000,
        interval_ms: 1000,
        series: vec![v1::Series {
            direction: v1::Direction::Inbound.into(),
            requests: Some(seq * 25),
            responses: vec![v1::Responses {
                code: 2,
                total: seq * 25,
            }],
            inflight: Some(3),
            inflight_ns: Some(seq * 80_000_000),
            ..v1::Series::default()
        }],
        vms_expected: 1,
        vms_live: 1,
        next_report_within_ms: 1000,
        snapshot: seq == 1,
        ..v1::Report::default()
    })
}

/// A message with gRPC's prefix in a frame of its own.
fn data(content: sidecar_frame::Frame) -> Vec<u8> {
    let content = Some(content);
    let bytes = SidecarFrame { frame: content }.encode_to_vec();
    let mut message = vec![0];
    message.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    message.extend(bytes);
    frame(DATA, 0, 1, &message)
}

/// An HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A gRPC call's headers, each a literal without indexing (RFC 7541, section 6.2.2).
fn headers() -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/meshmeter.v1.Ingest/Report"),
        (":authority", "aggregator"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}
