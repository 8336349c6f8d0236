//! What a page that stays open keeps.

use std::time::Duration;

use anyhow::{Result, ensure};
use chromiumoxide::cdp::js_protocol::heap_profiler::CollectGarbageParams;
use tests_page::Tab;
use tests_page::fleet::Fleet;

use crate::updates::metric;
use crate::{LIVE, SOON, verdict};

const MINUTE: Duration = Duration::from_mins(1);
/// What the browser counts, and how much of the first minute's value the last one's may be.
const COUNTED: [(&str, f64); 3] = [
    ("JSHeapUsedSize", 1.1),
    ("Nodes", 1.02),
    ("JSEventListeners", 1.0),
];

/// Counts at the end of each minute, after garbage was collected, and prints; true if the last
/// minute has no more than the first one.
pub(crate) async fn measure(tab: &Tab, fleet: &mut Fleet, minutes: u32) -> Result<bool> {
    println!(
        "{:>6}{:>16}{:>10}{:>18}",
        "minute", COUNTED[0].0, COUNTED[1].0, COUNTED[2].0
    );
    let (mut first, mut last) = (None, [0.0; 3]);
    let reports = fleet.reports();
    for minute in 1..=minutes {
        tokio::time::sleep(MINUTE).await;
        fleet.check()?;
        tab.wait("a live page", SOON, LIVE).await?;
        tab.page().execute(CollectGarbageParams::default()).await?;
        for (value, (name, _)) in last.iter_mut().zip(COUNTED) {
            *value = metric(tab, name).await?;
        }
        first.get_or_insert(last);
        println!("{minute:>6}{:>16}{:>10}{:>18}", last[0], last[1], last[2]);
    }
    ensure!(
        fleet.reports() > reports,
        "no report came while the page was open"
    );
    let first = first.unwrap_or(last);
    let mut all = true;
    for ((name, share), (first, last)) in COUNTED.iter().zip(first.iter().zip(last)) {
        let kept = last <= first * share;
        println!(
            "{name}: {first} to {last}, limit {share} of the first: {}",
            verdict(kept)
        );
        all &= kept;
    }
    Ok(all)
}
