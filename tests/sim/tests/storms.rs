//! A storm of ten thousand sidecars, and smaller ones of each kind over seeds. More by
//! `cargo run -p tests-sim -- --storm 10000 --seeds 5`.

use tests_sim::storm::{Kind, Outcome, Plan, run};

fn passes(seed: u64, plan: Plan) -> Outcome {
    run(seed, plan).unwrap_or_else(|broken| panic!("{broken}"))
}

/// Ten thousand sidecars of a replica that takes in a thousand a second.
#[test]
fn ten_thousand_at_once() {
    let outcome = passes(1, Plan::new(10_000, Kind::Restart));
    assert!(outcome.values > 30_000, "{outcome}");
    // The replica was far behind, and no value passed for younger than it was.
    assert!(outcome.waited_ms > 2000, "{outcome}");
}

/// A thousand sidecars over several seeds, of a replica that takes in a hundred a second.
#[test]
fn small_storms_over_seeds() {
    for seed in 0..2 {
        for kind in Kind::ALL {
            let plan = Plan {
                handshake_us: 10_000,
                report_us: 200,
                ..Plan::new(1000, kind)
            };
            passes(seed, plan);
        }
    }
}
