//! Prints what one request costs in each role: `cargo run -p tests-wasm --example host_calls`.

use std::io::Write as _;

use anyhow::Result;
use serde_json::json;
use tests_wasm::cost::Cost;
use tests_wasm::plugin::Role;

fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    for role in [Role::Filter, Role::AccessLog, Role::UpstreamLog] {
        writeln!(out, "{role:?}\n{}", Cost::of(role, |_| ())?)?;
        let cost = Cost::of(role, |json| json["dimensions"] = json!(["cluster"]))?;
        writeln!(out, "{role:?}, clusters told apart\n{cost}")?;
    }
    let cost = Cost::of(Role::AccessLog, |json| json["responses"] = json!("off"))?;
    writeln!(out, "AccessLog, responses off\n{cost}")?;
    Ok(())
}
