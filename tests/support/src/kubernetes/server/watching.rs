//! Watches: what happened since a version, then whatever happens, one JSON object a line.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::replies::{Body, answer, status};
use super::{Shared, Target, selected};
use crate::kubernetes::objects::{self, Event};

/// Lines that a client may be behind; then the watch waits for it.
const LINES_MAX: usize = 256;

/// One watch.
struct Watch {
    shared: Arc<Shared>,
    target: Target,
    query: BTreeMap<String, String>,
    metadata_only: bool,
    lines: mpsc::Sender<Bytes>,
}

/// Answers a watch.
pub(super) fn watch(
    shared: &Arc<Shared>,
    target: &Target,
    query: &BTreeMap<String, String>,
    metadata_only: bool,
) -> Response<Body> {
    let (lines, received) = mpsc::channel(LINES_MAX);
    let number = |name: &str| {
        query
            .get(name)
            .and_then(|number| number.parse::<u64>().ok())
    };
    let version = number("resourceVersion").unwrap_or(0);
    let lasts = Duration::from_secs(number("timeoutSeconds").unwrap_or(290));
    let watch = Watch {
        shared: Arc::clone(shared),
        target: Target {
            resource: target.resource,
            namespace: target.namespace.clone(),
            name: None,
        },
        query: query.clone(),
        metadata_only,
        lines,
    };
    let broken = shared.watches();
    tokio::spawn(broken.run_until_cancelled_owned(watch.run(version, lasts)));
    let frames = stream::unfold(received, async |mut received| {
        let line = received.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(line)), received))
    });
    answer(
        StatusCode::OK,
        StreamBody::new(frames.boxed()).boxed_unsync(),
    )
}

// === impl Watch ===

impl Watch {
    async fn run(self, mut version: u64, lasts: Duration) {
        let mut end = std::pin::pin!(sleep(lasts));
        let shared = Arc::clone(&self.shared);
        loop {
            let mut change = std::pin::pin!(shared.objects.change());
            change.as_mut().enable();
            let Some((newest, events)) = shared.objects.since(version) else {
                let gone = status(StatusCode::GONE, "too old resource version");
                self.send("ERROR", &gone).await;
                return;
            };
            version = newest;
            for event in events.iter().filter(|event| self.wants(event)) {
                let partial = objects::metadata_only(&event.object);
                let object = if self.metadata_only {
                    &partial
                } else {
                    &event.object
                };
                if !self.send(event.kind, object).await {
                    return;
                }
            }
            tokio::select! {
                () = change => {}
                () = self.lines.closed() => return,
                () = &mut end => {
                    // As kube-apiserver does: where to go on.
                    let resource = self.target.resource;
                    let mark = json!({"kind": resource.kind, "apiVersion": resource.api_version,
                                      "metadata": {"resourceVersion": version.to_string()}});
                    self.send("BOOKMARK", &mark).await;
                    return;
                }
            }
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let Target {
            resource,
            namespace,
            ..
        } = &self.target;
        let inside =
            namespace.is_empty() || event.object["metadata"]["namespace"] == namespace.as_str();
        event.plural == resource.plural && inside && selected(&event.object, &self.query)
    }

    async fn send(&self, kind: &str, object: &Value) -> bool {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        self.lines.send(Bytes::from(line)).await.is_ok()
    }
}
