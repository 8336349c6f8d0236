//! Envoy's hot restart: from the child's first report on values are right or not there while two
//! processes serve, and right again afterwards.

use tests_envoy::hot_restart::{Case, Outcome, run};

fn is_exact_or_unknown(outcome: &Outcome) {
    assert!(outcome.both.unknown > 0, "never unknown: {outcome:#?}");
    assert!(outcome.handover.wrong.is_empty(), "{outcome:#?}");
    assert!(outcome.both.wrong.is_empty(), "{outcome:#?}");
    assert!(outcome.after.wrong.is_empty(), "{outcome:#?}");
    let two = |reason: &String| reason.contains("two Envoy processes");
    assert!(outcome.reasons.iter().any(two), "{outcome:#?}");
    assert!(outcome.after.values > 0, "{outcome:#?}");
}

/// The child takes over the parent's numbers each second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_merged_soon() {
    let case = Case {
        stats_flush_interval: "1s",
        args: &[],
        old: false,
    };
    is_exact_or_unknown(&run(case).await.unwrap());
}

/// The child takes over the parent's numbers when it starts and then not before the parent has
/// ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_merged_late() {
    let case = Case {
        stats_flush_interval: "60s",
        args: &[],
        old: true,
    };
    is_exact_or_unknown(&run(case).await.unwrap());
}

/// The child never hears of the parent's numbers: the aggregator hears both processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_not_merged() {
    let case = Case {
        stats_flush_interval: "5s",
        args: &["--skip-hot-restart-parent-stats"],
        old: false,
    };
    is_exact_or_unknown(&run(case).await.unwrap());
}
