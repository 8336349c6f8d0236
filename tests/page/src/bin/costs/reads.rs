//! Reads of an autoscaler, with and without open pages.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_page::Ui;
use tests_page::fleet::{self, Fleet, NAMESPACE};
use tests_support::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// A round, without what comes before it.
pub(crate) const ROUND: Duration = Duration::from_secs(15);
/// Between two reads, as `scripts/bench api` asks.
const EVERY: Duration = Duration::from_millis(20);
/// From the opening of pages to the first read that counts.
const WARM_UP: Duration = Duration::from_secs(3);
const METRIC: &str = "appmesh_requests_per_second";

/// Times of the reads of one kind of round, in milliseconds.
#[derive(Debug, Default)]
struct Times(Vec<f64>);

/// Measures pairs of rounds, the one with `pages` open pages first in every other one, and prints.
pub(crate) async fn measure(fleet: &Fleet, ui: &Ui, rounds: u32, pages: u32) -> Result<()> {
    let (mut without, mut with) = (Times::default(), Times::default());
    let mut ratios = Times::default();
    for round in 0..rounds {
        let (mut one, mut other) = (Times::default(), Times::default());
        for is_open in [round % 2 == 0, round % 2 != 0] {
            if is_open {
                let mut open = open_pages(ui, pages)?;
                other = read(fleet).await?;
                let ended = open.try_join_next();
                ensure!(ended.is_none(), "a page ended: {ended:?}");
            } else {
                one = read(fleet).await?;
            }
        }
        ratios.0.push(other.quantile(50) / one.quantile(50));
        without.0.append(&mut one.0);
        with.0.append(&mut other.0);
    }
    println!("{:<24}{:>8}{:>10}{:>10}", "reads", "", "p50 ms", "p99 ms");
    for (what, times) in [("no page", &without), ("open pages", &with)] {
        let (count, [p50, p99]) = (times.0.len(), [50, 99].map(|of| times.quantile(of)));
        println!("{what:<24}{count:>8}{p50:>10.3}{p99:>10.3}");
    }
    println!(
        "{pages} open pages over none: median {:.3} times (median of {rounds} pairs), p99 {:.3} times",
        ratios.quantile(50),
        with.quantile(99) / without.quantile(99),
    );
    Ok(())
}

/// The live updates of so many pages, no two alike up to a workload's number.
fn open_pages(ui: &Ui, pages: u32) -> Result<JoinSet<Result<()>>> {
    let mut open = JoinSet::new();
    for number in 0..pages {
        let path = match number {
            0 => "page/events?view=overview".to_owned(),
            1 => "page/events?view=pods".to_owned(),
            2 => "page/events?view=system".to_owned(),
            3 => format!("namespaces/{NAMESPACE}/page/events?view=overview"),
            number => format!(
                "namespaces/{NAMESPACE}/page/events?view=workload&kind=Deployment&name={}",
                fleet::workload(number)
            ),
        };
        let url = ui.url(&path);
        parts(&url)?;
        open.spawn(async move {
            // A stream ends after 45 s, and a browser opens the next.
            loop {
                stream(&url).await.with_context(|| url.clone())?;
            }
        });
    }
    Ok(open)
}

/// Reads one stream to its end.
async fn stream(url: &str) -> Result<()> {
    let (address, path) = parts(url)?;
    let mut connection = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 64 << 10];
    let mut answer = Vec::new();
    loop {
        let count = connection.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        if answer.len() < 12 {
            answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
    }
    let text = String::from_utf8_lossy(&answer);
    ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
    Ok(())
}

/// The address and the path of a plain URL.
fn parts(url: &str) -> Result<(SocketAddr, &str)> {
    let rest = url.strip_prefix("http://").context("not a plain URL")?;
    let at = rest.find('/').context("a URL without a path")?;
    let (host, path) = rest.split_at(at);
    let address = host.to_socket_addrs()?.next();
    Ok((address.context("a host without an address")?, path))
}

/// A round of reads of a workload's pods.
async fn read(fleet: &Fleet) -> Result<Times> {
    tokio::time::sleep(WARM_UP).await;
    let begun = clock::now();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times = Times::default();
    let mut number = 0;
    while begun.elapsed() < ROUND {
        ticks.tick().await;
        let selector = format!("app={}", fleet::workload(number));
        let start = clock::now();
        let api = fleet.aggregator.api();
        let list = api.pods_metric(NAMESPACE, &selector, METRIC).await?;
        times.0.push(start.elapsed().as_secs_f64() * 1e3);
        ensure!(!list.items.is_empty(), "{selector} has no pods");
        number += 1;
    }
    Ok(times)
}

// === impl Times ===

impl Times {
    /// The smallest value that at least `percent` of them do not exceed; NaN of nothing.
    fn quantile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100);
        let found = sorted.get(rank.saturating_sub(1));
        found.copied().unwrap_or(f64::NAN)
    }
}
