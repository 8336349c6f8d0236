//! The page through a load step, in Chromium: a reader sees the step in chart and table, and walks
//! to why the autoscaler did what it did, in both themes; nobody is kept out, and nothing is asked
//! of another host.
#![expect(clippy::print_stdout, reason = "what was measured belongs in the log")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_page::world::TARGET;
use tests_page::{Browser, Tab, Ui, View, World, axe};

/// Rate before the step, per pod: what the autoscaler aims at.
const BEFORE: f64 = TARGET as f64;
/// And after it.
const AFTER: f64 = 3.0 * BEFORE;
/// For what the page shows a second later, on a machine that does much else.
const SOON: Duration = Duration::from_secs(15);
/// Bytes of a page with all it loads.
const BYTES_MAX: u64 = 150 * 1024;

const WORKLOAD: &str = "namespaces/prod/page/workload?kind=Deployment&name=jazz-v1";

/// Rates of the pods in the table, as numbers.
const TABLE: &str = "[...document.querySelectorAll('#pods tbody tr')]
  .map((row) => Number(row.cells[2].textContent.replaceAll(',', '')))";
/// Height of the newest point of each pod's line over the axis, as a share of the panel.
const CHART: &str = "[...document.querySelectorAll('#pods-chart path.line')].map((line) => {
  const height = Number(line.ownerSVGElement.getAttribute('viewBox').split(' ')[3]);
  const numbers = line.getAttribute('d').match(/[ML][\\d.]+ [\\d.]+/g);
  const first = Number(numbers[0].split(' ')[1]), last = Number(numbers.at(-1).split(' ')[1]);
  return [(height - first) / height, (height - last) / height];
})";
const LIVE: &str = "document.getElementById('live').dataset.state === 'live'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_step_is_seen_and_explained() -> Result<()> {
    let mut world = World::start().await?;
    let ui = Ui::start(world.aggregator.api_address()).await?;
    // A browser each: the tab behind another one is hidden, and pauses.
    let browsers = [Browser::start().await?, Browser::start().await?];
    world.set_load(BEFORE)?;
    world.wait_values().await?;
    world.sync().await?;
    let light = browsers[0].open(&ui.url("page"), View::LIGHT).await?;
    let dark = browsers[1].open(&ui.url("page"), View::DARK).await?;
    for tab in [&light, &dark] {
        walk_to_the_workload(tab).await?;
        let quiet = format!(
            "{TABLE}.every((rate) => rate > {} && rate < {})",
            BEFORE * 0.6,
            BEFORE * 1.5
        );
        tab.wait("the quiet rate", Duration::from_mins(1), &quiet)
            .await?;
    }

    world.set_load(AFTER)?;
    let table = format!("{TABLE}.every((rate) => rate > {})", BEFORE * 1.5);
    let chart = format!("{CHART}.every(([first, last]) => last > 1.3 * first)");
    let both = format!("{table} && {chart}");
    let (in_light, in_dark) = tokio::join!(
        light.wait("the step in chart and table", SOON, &both),
        dark.wait("the step in chart and table", SOON, &both),
    );
    let seen = in_light?.max(in_dark?);
    println!("the step was in chart and table after {seen:?}");
    let full = format!("{TABLE}.every((rate) => rate > {})", AFTER * 0.9);
    light.wait("all of the step", SOON, &full).await?;
    world.wait_rates(AFTER * 0.9).await?;
    world.sync().await?;
    for (tab, theme) in [(&light, "light"), (&dark, "dark")] {
        walk_to_the_explanation(tab, theme).await?;
        check_hygiene(tab, &ui)?;
    }
    Ok(())
}

/// From the overview, by links.
async fn walk_to_the_workload(tab: &Tab) -> Result<()> {
    tab.wait("a live overview", SOON, LIVE).await?;
    tab.wait(
        "the workload",
        SOON,
        "document.querySelector('#workloads tbody a') !== null",
    )
    .await?;
    tab.follow("#workloads tbody th a").await?;
    tab.wait("a live workload", SOON, LIVE).await?;
    let title: String = tab.eval("document.querySelector('h1').textContent").await?;
    ensure!(title == "Deployment jazz-v1", "{title}");
    Ok(())
}

/// From the mark of the read that scaled to its explanation, then to the HPA.
async fn walk_to_the_explanation(tab: &Tab, theme: &str) -> Result<()> {
    let above = format!("Number(row.cells[5].textContent) > {}", TARGET * 2);
    let found = format!("[...document.querySelectorAll('#reads tbody tr')].some((row) => {above})");
    tab.wait("the read that saw the step", SOON, &found).await?;
    let marks = "document.querySelectorAll('#pods-chart a.read').length >= 2";
    tab.wait("the reads' marks in the chart", SOON, marks)
        .await?;
    let target = "document.querySelectorAll('#pods-chart line.target').length === 1";
    tab.wait("the target's line", SOON, target).await?;
    pictured(tab, theme, "workload").await?;
    // The mark is a link, and it leads to the same place as the row of its read.
    let same: bool = tab
        .eval(
            "(() => { const marks = [...document.querySelectorAll('#pods-chart a.read')].map((mark) => mark.href.baseVal);
              return marks.includes(document.querySelector('#reads tbody th a').getAttribute('href')); })()",
        )
        .await?;
    ensure!(same, "no mark leads where the newest read's row leads");
    tab.follow("#reads tbody th a").await?;
    tab.wait(
        "the explanation",
        SOON,
        "document.querySelector('#sentences li') !== null",
    )
    .await?;
    let facts: String = tab
        .eval("document.querySelector('#summary').innerText")
        .await?;
    // 2 pods with three times the target each are 6; without a behaviour at most twice as many or
    // 4.
    ensure!(facts.contains("Derived here\n4"), "{facts}");
    ensure!(facts.contains("the same"), "{facts}");
    pictured(tab, theme, "explanation").await?;
    tab.follow(".trail li:last-child a").await?;
    tab.wait(
        "the HPA's decision",
        SOON,
        "document.querySelector('#hpa-chart a.decision') !== null",
    )
    .await?;
    pictured(tab, theme, "hpa").await
}

/// A picture for people, and what axe-core finds.
async fn pictured(tab: &Tab, theme: &str, name: &str) -> Result<()> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/page"));
    tab.screenshot(&folder.join(format!("{name}-{theme}.png")))
        .await?;
    let found = axe::findings(tab)
        .await
        .with_context(|| format!("axe on {name}"))?;
    ensure!(found.is_empty(), "{name} in {theme}: {found:#?}");
    Ok(())
}

/// Nothing was asked of another host, and nothing violated the content security policy.
fn check_hygiene(tab: &Tab, ui: &Ui) -> Result<()> {
    let seen = tab.seen();
    ensure!(seen.errors.is_empty(), "{:#?}", seen.errors);
    let foreign = seen
        .requests
        .iter()
        .filter(|url| !url.starts_with(ui.base()));
    let foreign: Vec<_> = foreign.collect();
    ensure!(foreign.is_empty(), "{foreign:#?}");
    Ok(())
}

/// Every page is within reach of everybody: axe-core, a phone, the keyboard, without scripts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_kept_out() -> Result<()> {
    let mut world = World::start().await?;
    let ui = Ui::start(world.aggregator.api_address()).await?;
    let browser = Browser::start().await?;
    world.set_load(BEFORE)?;
    world.wait_values().await?;
    world.sync().await?;
    let pages = [
        ("overview", "page"),
        ("namespace", "namespaces/prod/page"),
        ("pods", "page/pods"),
        ("system", "page/system"),
        ("hpa-page", "namespaces/prod/page/hpa?name=jazz"),
        ("problem", "namespaces/prod/page/hpa?name=nobody"),
        ("workload-page", WORKLOAD),
    ];
    for (view, theme) in [
        (View::LIGHT, "light"),
        (View::DARK, "dark"),
        (View::PHONE, "phone"),
    ] {
        let tab = browser.open(&ui.url("page"), view).await?;
        for (name, path) in pages {
            tab.forget();
            tab.go(&ui.url(path)).await?;
            if name != "problem" {
                tab.wait("a live page", SOON, LIVE).await?;
            }
            pictured(&tab, theme, name).await?;
            let width: u32 = tab.eval("document.documentElement.scrollWidth").await?;
            ensure!(
                width <= view.width,
                "{name} is {width} wide in {}",
                view.width
            );
            let problem = name == "problem";
            // The refusal itself is logged as a failed load.
            ensure!(
                problem || tab.seen().errors.is_empty(),
                "{name}: {:#?}",
                tab.seen().errors
            );
        }
        tab.close().await?;
    }
    check_keyboard(&browser, &ui).await?;
    check_without_scripts(&browser, &ui).await?;
    check_weight(&browser, &ui, &pages).await
}

/// The first step leads past the head, the next ones through it.
async fn check_keyboard(browser: &Browser, ui: &Ui) -> Result<()> {
    let tab = browser.open(&ui.url("page"), View::LIGHT).await?;
    let mut steps = Vec::new();
    for _ in 0..3 {
        tab.press("Tab").await?;
        steps.push(
            tab.eval::<String>("document.activeElement.textContent")
                .await?,
        );
    }
    ensure!(
        steps == ["Skip to content", "meshmeter", "Overview"],
        "{steps:?}"
    );
    // An update leaves the focus where it is.
    tab.eval::<()>("document.querySelector('#workloads tbody a').focus()")
        .await?;
    let before: String = tab
        .eval("document.getElementById('live-at').textContent")
        .await?;
    let later = format!("document.getElementById('live-at').textContent !== '{before}'");
    tab.wait("two updates", SOON, &later).await?;
    let kept = "document.activeElement === document.querySelector('#workloads tbody a')";
    ensure!(
        tab.eval::<bool>(kept).await?,
        "an update took the focus away"
    );
    Ok(())
}

/// All is there, and says that it is not live.
async fn check_without_scripts(browser: &Browser, ui: &Ui) -> Result<()> {
    let view = View {
        javascript: false,
        ..View::LIGHT
    };
    let tab = browser.open(&ui.url(WORKLOAD), view).await?;
    let text: String = tab.eval("document.body.innerText").await?;
    for expected in [
        "Not live",
        "as of",
        "Deployment jazz-v1",
        "jazz-v1-7c9d-2fkqp",
        "What autoscalers read",
    ] {
        ensure!(
            text.contains(expected),
            "without scripts there is no {expected:?} in\n{text}"
        );
    }
    let lines: usize = tab
        .eval("document.querySelectorAll('#pods-chart path.line').length")
        .await?;
    ensure!(lines == 2, "{lines} lines");
    tab.follow("#reads tbody th a").await?;
    let title: String = tab.eval("document.querySelector('h1').textContent").await?;
    ensure!(title.starts_with("Why jazz did what it did"), "{title}");
    Ok(())
}

/// Each page, loaded with all it needs, is light.
async fn check_weight(browser: &Browser, ui: &Ui, pages: &[(&str, &str)]) -> Result<()> {
    for (name, path) in pages {
        // Of a fresh profile, without scripts: else updates would count.
        let view = View {
            javascript: false,
            ..View::LIGHT
        };
        let tab = browser.open(&ui.url(path), view).await?;
        let seen = tab.seen();
        ensure!(
            seen.bytes > 0 && seen.bytes <= BYTES_MAX,
            "{name} takes {} bytes",
            seen.bytes
        );
        tab.close().await?;
    }
    Ok(())
}

/// When the aggregator is gone the page says since when it is not live; when it is back it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_of_the_stream_is_said_and_mended() -> Result<()> {
    let mut world = World::start().await?;
    let ui = Ui::start(world.aggregator.api_address()).await?;
    let browser = Browser::start().await?;
    world.set_load(BEFORE)?;
    world.wait_values().await?;
    let tab = browser.open(&ui.url("page"), View::LIGHT).await?;
    tab.wait("a live page", SOON, LIVE).await?;
    world.aggregator.pause()?;
    let lost = "document.getElementById('live-state').textContent.startsWith('Not live since ')";
    tab.wait("what is not live", SOON, lost).await?;
    world.aggregator.resume()?;
    tab.wait("a live page again", Duration::from_secs(40), LIVE)
        .await?;
    Ok(())
}
