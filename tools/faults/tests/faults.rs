//! Every scenario in a short form: nothing lost, nothing doubled, and where values are read all the
//! time none is wrong. How fast is judged by the command alone, on a machine that does nothing
//! else.

use tools_faults::scenarios::ALL;

/// Kills and ends of each process: the command does twenty.
const ROUNDS: u32 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled() {
    let mut broken = Vec::new();
    // A hot restart and clocks are judged by each value, which `tests-envoy` and `clocks.rs` do.
    let by_values = |name: &str| name == "hot-restart" || name.starts_with("clock-");
    for scenario in ALL.iter().filter(|scenario| !by_values(scenario.name)) {
        match scenario.run(ROUNDS).await {
            Ok(rows) => broken.extend(rows.into_iter().filter(|row| !row.is_true())),
            Err(error) => panic!("{}: {error:#}", scenario.name),
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
