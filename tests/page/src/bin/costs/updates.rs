//! Script time of live updates.

use std::time::Duration;

use anyhow::{Context, Result};
use chromiumoxide::cdp::browser_protocol::network::EventEventSourceMessageReceived;
use chromiumoxide::cdp::browser_protocol::performance::{EnableParams, GetMetricsParams};
use futures_util::StreamExt as _;
use tests_page::Tab;
use tests_support::clock;
use tokio::time::timeout;

use crate::verdict;

/// Script time of an update, in milliseconds: a frame at 60 a second.
const SCRIPT_MS_MAX: f64 = 16.0;
/// Longest wait for one.
const UPDATE_WITHIN: Duration = Duration::from_mins(1);

/// Measures `updates` of them, from each event of the stream to the next, and prints; true if the
/// limit is kept.
pub(crate) async fn measure(tab: &Tab, updates: u32) -> Result<bool> {
    tab.page().execute(EnableParams::default()).await?;
    let events = tab
        .page()
        .event_listener::<EventEventSourceMessageReceived>();
    let mut events = events.await?;
    let mut next = async || {
        let event = timeout(UPDATE_WITHIN, events.next()).await;
        event.context("no update came")?.context("the tab is gone")
    };
    next().await?;
    let (begun, mut before) = (clock::now(), script_ms(tab).await?);
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..updates {
        bytes += next().await?.data.len();
        // The event is told before the script runs; it is over long before the next one.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = script_ms(tab).await?;
        times.push(now - before);
        before = now;
    }
    let count = f64::from(updates);
    let every = begun.elapsed().as_secs_f64() / count;
    let mean = times.iter().sum::<f64>() / count;
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let most = times.last().copied().unwrap_or_default();
    let kept = mean < SCRIPT_MS_MAX;
    println!(
        "{updates} updates, one in {every:.2} s, {} bytes each\nscript time of an update: median {median:.2} ms, most {most:.2} ms, mean {mean:.2} ms, limit {SCRIPT_MS_MAX} ms: {}",
        bytes / usize::try_from(updates)?,
        verdict(kept)
    );
    Ok(kept)
}

/// A number that the browser counts of the page.
pub(crate) async fn metric(tab: &Tab, name: &str) -> Result<f64> {
    let answer = tab.page().execute(GetMetricsParams::default()).await?;
    let found = answer.metrics.iter().find(|metric| metric.name == name);
    Ok(found
        .with_context(|| format!("Chromium has no {name}"))?
        .value)
}

/// Script time until now, in milliseconds.
async fn script_ms(tab: &Tab) -> Result<f64> {
    Ok(metric(tab, "ScriptDuration").await? * 1e3)
}
