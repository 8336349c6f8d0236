//! Clocks that are set: no value is wrong, too new or missing. How old values get is judged by the
//! command alone, on a machine that does nothing else.

use tools_faults::row::Row;
use tools_faults::scenarios::ALL;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_clock_changes_a_value() {
    let clocks = ALL.iter().filter(|it| it.name.starts_with("clock-"));
    for scenario in clocks {
        let rows = scenario.run(1).await.unwrap();
        assert!(rows.iter().all(Row::is_true), "{rows:#?}");
    }
}
