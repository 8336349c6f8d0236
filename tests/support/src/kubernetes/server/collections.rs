//! Lists, page by page, and the parts in which an answer is sent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::replies::{Answer, answer, failure, reply, status};
use super::target::{Target, parameters, selected};
use super::{Manner, Shared, watching};
use crate::kubernetes::objects;

/// What a continue token says: of which version the list is, and where it goes on. Clients cannot
/// read it.
struct Token {
    version: u64,
    from: usize,
}

// === impl Shared ===

impl Shared {
    pub(super) fn collection(
        self: &Arc<Self>,
        target: &Target,
        head: &http::request::Parts,
    ) -> Answer {
        let query: BTreeMap<String, String> = head.uri.query().map(parameters).unwrap_or_default();
        let accept = head
            .headers
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok());
        let metadata_only =
            accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
        let plural = target.resource.plural;
        if self.tuning().forbidden.contains(plural) {
            let message = format!(
                "{plural} is forbidden: User \"meshmeter\" cannot list resource \"{plural}\""
            );
            return failure(StatusCode::FORBIDDEN, &message);
        }
        if query.get("watch").is_some_and(|watch| watch == "true") {
            self.count(&format!("watch {plural}"));
            return watching::watch(self, target, &query, metadata_only);
        }
        self.count(&format!("list {plural}"));
        self.list(target, &query, metadata_only)
    }

    fn list(
        &self,
        target: &Target,
        query: &BTreeMap<String, String>,
        metadata_only: bool,
    ) -> Answer {
        let (newest, mut items) = self.objects.list(target.resource, &target.namespace);
        items.retain(|item| selected(item, query));
        let token = query.get("continue").map(|token| Token::read(token));
        let Token { version, from } = match token {
            None => Token {
                version: newest,
                from: 0,
            },
            Some(None) => return failure(StatusCode::BAD_REQUEST, "continue key is not valid"),
            Some(Some(token)) if self.expires(&token) => {
                let from = token.from;
                return expired(&Token {
                    version: newest,
                    from,
                });
            }
            Some(Some(token)) => token,
        };
        let limit: usize = query
            .get("limit")
            .and_then(|limit| limit.parse().ok())
            .unwrap_or(usize::MAX);
        let end = from.saturating_add(limit);
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if end < items.len() {
            metadata["continue"] = Token { version, from: end }.written().into();
            metadata["remainingItemCount"] = (items.len() - end).into();
        }
        let page = items.into_iter().skip(from).take(limit);
        let page: Vec<Value> = page
            .map(|item| {
                if metadata_only {
                    objects::metadata_only(&item)
                } else {
                    item
                }
            })
            .collect();
        let resource = target.resource;
        let list = if metadata_only {
            // A real server makes this list of nothing, and Go writes what was never made as null.
            let items = if page.is_empty() {
                Value::Null
            } else {
                page.into()
            };
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                   "items": items})
        } else {
            json!({"kind": format!("{}List", resource.kind), "apiVersion": resource.api_version,
                   "metadata": metadata, "items": page})
        };
        let manner = self.manner();
        if manner == Manner::default() {
            return reply(StatusCode::OK, &list);
        }
        let text = Bytes::from(manner.of(list).to_string());
        let parts = manner.parts(text).into_iter();
        let parts = stream::iter(parts).then(move |part| async move {
            sleep(manner.pause).await;
            Ok::<_, Infallible>(Frame::data(part))
        });
        answer(
            StatusCode::OK,
            StreamBody::new(parts.boxed()).boxed_unsync(),
        )
    }

    fn expires(&self, token: &Token) -> bool {
        let mut tuning = self.tuning();
        let injected = tuning.expired_tokens > 0;
        tuning.expired_tokens = tuning.expired_tokens.saturating_sub(1);
        injected || self.objects.since(token.version).is_none()
    }

    pub(super) fn manner(&self) -> Manner {
        self.tuning().manner
    }
}

/// With it the client may go on where it was, in a list of another version.
fn expired(token: &Token) -> Answer {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a \
                   new list without the continue parameter, or use the continue token in this response to retrieve \
                   the remainder of the results.";
    let mut gone = status(StatusCode::GONE, message);
    gone["reason"] = "Expired".into();
    gone["metadata"]["continue"] = token.written().into();
    reply(StatusCode::GONE, &gone)
}

// === impl Token ===

impl Token {
    fn written(&self) -> String {
        format!("v{}/{}=", self.version, self.from)
    }

    fn read(text: &str) -> Option<Self> {
        let (version, from) = text.strip_prefix('v')?.strip_suffix('=')?.split_once('/')?;
        Some(Self {
            version: version.parse().ok()?,
            from: from.parse().ok()?,
        })
    }
}

// === impl Manner ===

impl Manner {
    /// `value` in this manner.
    pub(super) fn of(self, mut value: Value) -> Value {
        if self.nulls {
            empty_is_null(&mut value);
        }
        value
    }

    /// `text` in parts.
    pub(super) fn parts(self, text: Bytes) -> Vec<Bytes> {
        match self.chunk {
            0 => vec![text],
            size => text.chunks(size).map(Bytes::copy_from_slice).collect(),
        }
    }
}

fn empty_is_null(value: &mut Value) {
    match value {
        Value::Array(items) if items.is_empty() => *value = Value::Null,
        Value::Object(members) if members.is_empty() => *value = Value::Null,
        Value::Array(items) => items.iter_mut().for_each(empty_is_null),
        Value::Object(members) => members.values_mut().for_each(empty_is_null),
        _ => {}
    }
}
