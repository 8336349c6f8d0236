//! Every scenario in a short form: nothing lost, nothing doubled. How fast is judged by the command alone, on a machine
//! that does nothing else.

use tools_faults::scenarios::ALL;

/// Kills and ends of each process: the command does twenty.
const ROUNDS: u32 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled() {
    let mut broken = Vec::new();
    // A hot restart is judged by its values, which `tests-envoy` does.
    for scenario in ALL.iter().filter(|scenario| scenario.name != "hot-restart") {
        match scenario.run(ROUNDS).await {
            Ok(rows) => broken.extend(
                rows.into_iter()
                    .filter(|row| row.sent == 0 || row.lost > row.lost_max || row.doubled > 0),
            ),
            Err(error) => panic!("{}: {error:#}", scenario.name),
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
