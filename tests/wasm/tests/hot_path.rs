//! What a request may cost: the calls of host functions by role, and no memory.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tests_wasm::cost::Cost;
use tests_wasm::envoy::{Envoy, Setup};
use tests_wasm::plugin::{Plugin, Role};
use tests_wasm::request::Request;
use tests_wasm::totals::What;

const CLOCK: (&str, u64) = ("clock_time_get", 1);
const PROPERTY: (&str, u64) = ("proxy_get_property", 1);
/// The status of the response.
const STATUS: (&str, u64) = PROPERTY;

/// A role whose direction is configured, with more in its configuration.
fn cost(role: Role, more: &[(&str, Value)]) -> Result<Cost> {
    Cost::of(role, |json| {
        json["direction"] = json!("inbound");
        for (field, value) in more {
            json[*field] = value.clone();
        }
    })
}

/// The filter reads the clock at both ends for the integral of requests in flight, and the status
/// at the end. `cargo run -p tests-wasm --example host_calls` prints all of it.
#[test]
fn the_filter_makes_three_host_calls_per_request() -> Result<()> {
    let cost = cost(Role::Filter, &[])?;
    assert_eq!(cost.host_calls("proxy_on_request_headers"), [CLOCK]);
    assert_eq!(cost.host_calls("proxy_on_done"), [CLOCK, STATUS]);
    assert_eq!(cost.host_calls("proxy_on_context_create"), []);
    assert_eq!(cost.crossings(), 3);
    Ok(())
}

/// An access logger is entered once and asks for the status alone, or for nothing.
#[test]
fn the_access_log_makes_one_host_call_per_request() -> Result<()> {
    let with_status = cost(Role::AccessLog, &[])?;
    assert_eq!(with_status.host_calls("proxy_on_log"), [STATUS]);
    assert_eq!(with_status.crossings(), 1);
    let without = cost(Role::AccessLog, &[("responses", json!("off"))])?;
    assert_eq!(without.host_calls("proxy_on_log"), []);
    Ok(())
}

/// The upstream log asks whether there was a connection.
#[test]
fn the_upstream_log_makes_one_host_call_per_attempt() -> Result<()> {
    let cost = cost(Role::UpstreamLog, &[])?;
    assert_eq!(cost.host_calls("proxy_on_log"), [PROPERTY]);
    assert_eq!(cost.crossings(), 1);
    Ok(())
}

/// A configured dimension costs one property more, where it is needed; so may a direction that is
/// not configured.
#[test]
fn what_has_to_be_asked_for_costs_one_property() -> Result<()> {
    let by_cluster = [("dimensions", json!(["cluster"]))];
    let filter = cost(Role::Filter, &by_cluster)?;
    assert_eq!(
        filter.host_calls("proxy_on_request_headers"),
        [CLOCK, PROPERTY]
    );
    assert_eq!(filter.host_calls("proxy_on_done"), [CLOCK, STATUS]);
    let access_log = cost(Role::AccessLog, &by_cluster)?;
    assert_eq!(
        access_log.host_calls("proxy_on_log"),
        [("proxy_get_property", 2)]
    );
    let auto = [("direction", json!("auto"))];
    let filter = cost(Role::Filter, &auto)?;
    let begin = filter.host_calls("proxy_on_request_headers");
    assert!(begin == [CLOCK] || begin == [CLOCK, PROPERTY], "{begin:?}");
    assert_eq!(filter.host_calls("proxy_on_done"), [CLOCK, STATUS]);
    let access_log = cost(Role::AccessLog, &auto)?;
    assert_eq!(
        access_log.host_calls("proxy_on_log"),
        [("proxy_get_property", 2)]
    );
    Ok(())
}

/// The work of a request is bounded; it does not grow with the requests before it.
#[test]
fn the_work_of_a_request_is_small() -> Result<()> {
    for (role, work_max) in [
        (Role::Filter, 2000),
        (Role::AccessLog, 1000),
        (Role::UpstreamLog, 1000),
    ] {
        let work = cost(role, &[])?.work;
        assert!((1..=work_max).contains(&work), "{role:?}: {work}");
    }
    Ok(())
}

/// A hundred thousand requests and their reports take no more memory than the first thousands did.
#[test]
fn memory_does_not_grow_with_requests() -> Result<()> {
    for role in [Role::Filter, Role::AccessLog, Role::UpstreamLog] {
        let plugin = Plugin::deployed_with(role, |json| json["dimensions"] = json!(["cluster"]))?;
        let mut envoy = Envoy::start(Setup::new(vec![plugin]))?;
        envoy.run_seconds(3);
        let request = Request::inbound();
        let send = |envoy: &mut Envoy, count: usize| {
            for index in 0..count {
                let worker = index % 2;
                match role {
                    Role::UpstreamLog => envoy.attempt(worker, &request),
                    Role::Filter | Role::AccessLog => {
                        envoy.request(worker, &request);
                    }
                }
                envoy.run_for(Duration::from_millis(1));
            }
        };
        send(&mut envoy, 5000);
        let before = envoy.memory();
        send(&mut envoy, 100_000);
        assert_eq!(envoy.memory(), before, "{role:?}");
        envoy.run_seconds(2);
        let what = match role {
            Role::UpstreamLog => What::Attempts,
            Role::Filter | Role::AccessLog => What::Requests,
        };
        let aggregator = envoy.aggregator();
        assert_eq!(aggregator.totals().sum(what), Some(105_000), "{role:?}");
    }
    Ok(())
}
