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

use super::replies::{Body, answer, reply, status};
use super::target::selected;
use super::{Manner, Shared, Target};
use crate::kubernetes::objects::{self, Event};

/// Lines that a client may be behind; then the watch waits for it.
const LINES_MAX: usize = 256;

struct Watch {
    shared: Arc<Shared>,
    target: Target,
    query: BTreeMap<String, String>,
    metadata_only: bool,
    lines: mpsc::Sender<Bytes>,
    manner: Manner,
}

pub(super) fn watch(
    shared: &Arc<Shared>,
    target: &Target,
    query: &BTreeMap<String, String>,
    metadata_only: bool,
) -> Response<Body> {
    let (lines, received) = mpsc::channel(LINES_MAX);
    let asked = query.get("resourceVersion").map_or("", String::as_str);
    let version = match asked {
        "" => 0,
        asked => match asked.parse::<u64>() {
            Ok(version) => version,
            Err(_) => return invalid_version(asked),
        },
    };
    let lasts = query.get("timeoutSeconds");
    let lasts = lasts.and_then(|seconds| seconds.parse().ok());
    let lasts = Duration::from_secs(lasts.unwrap_or(290));
    let manner = shared.manner();
    let is_gone = manner.forgetful || shared.objects.since(version).is_none();
    if manner.gone_as_status && is_gone {
        return reply(StatusCode::GONE, &too_old(version));
    }
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
        manner,
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

/// As kube-apiserver says it: of no reason, and as its own fault.
fn invalid_version(asked: &str) -> Response<Body> {
    let message = format!("resourceVersion: Invalid value: \"{asked}\"");
    let mut invalid = status(StatusCode::INTERNAL_SERVER_ERROR, &message);
    invalid["reason"] = Value::Null;
    reply(StatusCode::INTERNAL_SERVER_ERROR, &invalid)
}

fn too_old(version: u64) -> Value {
    let message = format!("too old resource version: {version}");
    let mut gone = status(StatusCode::GONE, &message);
    gone["reason"] = "Expired".into();
    gone
}

// === impl Watch ===

impl Watch {
    async fn run(self, mut version: u64, lasts: Duration) {
        let mut end = std::pin::pin!(sleep(lasts));
        let shared = Arc::clone(&self.shared);
        loop {
            let mut change = std::pin::pin!(shared.objects.change());
            change.as_mut().enable();
            let known = shared.objects.since(version);
            let Some((newest, events)) = known.filter(|_| !self.manner.forgetful) else {
                self.send(&[self.line("ERROR", too_old(version))]).await;
                return;
            };
            version = newest;
            let wanted = events.into_iter().filter(|event| self.wants(event));
            let lines: Vec<_> = wanted
                .map(|event| {
                    let object = if self.metadata_only {
                        objects::metadata_only(&event.object)
                    } else {
                        event.object
                    };
                    self.line(event.kind, object)
                })
                .collect();
            if !self.send(&lines).await {
                return;
            }
            tokio::select! {
                () = change => {}
                () = self.lines.closed() => return,
                () = &mut end => {
                    // As kube-apiserver does: where to go on.
                    let resource = self.target.resource;
                    let mut mark = json!({"kind": resource.kind, "apiVersion": resource.api_version,
                                          "metadata": {"resourceVersion": version.to_string()}});
                    if self.metadata_only {
                        mark = objects::metadata_only(&mark);
                    }
                    self.send(&[self.line("BOOKMARK", mark)]).await;
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

    fn line(&self, kind: &str, object: Value) -> String {
        let object = self.manner.of(object);
        format!("{}\n", json!({"type": kind, "object": object}))
    }

    /// Sends lines, each for itself unless they are to be joined; false if nobody is there any
    /// more.
    async fn send(&self, lines: &[String]) -> bool {
        let joined = [lines.join("\n")];
        let texts = if self.manner.joined { &joined } else { lines };
        for text in texts.iter().filter(|text| !text.is_empty()) {
            for part in self.manner.parts(Bytes::from(text.clone())) {
                if self.lines.send(part).await.is_err() {
                    return false;
                }
                if !self.manner.pause.is_zero() {
                    sleep(self.manner.pause).await;
                }
            }
        }
        true
    }
}
