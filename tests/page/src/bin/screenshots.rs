//! Two pictures of the page for readers: a workload whose load doubled, and why it was scaled.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tests_page::{Browser, Ui, View, World};

/// Makes workload.png and explanation.png.
#[derive(Debug, Parser)]
struct Args {
    /// Where they go.
    folder: PathBuf,
}

/// With what comes after it, longer than the chart: the start is no more in it.
const BEFORE: Duration = Duration::from_secs(105);
const AFTER: Duration = Duration::from_secs(30);
const SYNC_EVERY: Duration = Duration::from_secs(15);
const SOON: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut world = World::start().await?;
    let ui = Ui::start(world.aggregator.api_address()).await?;
    let browser = Browser::start().await?;
    world.set_load(20.0)?;
    world.wait_values().await?;
    pass(&mut world, BEFORE).await?;
    world.set_load(42.0)?;
    pass(&mut world, AFTER).await?;
    world.sync().await?;
    let workload = ui.url("namespaces/prod/page/workload?kind=Deployment&name=jazz-v1");
    let tab = browser.open(&workload, View::LIGHT).await?;
    let live = "document.getElementById('live').dataset.state === 'live'";
    tab.wait("a live page", SOON, live).await?;
    tab.screenshot(&args.folder.join("workload.png")).await?;
    tab.follow("#reads tbody th a").await?;
    tab.screenshot(&args.folder.join("explanation.png")).await?;
    browser.close().await
}

/// Lets time pass, with the autoscaler's syncs in it.
async fn pass(world: &mut World, time: Duration) -> Result<()> {
    for _ in 0..time.as_secs() / SYNC_EVERY.as_secs() {
        world.sync().await?;
        tokio::time::sleep(SYNC_EVERY).await;
    }
    Ok(())
}
