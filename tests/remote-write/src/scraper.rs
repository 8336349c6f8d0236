//! What the compliance suite of Remote-Write expects around a sender: a target is scraped each
//! second, and what it shows is written by the production encoder, queue and sender.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aggregator_remote_write::batch::{Kind, SINGLE};
use aggregator_remote_write::encoder::{Encoder, SeriesLabels};
use aggregator_remote_write::endpoint::Endpoint;
use aggregator_remote_write::metrics::Metrics;
use aggregator_remote_write::protocol::Version;
use aggregator_remote_write::queue::{Limits, Queue};
use aggregator_remote_write::receiver::{Auth, HttpReceiver};
use aggregator_remote_write::sender::{Sender, Settings};
use aggregator_remote_write::write_request::STALE;
use anyhow::{Context, Result, bail, ensure};
use common_time::Clock;
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_secs(1);
/// The instance of every series.
pub const INSTANCE: &str = "127.0.0.1:9999";

type Labels = BTreeMap<String, String>;

/// Scrapes `target` (given the number of the scrape, from 0, it gives its page) so often, and waits
/// until all is sent.
pub async fn scrape(
    url: &str,
    clock: &Clock,
    scrapes: u32,
    target: impl Fn(u32) -> String,
) -> Result<()> {
    scrape_in(Version::V1, url, clock, scrapes, target).await
}

/// The same in `version` of the protocol.
pub async fn scrape_in(
    version: Version,
    url: &str,
    clock: &Clock,
    scrapes: u32,
    target: impl Fn(u32) -> String,
) -> Result<()> {
    let endpoint = Endpoint::new(url, None)?;
    let receiver = HttpReceiver::new(endpoint, Auth::None, None, clock.clone())?;
    let settings = Settings {
        interval: INTERVAL,
        version,
        gate: None,
    };
    let queue = Queue::in_memory(Limits::MEMORY);
    let (clock, metrics) = (clock.clone(), Metrics::default());
    let sender = Sender::new(queue, receiver, clock.clone(), metrics, settings, || 0.5);
    let stop = CancellationToken::new();
    let sending = tokio::spawn(Arc::clone(&sender).run(stop.clone()));
    let mut before: BTreeSet<SeriesLabels> = BTreeSet::new();
    for nth in 0..scrapes {
        let timestamp = i64::try_from(clock.wall().0)?;
        let page = parse(&target(nth));
        let up = if page.is_ok() { 1.0 } else { 0.0 };
        let mut samples = page.unwrap_or_default();
        samples.push((Labels::from([("__name__".to_owned(), "up".to_owned())]), up));
        let mut now = BTreeSet::new();
        let mut encoder = Encoder::new(SINGLE, Kind::Plain, timestamp);
        for (labels, value) in samples {
            let labels = series(labels)?;
            encoder.push(&labels, value)?;
            now.insert(labels);
        }
        for gone in before.difference(&now) {
            encoder.push(gone, STALE)?;
        }
        before = now;
        sender.push(timestamp, encoder.finish()?);
        tokio::time::sleep(INTERVAL).await;
    }
    stop.cancel();
    sending.await?;
    Ok(())
}

/// Labels of a target's sample with those of the target, which win: what the sample had is kept as
/// `exported_`.
fn series(mut labels: Labels) -> Result<SeriesLabels> {
    for (name, value) in [("job", "test"), ("instance", INSTANCE)] {
        if let Some(own) = labels.insert(name.to_owned(), value.to_owned()) {
            labels.insert(format!("exported_{name}"), own);
        }
    }
    let name = labels.remove("__name__").context("a name")?;
    let labels = labels.iter();
    let labels = labels.map(|(name, value)| (name.as_str(), value.as_str()));
    Ok(SeriesLabels::new(&name, labels)?)
}

/// The samples of a page of the text format; an error if any line is not of it, as for Prometheus.
fn parse(page: &str) -> Result<Vec<(Labels, f64)>> {
    let lines = page.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(sample).collect()
}

fn sample(line: &str) -> Result<(Labels, f64)> {
    let (series, value) = line.rsplit_once(' ').context("no value")?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        value => value.parse()?,
    };
    let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
    let name = name.trim();
    let first = name.chars().next();
    ensure!(first.is_some_and(|c| c.is_ascii_alphabetic()), "no name");
    let mut labels = Labels::from([("__name__".to_owned(), name.to_owned())]);
    let pairs = rest.strip_suffix('}').context("no end of the labels")?;
    for pair in pairs.split(',').filter(|pair| !pair.is_empty()) {
        let (label, value) = pair.split_once('=').context("a label without a value")?;
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        let value = value.context("a value without quotes")?.to_owned();
        if labels.insert(label.trim().to_owned(), value).is_some() {
            bail!("{label} is there twice");
        }
    }
    Ok((labels, value))
}
