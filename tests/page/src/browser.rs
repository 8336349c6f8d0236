//! Chromium without a window, and its tabs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use chromiumoxide::BrowserConfig;
use chromiumoxide::cdp::browser_protocol::emulation::{
    MediaFeature, SetDeviceMetricsOverrideParams, SetScriptExecutionDisabledParams,
};
use chromiumoxide::cdp::browser_protocol::log::EventEntryAdded;
use chromiumoxide::cdp::browser_protocol::network::{
    EnableParams, EventDataReceived, EventRequestWillBeSent,
};
use chromiumoxide::cdp::browser_protocol::page::CaptureScreenshotFormat;
use chromiumoxide::cdp::js_protocol::runtime::{EvaluateParams, EventExceptionThrown};
use chromiumoxide::page::ScreenshotParams;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tests_support::{artifacts, clock};
use tokio::task::JoinSet;

/// For one answer of the browser.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

const FLAGS: [&str; 7] = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// A running Chromium; ends when dropped.
#[derive(Debug)]
pub struct Browser {
    inner: chromiumoxide::Browser,
    _tasks: JoinSet<()>,
    _profile: TempDir,
}

/// How a tab shows its page.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
    pub javascript: bool,
}

/// A tab, and what went on in it.
#[derive(Debug)]
pub struct Tab {
    page: chromiumoxide::Page,
    view: View,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

/// What a tab did since it was opened.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// URLs that were asked for.
    pub requests: Vec<String>,
    /// Bytes of bodies, decoded.
    pub bytes: u64,
    /// Errors of scripts, and what the browser logged: violations of the content security policy,
    /// above all.
    pub errors: Vec<String>,
}

// === impl Browser ===

impl Browser {
    /// Starts Debian's Chromium, which `cargo xtask browser` installs.
    pub async fn start() -> Result<Self> {
        let chromium = artifacts::on_path("chromium");
        let chromium =
            chromium.context("PATH names no chromium: cargo xtask browser installs it")?;
        let profile = tempfile::Builder::new()
            .prefix("meshmeter-browser-")
            .tempdir()?;
        let config = BrowserConfig::builder()
            .chrome_executable(chromium)
            .user_data_dir(profile.path())
            .no_sandbox()
            .new_headless_mode()
            .disable_https_first()
            .viewport(None)
            .launch_timeout(Duration::from_mins(1))
            .request_timeout(ANSWER_WITHIN)
            .args(FLAGS)
            .build()
            .map_err(|error| anyhow!(error))?;
        let (inner, mut handler) = chromiumoxide::Browser::launch(config)
            .await
            .context("start Chromium")?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // What this protocol's description does not know yet is no reason to end.
            while handler.next().await.is_some() {}
        });
        Ok(Self {
            inner,
            _tasks: tasks,
            _profile: profile,
        })
    }

    /// Opens `url`.
    pub async fn open(&self, url: &str, view: View) -> Result<Tab> {
        let page = self.inner.new_page("about:blank").await?;
        let scheme = if view.dark { "dark" } else { "light" };
        let feature = MediaFeature::new("prefers-color-scheme", scheme);
        page.emulate_media_features(vec![feature]).await?;
        page.execute(view.metrics()).await?;
        if !view.javascript {
            page.execute(SetScriptExecutionDisabledParams::new(true))
                .await?;
        }
        page.enable_log().await?;
        page.execute(EnableParams::default()).await?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let tasks = listen(&page, &seen).await?;
        let tab = Tab {
            page,
            view,
            seen,
            _tasks: tasks,
        };
        tab.go(url).await?;
        Ok(tab)
    }

    /// Ends it in order.
    pub async fn close(mut self) -> Result<()> {
        self.inner.close().await?;
        self.inner.wait().await?;
        Ok(())
    }
}

/// Notes what happens in `page`.
async fn listen(page: &chromiumoxide::Page, seen: &Arc<Mutex<Seen>>) -> Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let mut requests = page.event_listener::<EventRequestWillBeSent>().await?;
    let mut data = page.event_listener::<EventDataReceived>().await?;
    let mut logged = page.event_listener::<EventEntryAdded>().await?;
    let mut thrown = page.event_listener::<EventExceptionThrown>().await?;
    let noted = Arc::clone(seen);
    tasks.spawn(async move {
        while let Some(event) = requests.next().await {
            noted.lock().requests.push(event.request.url.clone());
        }
    });
    let noted = Arc::clone(seen);
    tasks.spawn(async move {
        while let Some(event) = data.next().await {
            noted.lock().bytes += u64::try_from(event.data_length).unwrap_or(0);
        }
    });
    let noted = Arc::clone(seen);
    tasks.spawn(async move {
        while let Some(event) = logged.next().await {
            let entry = &event.entry;
            noted
                .lock()
                .errors
                .push(format!("{:?}: {}", entry.source, entry.text));
        }
    });
    let noted = Arc::clone(seen);
    tasks.spawn(async move {
        while let Some(event) = thrown.next().await {
            let details = &event.exception_details;
            noted.lock().errors.push(format!("script: {details:?}"));
        }
    });
    Ok(tasks)
}

// === impl View ===

impl View {
    pub const LIGHT: Self = Self {
        width: 1_280,
        height: 900,
        dark: false,
        javascript: true,
    };
    pub const DARK: Self = Self {
        dark: true,
        ..Self::LIGHT
    };
    pub const PHONE: Self = Self {
        width: 390,
        height: 844,
        ..Self::LIGHT
    };

    fn metrics(self) -> SetDeviceMetricsOverrideParams {
        let [width, height] = [self.width, self.height].map(i64::from);
        SetDeviceMetricsOverrideParams::new(width, height, 1.0, width < 600)
    }
}

// === impl Tab ===

impl Tab {
    pub async fn go(&self, url: &str) -> Result<()> {
        let went = self.page.goto(url).await;
        went.with_context(|| format!("open {url}"))?;
        Ok(())
    }

    /// What went on so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// Forgets what went on so far.
    pub fn forget(&self) {
        *self.seen.lock() = Seen::default();
    }

    /// The browser's protocol itself.
    pub fn page(&self) -> &chromiumoxide::Page {
        &self.page
    }

    /// The value of a JavaScript expression; of a promise, what it resolves to.
    pub async fn eval<T: DeserializeOwned>(&self, expression: &str) -> Result<T> {
        let params = EvaluateParams::builder()
            .expression(expression)
            .await_promise(true)
            .return_by_value(true)
            .build()
            .map_err(|error| anyhow!(error))?;
        let shown: String = expression.chars().take(200).collect();
        let result = self.page.evaluate_expression(params).await;
        let result = result.with_context(|| format!("evaluate {shown}"))?;
        let value = result.value().cloned().unwrap_or_default();
        serde_json::from_value(value).with_context(|| format!("the value of {shown}"))
    }

    /// Waits until the expression is true, and says how long that took.
    pub async fn wait(&self, what: &str, within: Duration, expression: &str) -> Result<Duration> {
        let start = clock::now();
        let waited = clock::wait_for(what, within, async || {
            // A page that is being left has no value.
            let value: Result<bool> = self.eval(expression).await;
            Ok(value.unwrap_or(false).then_some(()))
        });
        if let Err(error) = waited.await {
            let text: String = self
                .eval("document.body.innerText")
                .await
                .unwrap_or_default();
            return Err(error.context(format!("the page has:\n{text}")));
        }
        Ok(start.elapsed())
    }

    /// Follows the first link that `selector` matches.
    pub async fn follow(&self, selector: &str) -> Result<()> {
        let quoted = serde_json::to_string(selector)?;
        let href: Option<String> = self
            .eval(&format!(
                "(document.querySelector({quoted}) || {{}}).href || null"
            ))
            .await?;
        let href = href.with_context(|| format!("there is no link {selector}"))?;
        // An SVG link's `href` is an object; its address is resolved as a browser does.
        self.go(&href).await
    }

    pub async fn press(&self, key: &str) -> Result<()> {
        self.page.find_element("body").await?.press_key(key).await?;
        Ok(())
    }

    /// A picture of the page from top to bottom.
    pub async fn screenshot(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let params = ScreenshotParams::builder()
            .format(CaptureScreenshotFormat::Png)
            .full_page(true)
            .build();
        let bytes = self.page.screenshot(params).await?;
        // A picture of all of it takes another size, and forgets this one.
        self.page.execute(self.view.metrics()).await?;
        ensure!(!bytes.is_empty(), "Chromium made no picture");
        std::fs::write(file, bytes).with_context(|| format!("write {}", file.display()))
    }

    pub async fn close(self) -> Result<()> {
        self.page.close().await?;
        Ok(())
    }
}
