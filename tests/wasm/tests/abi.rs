//! What the host says in more than one way, or beside a callback.

use anyhow::Result;
use tests_wasm::envoy::{Envoy, Setup};
use tests_wasm::plugin::{Plugin, Role};
use tests_wasm::request::Request;
use tests_wasm::totals::What;

/// gRPC status: a frame was refused.
const INVALID_ARGUMENT: u32 = 3;

/// An access logger sees no status of a request that was reset, in whichever way Envoy says so.
#[test]
fn a_missing_status_is_no_status_either_way() -> Result<()> {
    for absent_header_is_empty in [false, true] {
        for role in [Role::Filter, Role::AccessLog] {
            let mut setup = Setup::new(vec![Plugin::deployed(role)?]);
            setup.absent_header_is_empty = absent_header_is_empty;
            let mut envoy = Envoy::start(setup)?;
            envoy.run_seconds(2);
            for _ in 0..3 {
                envoy.request(0, &Request::inbound().reset());
            }
            envoy.run_seconds(2);
            let aggregator = envoy.aggregator();
            let none = aggregator.totals().sum(What::Responses(0));
            assert_eq!(none, Some(3), "{role:?}");
        }
    }
    Ok(())
}

/// A status that means trouble is told once, with the message that the host keeps beside it.
#[test]
fn a_refusal_is_told_once() -> Result<()> {
    let message = "`series.cluster` is too long";
    let mut envoy = Envoy::start(Setup::new(vec![Plugin::deployed(Role::Filter)?]))?;
    for _ in 0..5 {
        envoy.run_seconds(3);
        envoy.close_streams(INVALID_ARGUMENT, message);
    }
    envoy.run_seconds(2);
    let logs = envoy.logs();
    let lines: Vec<_> = logs.iter().map(|line| line.message.as_str()).collect();
    let told = lines.iter().filter(|line| line.contains(message));
    assert_eq!(told.count(), 1, "{lines:?}");
    Ok(())
}
