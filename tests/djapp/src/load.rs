//! A bounded open-loop load: requests leave at the times that the rate says, however long answers
//! take, and each one that was sent is counted with what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::server::POD;

/// Requests per second at most.
const RATE_MAX: f64 = 2_000.0;
/// Requests under way at most; further ones are left out and counted.
const OPEN_MAX: usize = 512;
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Bad outcomes whose text is kept.
const TEXTS_MAX: usize = 32;

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// The load of one pod, idle at first.
#[derive(Debug)]
pub(crate) struct Load {
    wanted: watch::Sender<Wanted>,
    tally: Arc<Mutex<Tally>>,
}

#[derive(Clone, Debug, Default)]
struct Wanted {
    rate: f64,
    url: Uri,
}

#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    left_out: u64,
    answers: BTreeMap<u16, u64>,
    /// Requests without an answer.
    broken: u64,
    /// Answers with 200, by the pod that gave them.
    by_pod: BTreeMap<String, u64>,
    texts: BTreeMap<String, u64>,
}

// === impl Load ===

impl Load {
    pub(crate) fn start() -> Self {
        let (wanted, told) = watch::channel(Wanted::default());
        let tally = Arc::<Mutex<Tally>>::default();
        tokio::spawn(run(told, tally.clone()));
        Self { wanted, tally }
    }

    pub(crate) fn set(&self, rate: f64, url: Uri) {
        let rate = rate.clamp(0.0, RATE_MAX);
        self.wanted.send_replace(Wanted { rate, url });
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        let tally = self.tally.lock();
        json!({
            "sent": tally.sent,
            "left_out": tally.left_out,
            "answers": tally.answers,
            "broken": tally.broken,
            "by_pod": tally.by_pod,
            "texts": tally.texts,
        })
    }
}

async fn run(mut told: watch::Receiver<Wanted>, tally: Arc<Mutex<Tally>>) {
    let client: HttpClient = Client::builder(TokioExecutor::new()).build_http();
    let open = Arc::new(Semaphore::new(OPEN_MAX));
    loop {
        let wanted = told.borrow_and_update().clone();
        if wanted.rate <= 0.0 {
            if told.changed().await.is_err() {
                return;
            }
            continue;
        }
        let mut ticks = interval(Duration::from_secs_f64(1.0 / wanted.rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = told.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
            let Ok(permit) = open.clone().try_acquire_owned() else {
                tally.lock().left_out += 1;
                continue;
            };
            tally.lock().sent += 1;
            let (client, url, tally) = (client.clone(), wanted.url.clone(), tally.clone());
            tokio::spawn(async move {
                let outcome = timeout(ANSWER_WITHIN, ask(&client, url)).await;
                tally
                    .lock()
                    .add(outcome.unwrap_or(Err("no answer in time".to_owned())));
                drop(permit);
            });
        }
    }
}

/// Status, pod, and the body if it is an error.
async fn ask(client: &HttpClient, url: Uri) -> Result<(u16, String, String), String> {
    let request = Request::builder().uri(url).body(Empty::new());
    let request = request.map_err(|error| error.to_string())?;
    let answer = client.request(request).await;
    let answer =
        answer.map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))?;
    let status = answer.status().as_u16();
    let pod = answer.headers().get(POD).and_then(|pod| pod.to_str().ok());
    let pod = pod.unwrap_or_default().to_owned();
    let body = answer.into_body().collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok((status, pod, String::from_utf8_lossy(&body).into_owned()))
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, outcome: Result<(u16, String, String), String>) {
        let text = match outcome {
            Ok((status, pod, body)) => {
                *self.answers.entry(status).or_default() += 1;
                if status == 200 {
                    *self.by_pod.entry(pod).or_default() += 1;
                    return;
                }
                format!("{status} {body}")
            }
            Err(error) => {
                self.broken += 1;
                error
            }
        };
        if self.texts.len() < TEXTS_MAX || self.texts.contains_key(&text) {
            *self.texts.entry(text).or_default() += 1;
        }
    }
}
