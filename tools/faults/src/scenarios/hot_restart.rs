//! An Envoy takes over from another while that one drains.

use anyhow::Result;
use tests_envoy::hot_restart::{Case, run};

use crate::row::Row;

/// With the parent's numbers merged each second, once at the start, and never.
pub(super) async fn hot_restart() -> Result<Vec<Row>> {
    let cases = [
        ("merged each second", "1s", &[][..]),
        ("merged each minute", "60s", &[]),
        ("never merged", "5s", &["--skip-hot-restart-parent-stats"]),
    ];
    let mut rows = Vec::new();
    for (what, stats_flush_interval, args) in cases {
        let outcome = run(Case {
            stats_flush_interval,
            args,
            old: false,
        })
        .await?;
        // Totals go on under other names: what matters is each value.
        let mut row = Row::new("hot-restart", "values", outcome.sent, outcome.sent);
        row.watched(&outcome.handover);
        row.watched(&outcome.both);
        let both = std::mem::take(&mut row.note);
        row.watched(&outcome.after);
        row.note = format!("{what}: both {both}; then {}", row.note);
        row.promise(outcome.after.values > 0, || {
            "no value after the parent had ended".to_owned()
        });
        row.promise(outcome.both.unknown > 0, || {
            "never unknown while both ran".to_owned()
        });
        rows.push(row);
    }
    Ok(rows)
}
