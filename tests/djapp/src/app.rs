//! `djapp serve`: what it was asked, by whom it can tell.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::load::Load;
use crate::query::parameter;
use crate::server::{Answer, POD, answer, serve};

/// Requests that reached the application.
#[derive(Debug)]
struct Counts {
    pod: HeaderValue,
    /// Everything but the two below.
    requests: AtomicU64,
    /// The kubelet's readiness probe.
    probes: AtomicU64,
    /// Health checks of the mesh.
    checks: AtomicU64,
}

/// Runs until SIGTERM; the last line of the log has the final counts.
pub(crate) async fn run(app: SocketAddr, control: SocketAddr) -> Result<()> {
    let pod = std::env::var("POD_NAME").context("POD_NAME is not set")?;
    let counts = Arc::new(Counts {
        pod: pod.parse().context("POD_NAME")?,
        requests: AtomicU64::new(0),
        probes: AtomicU64::new(0),
        checks: AtomicU64::new(0),
    });
    let load = Arc::new(Load::start());
    let (stop, stopped) = watch::channel(());
    let ended = |mut stopped: watch::Receiver<()>| async move {
        let _ = stopped.changed().await;
    };
    let for_control = (counts.clone(), load);
    tokio::spawn(serve(
        control,
        move |request| control_answer(request, &for_control.0, &for_control.1),
        ended(stopped.clone()),
    ));
    let for_app = counts.clone();
    let app = serve(app, move |request| for_app.answer(request), ended(stopped));
    let app = tokio::spawn(app);
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    terminate.recv().await;
    drop(stop);
    app.await??;
    println!("{}", json!({ "final": counts.to_json() }));
    Ok(())
}

fn control_answer(request: &Request<Incoming>, counts: &Counts, load: &Load) -> Answer {
    let uri = request.uri();
    match (request.method(), uri.path()) {
        (&Method::GET, "/counts") => answer(200, counts.to_json().to_string()),
        (&Method::GET, "/load") => answer(200, load.to_json().to_string()),
        (&Method::POST, "/load") => {
            let rate = parameter(uri, "rate").and_then(|rate| rate.parse().ok());
            let url = parameter(uri, "url").unwrap_or_default().parse();
            match (rate, url) {
                (Some(rate), Ok(url)) => {
                    load.set(rate, url);
                    answer(200, "")
                }
                _ => answer(400, "wanted: /load?rate=REQUESTS_PER_SECOND&url=URL"),
            }
        }
        _ => answer(404, "wanted: GET /counts, GET /load or POST /load"),
    }
}

// === impl Counts ===

impl Counts {
    fn answer(&self, request: &Request<Incoming>) -> Answer {
        let count = match request.uri().path() {
            "/healthz" => &self.probes,
            "/ping" => &self.checks,
            _ => &self.requests,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let mut answer = answer(StatusCode::OK.as_u16(), "djapp\n");
        answer.headers_mut().insert(POD, self.pod.clone());
        answer
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "pod": self.pod.to_str().unwrap_or_default(),
            "requests": self.requests.load(Ordering::Relaxed),
            "probes": self.probes.load(Ordering::Relaxed),
            "checks": self.checks.load(Ordering::Relaxed),
        })
    }
}
