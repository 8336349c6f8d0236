//! The host itself, by small modules in the text format: it does what `Envoy` does.

use std::time::Duration;

use anyhow::Result;
use tests_wasm::aggregator::Reach;
use tests_wasm::envoy::{Envoy, Outcome, Setup};
use tests_wasm::metrics::Kind;
use tests_wasm::module::engine;
use tests_wasm::plugin::{Code, Direction, Failure, Plugin, Role};
use tests_wasm::process::{Life, Thread};
use tests_wasm::request::Request;
use wasmtime::Module;

/// What every probe has: an allocator that never frees, and helpers that make host calls. `$note`
/// sets the gauge that is named by one letter. The token of the last stream lies at address 16.
const PROBE: &str = r#"
(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
(import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_record_metric" (func $record (param i32 i64) (result i32)))
(import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
(import "env" "proxy_set_tick_period_milliseconds" (func $set_tick (param i32) (result i32)))
(import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_stream"
  (func $stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_send" (func $grpc_send (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_close" (func $grpc_close (param i32) (result i32)))
(memory (export "memory") 4)
(global $heap (mut i32) (i32.const 65536))
(global $ticks (mut i32) (i32.const 0))
(data (i32.const 1024) "\0a\0c\0a\0aaggregator")
(data (i32.const 1100) "meshmeter.v1.Ingest")
(data (i32.const 1140) "Report")
(data (i32.const 1200) "xds\00node\00id")
(func (export "proxy_abi_version_0_2_1"))
(func $note (param $name i32) (param $value i64)
  (i32.store (i32.const 0) (local.get $name))
  (drop (call $define (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
  (drop (call $record (i32.load (i32.const 8)) (local.get $value))))
(func $open (result i32)
  (call $stream (i32.const 1024) (i32.const 14) (i32.const 1100) (i32.const 19)
    (i32.const 1140) (i32.const 6) (i32.const 1160) (i32.const 4) (i32.const 16)))
(func $send (result i32)
  (call $grpc_send (i32.load (i32.const 16)) (i32.const 0) (i32.const 0) (i32.const 0)))
(func $say (param $letter i32)
  (i32.store (i32.const 0) (local.get $letter))
  (drop (call $log (i32.const 2) (i32.const 0) (i32.const 1))))
"#;

/// An allocator, for probes that do not bring their own.
const ALLOCATOR: &str = r#"
(func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
  (global.get $heap)
  (global.set $heap (i32.add (global.get $heap) (local.get $size))))
"#;

/// Ticks each 100 ms and counts them.
const TICKING: &str = r#"
(func (export "proxy_on_configure") (param i32 i32) (result i32)
  (drop (call $set_tick (i32.const 100)))
  (i32.const 1))
"#;

fn probe(parts: &[&str]) -> Code {
    let text = format!("(module {PROBE} {})", parts.join("\n"));
    let module = Module::new(engine(), &text).expect("the probe is valid");
    // Codes are told apart by name, as Envoy does by content.
    Code::new(&text, module)
}

fn start(workers: usize, parts: &[&str]) -> Result<Envoy> {
    let plugin = Plugin::new(probe(parts), Role::Filter, "{}");
    Envoy::start(Setup::new(vec![plugin]).workers(workers))
}

fn note(envoy: &Envoy, letter: &str) -> Option<u64> {
    envoy.metrics().value(Kind::Gauge, letter)
}

/// The canary and the VMs of all threads are configured, the main thread's before the workers'; at
/// the end the workers' roots are done first. The canary hears of no end.
#[test]
fn threads_come_and_go_in_envoys_order() -> Result<()> {
    let says = r#"
(func (export "proxy_on_vm_start") (param i32 i32) (result i32)
  (call $say (i32.const 0x73)) (i32.const 1))
(func (export "proxy_on_configure") (param i32 i32) (result i32)
  (call $say (i32.const 0x63)) (i32.const 1))
(func (export "proxy_on_done") (param i32) (result i32)
  (call $say (i32.const 0x64)) (i32.const 1))
"#;
    let mut envoy = start(2, &[ALLOCATOR, says])?;
    envoy.shut_down();
    let logs = envoy.logs();
    let mut said: Vec<_> = logs
        .iter()
        .map(|line| (line.life, line.thread, line.message.as_str()))
        .collect();
    // The workers end in any order.
    said[8..10].sort();
    let (main, one, two) = (Thread::Main, Thread::Worker(0), Thread::Worker(1));
    let expected = [
        (Life::Canary, main, "s"),
        (Life::Canary, main, "c"),
        (Life::Live, main, "s"),
        (Life::Live, main, "c"),
        (Life::Live, one, "s"),
        (Life::Live, one, "c"),
        (Life::Live, two, "s"),
        (Life::Live, two, "c"),
        (Life::Live, one, "d"),
        (Life::Live, two, "d"),
        (Life::Live, main, "d"),
    ];
    assert_eq!(said, expected);
    Ok(())
}

/// `_initialize` may not ask for properties.
#[test]
fn a_host_call_in_initialize_is_refused() {
    let initialize = r#"
(func (export "_initialize")
  (drop (call $property (i32.const 1200) (i32.const 11) (i32.const 32) (i32.const 36))))
"#;
    let error = start(1, &[ALLOCATOR, initialize]).expect_err("the base VM must not load");
    let text = format!("{error:#}");
    assert!(
        text.contains("proxy_get_property called in Initialize"),
        "{text}"
    );
}

/// The allocator may not either; whoever made it run traps.
#[test]
fn a_host_call_in_the_allocator_is_refused() -> Result<()> {
    let allocator = r#"
(func (export "proxy_on_memory_allocate") (param i32) (result i32)
  (drop (call $set_tick (i32.const 5)))
  (i32.const 4096))
(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
  (drop (call $property (i32.const 1200) (i32.const 11) (i32.const 32) (i32.const 36)))
  (i32.const 0))
"#;
    let plugin = Plugin::new(probe(&[allocator]), Role::Filter, "{}");
    let mut setup = Setup::new(vec![plugin]);
    setup.node.insert("xds.node.id".into(), "node".into());
    let mut envoy = Envoy::start(setup)?;
    envoy.request(0, &Request::inbound());
    assert_eq!(envoy.dead(), [Thread::Worker(0)]);
    let violations = envoy.take_violations();
    assert!(
        violations[0].contains("called in Allocate"),
        "{violations:?}"
    );
    Ok(())
}

/// The first stream's token is 6, the next one's 10; a send after the remote end closed is OK and
/// dropped; after `proxy_grpc_close` the token is unknown.
#[test]
fn a_send_after_the_remote_end_closed_is_dropped_in_silence() -> Result<()> {
    let steps = r#"
(func (export "proxy_on_tick") (param i32)
  (global.set $ticks (i32.add (global.get $ticks) (i32.const 1)))
  (if (i32.eq (global.get $ticks) (i32.const 1)) (then
    (call $note (i32.const 0x61) (i64.extend_i32_u (call $open)))
    (call $note (i32.const 0x62) (i64.extend_i32_u (i32.load (i32.const 16))))
    (drop (call $open))
    (call $note (i32.const 0x63) (i64.extend_i32_u (i32.load (i32.const 16))))))
  (if (i32.eq (global.get $ticks) (i32.const 2)) (then
    (call $note (i32.const 0x64) (i64.extend_i32_u (call $send)))
    (call $note (i32.const 0x65) (i64.extend_i32_u (call $grpc_close (i32.load (i32.const 16)))))
    (call $note (i32.const 0x66) (i64.extend_i32_u (call $send))))))
(func (export "proxy_on_grpc_close") (param i32 i32 i32)
  (call $note (i32.const 0x67) (i64.extend_i32_u (local.get 2))))
"#;
    let mut envoy = start(0, &[ALLOCATOR, TICKING, steps])?;
    envoy.run_for(Duration::from_millis(150));
    assert_eq!(envoy.aggregator().open_streams().len(), 2);
    envoy.close_streams(13, "the end");
    envoy.run_for(Duration::from_millis(100));
    let notes: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"]
        .iter()
        .map(|letter| note(&envoy, letter))
        .collect();
    assert_eq!(notes, [0, 6, 10, 0, 0, 1, 13].map(Some));
    assert_eq!(envoy.streams_held(), 1, "the stream that was not closed");
    let aggregator = envoy.aggregator();
    assert!(aggregator.streams().iter().all(|stream| stream.unread == 0));
    Ok(())
}

/// Without a healthy host the open fails, no token is written, and yet a close comes for the token
/// that would have been next, once the tick has returned.
#[test]
fn an_open_without_a_healthy_host_fails_and_closes() -> Result<()> {
    let steps = r#"
(func (export "proxy_on_tick") (param i32)
  (global.set $ticks (i32.add (global.get $ticks) (i32.const 1)))
  (if (i32.eq (global.get $ticks) (i32.const 1)) (then
    (call $note (i32.const 0x61) (i64.extend_i32_u (call $open)))
    (call $note (i32.const 0x62) (i64.extend_i32_u (i32.load (i32.const 16))))
    (call $note (i32.const 0x65) (i64.const 1)))))
(func (export "proxy_on_grpc_close") (param i32 i32 i32)
  (call $note (i32.const 0x63) (i64.extend_i32_u (local.get 1)))
  (call $note (i32.const 0x64) (i64.extend_i32_u (local.get 2)))
  (call $note (i32.const 0x65) (i64.const 2)))
"#;
    let mut envoy = start(0, &[ALLOCATOR, TICKING, steps])?;
    envoy.script(|script| script.reach = Reach::NoHealthyHost);
    envoy.run_for(Duration::from_millis(150));
    let notes: Vec<_> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|letter| note(&envoy, letter))
        .collect();
    assert_eq!(notes, [10, 0, 6, 14, 2].map(Some));
    Ok(())
}

/// A refused connection gives a token first and status 14 later.
#[test]
fn a_refused_connection_closes_later() -> Result<()> {
    let steps = r#"
(func (export "proxy_on_tick") (param i32)
  (if (i32.eqz (global.get $ticks)) (then
    (call $note (i32.const 0x61) (i64.extend_i32_u (call $open)))))
  (global.set $ticks (i32.const 1)))
(func (export "proxy_on_grpc_close") (param i32 i32 i32)
  (call $note (i32.const 0x62) (i64.extend_i32_u (local.get 2))))
"#;
    let mut envoy = start(0, &[ALLOCATOR, TICKING, steps])?;
    envoy.script(|script| script.reach = Reach::Refused);
    envoy.run_for(Duration::from_millis(100));
    assert_eq!((note(&envoy, "a"), note(&envoy, "b")), (Some(0), None));
    envoy.run_for(Duration::from_millis(10));
    assert_eq!(note(&envoy, "b"), Some(14));
    Ok(())
}

/// A bare cluster name is noted as the abort of Envoy that it can be.
#[test]
fn a_bare_cluster_name_fails_the_test() -> Result<()> {
    let steps = r#"
(func (export "proxy_on_tick") (param i32)
  (i32.store8 (i32.const 1024) (i32.const 0x61))
  (drop (call $open)))
"#;
    let mut envoy = start(0, &[ALLOCATOR, TICKING, steps])?;
    envoy.run_for(Duration::from_millis(150));
    let violations = envoy.take_violations();
    assert!(
        violations[0].contains("not a serialised GrpcService"),
        "{violations:?}"
    );
    Ok(())
}

/// After an update a new root lives in the same VM, started anew, and cannot use the old one's
/// stream; the old root ends with the drain, which resets its stream.
#[test]
fn a_new_root_lives_in_the_same_vm_beside_the_old_one() -> Result<()> {
    let steps = r#"
(func (export "proxy_on_vm_start") (param $root i32) (param i32) (result i32)
  (call $note (i32.const 0x61) (i64.extend_i32_u (local.get $root)))
  (i32.const 1))
(func (export "proxy_on_tick") (param $root i32)
  (if (i32.and (i32.eq (local.get $root) (i32.const 1)) (i32.eqz (global.get $ticks))) (then
    (global.set $ticks (i32.const 1))
    (drop (call $open))))
  (if (i32.eq (local.get $root) (i32.const 2)) (then
    (call $note (i32.const 0x62) (i64.extend_i32_u (call $send))))))
(func (export "proxy_on_done") (param $root i32) (result i32)
  (call $note (i32.const 0x63) (i64.extend_i32_u (local.get $root)))
  (i32.const 1))
"#;
    let mut envoy = start(0, &[ALLOCATOR, TICKING, steps])?;
    envoy.run_for(Duration::from_millis(150));
    let plugin = Plugin::new(probe(&[ALLOCATOR, TICKING, steps]), Role::Filter, "{ }");
    envoy.update(0, plugin)?;
    envoy.run_for(Duration::from_millis(150));
    assert_eq!(
        note(&envoy, "a"),
        Some(2),
        "started again, in the VM that has root 1"
    );
    assert_eq!(
        note(&envoy, "b"),
        Some(1),
        "the old root's token is unknown to the new one"
    );
    assert_eq!(note(&envoy, "c"), None);
    envoy.finish_drain();
    envoy.run_for(Duration::from_millis(10));
    assert_eq!(note(&envoy, "c"), Some(1));
    assert_eq!(envoy.aggregator().open_streams().len(), 0);
    assert_eq!(envoy.memory().len(), 1);
    Ok(())
}

/// Each root of a VM is done before the VM goes, however many there are.
#[test]
fn every_root_is_done_before_its_vm_goes() -> Result<()> {
    let says = r#"
(func (export "proxy_on_done") (param i32) (result i32)
  (call $say (i32.add (i32.const 0x30) (local.get 0))) (i32.const 1))
"#;
    let plugin = Plugin::new(probe(&[ALLOCATOR, says]), Role::Filter, "{}");
    let plugins = vec![
        plugin.clone(),
        plugin.clone().on(Direction::Outbound),
        plugin,
    ];
    let mut envoy = Envoy::start(Setup::new(plugins).workers(0))?;
    assert_eq!(envoy.memory().len(), 1, "one VM");
    envoy.shut_down();
    let logs = envoy.logs();
    let said: Vec<_> = logs.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(said, ["1", "2"], "plugins that are alike share a root");
    Ok(())
}

/// A trap kills its VM alone; what later requests get depends on the policy.
#[test]
fn a_trap_kills_one_vm_and_the_policy_says_what_requests_get() -> Result<()> {
    let traps = r#"
(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
  (if (i32.eqz (global.get $ticks)) (then (unreachable)))
  (i32.const 0))
(func (export "proxy_on_log") (param i32) (call $note (i32.const 0x61) (i64.const 1)))
"#;
    let cases = [
        (Failure::Open, Outcome::Passed, Outcome::Passed),
        (Failure::Closed, Outcome::Failed, Outcome::Failed),
    ];
    for (failure, first, second) in cases {
        let mut plugin = Plugin::new(probe(&[ALLOCATOR, traps]), Role::Filter, "{}");
        plugin.failure = failure;
        let mut envoy = Envoy::start(Setup::new(vec![plugin]))?;
        assert_eq!(envoy.request(0, &Request::inbound()), first);
        assert_eq!(envoy.request(0, &Request::inbound()), second);
        assert_eq!(envoy.dead(), [Thread::Worker(0)]);
        assert_eq!(note(&envoy, "a"), None, "no callback in a dead VM");
    }
    Ok(())
}

/// `FAIL_RELOAD` makes a new VM at the first request after its backoff.
#[test]
fn a_trapped_vm_is_replaced_under_fail_reload() -> Result<()> {
    let counts = r#"
(func (export "proxy_on_log") (param i32)
  (global.set $ticks (i32.add (global.get $ticks) (i32.const 1)))
  (call $note (i32.const 0x61) (i64.extend_i32_u (global.get $ticks))))
"#;
    let mut plugin = Plugin::new(probe(&[ALLOCATOR, counts]), Role::AccessLog, "{}");
    plugin.failure = Failure::Reload;
    let mut envoy = Envoy::start(Setup::new(vec![plugin]).workers(1))?;
    envoy.request(0, &Request::inbound());
    envoy.request(0, &Request::inbound());
    assert_eq!(note(&envoy, "a"), Some(2));
    envoy.trap(0, Thread::Worker(0), 1);
    envoy.request(0, &Request::inbound());
    assert_eq!(envoy.dead(), [Thread::Worker(0)]);
    envoy.request(0, &Request::inbound());
    envoy.run_seconds(2);
    envoy.request(0, &Request::inbound());
    assert_eq!(envoy.dead(), []);
    assert_eq!(note(&envoy, "a"), Some(1), "the new VM begins anew");
    Ok(())
}
