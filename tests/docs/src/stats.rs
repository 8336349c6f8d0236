//! What the filter shows on a sidecar's own `/stats`, as a table.

use std::fmt::Write as _;

use filter_core::series::Role;
use filter_core::series::{Counter, Direction, Outcome, metric_name};

/// The table of the counters, for clusters not told apart.
pub fn render() -> String {
    let roles = [Role::Filter, Role::AccessLog, Role::UpstreamLog];
    let counters = [
        (Counter::Events, "counter", ""),
        (
            Counter::Responses(Outcome(5)),
            "counter",
            "Those that ended so: `_1xx` to `_5xx`, `_none` without a response, or `_404` with `\"responses\": \"code\"`",
        ),
        (Counter::Inflight, "gauge", "In flight now"),
        (
            Counter::InflightNanos,
            "counter",
            "Integral of what is in flight over time, in nanoseconds times requests",
        ),
    ];
    let mut out = String::from("\n| Name | Role | Kind | Meaning |\n|---|---|---|---|\n");
    for role in roles {
        let events = match role {
            Role::Filter => "Requests that began",
            Role::AccessLog => "Requests that ended",
            Role::UpstreamLog => "Attempts that reached an upstream connection",
        };
        for (counter, kind, meaning) in counters {
            let meaning = if counter == Counter::Events {
                events
            } else {
                meaning
            };
            let integral = matches!(counter, Counter::Inflight | Counter::InflightNanos);
            // Only that role sees a request begin.
            if integral && role != Role::Filter {
                continue;
            }
            let name = metric_name(role, Direction::Inbound, "", counter);
            let role = role.as_str();
            let _ = writeln!(
                out,
                "| `wasmcustom.{name}` | `{role}` | {kind} | {meaning}. |"
            );
        }
    }
    out.push('\n');
    out
}
