//! The ledger of recent metric reads: user, request and result. Explains the decisions of an
//! autoscaler, which keeps no values itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use aggregator_core::pod::PodKey;
use aggregator_core::query::NoValue;
use bytes::Bytes;
use common_time::UnixMillis;
use http::header::USER_AGENT;
use http::request::Parts;
use parking_lot::Mutex;
use serde::Serialize;

use crate::metrics::Summary;
use crate::path::ApiVersion;
use crate::quantity;
use crate::status::Refusal;

/// Reads kept: those of eight minutes at 20 per second, the limit of an autoscaler's client; with a
/// hundred autoscalers those of 25 minutes.
const READS_MAX: usize = 10_000;

/// Reads in one response, about 1 MB.
const LISTED_MAX: usize = 1000;

/// Bytes of each text of a read. With three texts a read takes 2 KB at most, the ledger 20 MB.
const TEXT_BYTES_MAX: usize = 512;

/// Name of the authenticated user, in the request's extensions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reader(pub String);

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Oldest first. Locked to add one or to copy a list.
    reads: Mutex<VecDeque<RecordedRead>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordedRead {
    #[serde(skip)]
    namespace: String,
    at_unix_ms: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    request: String,
    code: u16,
    #[serde(flatten)]
    answer: RecordedAnswer,
    /// Pods without a value, by reason.
    missing: BTreeMap<&'static str, usize>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum RecordedAnswer {
    Value {
        source: &'static str,
        /// The sum of all items.
        #[serde(skip_serializing_if = "String::is_empty")]
        value: String,
        /// Pods whose values are in it.
        pods: usize,
        age_ms: u64,
        window_ms: u64,
    },
    Refusal {
        message: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    kind: &'static str,
    api_version: String,
    metadata: Metadata,
    items: Vec<RecordedRead>,
}

#[derive(Serialize)]
struct Metadata {}

// === impl Ledger ===

impl Ledger {
    /// Adds a read; drops the oldest one beyond [`READS_MAX`].
    pub(crate) fn add(&self, read: RecordedRead) {
        let mut reads = self.reads.lock();
        if reads.len() >= READS_MAX {
            reads.pop_front();
        }
        reads.push_back(read);
    }

    /// The newest reads of `namespace` as JSON, newest first, at most [`LISTED_MAX`].
    pub(crate) fn list(
        &self,
        version: ApiVersion,
        namespace: &str,
    ) -> Result<Bytes, serde_json::Error> {
        let of_namespace = |read: &&RecordedRead| read.namespace == namespace;
        let reads = self.reads.lock();
        let newest = reads.iter().rev().filter(of_namespace).cloned();
        let items = newest.take(LISTED_MAX).collect();
        drop(reads);
        let list = List {
            kind: "MetricReadList",
            api_version: version.group_version(),
            metadata: Metadata {},
            items,
        };
        Ok(serde_json::to_vec(&list)?.into())
    }
}

// === impl RecordedRead ===

impl RecordedRead {
    /// Records `request` at `at` with its `result`.
    pub(crate) fn new(
        at: UnixMillis,
        namespace: &str,
        request: &Parts,
        result: Result<Summary, &Refusal>,
        without: &[(PodKey, NoValue)],
    ) -> Self {
        let agent = request.headers.get(USER_AGENT);
        let reader = request.extensions.get::<Reader>();
        let mut missing = BTreeMap::new();
        for (_, why) in without {
            *missing.entry(why.as_str()).or_default() += 1;
        }
        Self {
            namespace: namespace.to_owned(),
            at_unix_ms: at.0,
            user: reader.map_or_else(String::new, |reader| cut(&reader.0)),
            user_agent: cut(agent.and_then(|agent| agent.to_str().ok()).unwrap_or("")),
            // Without scheme and host, which only requests of HTTP/2 have here.
            request: cut(request.uri.path_and_query().map_or("", |url| url.as_str())),
            code: match result {
                Ok(_) => 200,
                Err(refusal) => refusal.code().as_u16(),
            },
            answer: match result {
                Ok(summary) => RecordedAnswer::Value {
                    source: summary.source.as_str(),
                    value: quantity::format(summary.total).unwrap_or_default(),
                    pods: summary.pods,
                    age_ms: millis(summary.age.total()),
                    window_ms: millis(summary.window),
                },
                Err(refusal) => RecordedAnswer::Refusal {
                    message: cut(&refusal.message),
                },
            },
            missing,
        }
    }
}

/// The first [`TEXT_BYTES_MAX`] bytes of `text`.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::status::Reason;
    use crate::testing::{TestApi, V2, inbound, running};

    const RPS: &str = "appmesh_requests_per_second";

    fn reads(fleet: &TestApi, namespace: &str) -> Vec<serde_json::Value> {
        let list = fleet
            .get(&format!("{V2}/namespaces/{namespace}/reads"))
            .list();
        assert_eq!(list["kind"], "MetricReadList");
        list["items"].as_array().unwrap().clone()
    }

    /// Values and refusals are kept, newest first, with who asked, and only shown for the namespace
    /// asked for.
    #[test]
    fn keeps_reads() {
        let fleet = TestApi::new();
        fleet.reports(running("jazz", "jazz-a"), vec![inbound(3)]);
        fleet.reports(running("jazz", "jazz-b"), vec![inbound(4)]);
        fleet.exists(running("jazz", "jazz-c"));
        let uri = format!("{V2}/namespaces/prod/pods/%2A/{RPS}?labelSelector=app%3Djazz");
        let mut request = Request::get(&uri)
            .header(USER_AGENT, "kcm")
            .body(())
            .unwrap();
        request.extensions_mut().insert(Reader("hpa".to_owned()));
        fleet.send(request);
        fleet.get(&format!("{V2}/namespaces/prod/services/folk/{RPS}"));
        fleet.get(&format!("{V2}/namespaces/test/pods/*/{RPS}"));
        let reads_of_prod = reads(&fleet, "prod");
        assert_eq!(reads_of_prod.len(), 2);
        assert_eq!(
            reads_of_prod[1],
            serde_json::json!({
                "atUnixMs": crate::testing::wall(crate::testing::NOW).0,
                "user": "hpa",
                "userAgent": "kcm",
                "request": uri,
                "code": 200,
                "source": "pods",
                "value": "7",
                "pods": 2,
                "ageMs": 700,
                "windowMs": 10_000,
                "missing": {"never_reported": 1},
            })
        );
        assert_eq!(reads_of_prod[0]["code"], 404);
        let message = reads_of_prod[0]["message"].as_str().unwrap();
        assert!(message.contains("for service prod/folk"), "{message}");
        assert_eq!(reads(&fleet, "test").len(), 1);
        assert!(reads(&fleet, "none").is_empty());
    }

    /// The newest reads stay, however many there are, and no text of theirs is long.
    #[test]
    fn is_bounded() {
        let ledger = Ledger::default();
        let long = "é".repeat(TEXT_BYTES_MAX);
        let uri = format!("/{}", "a".repeat(TEXT_BYTES_MAX));
        let (request, ()) = Request::get(uri).body(()).unwrap().into_parts();
        let refusal = Refusal::not_found(Reason::NoValue, long);
        for at in 0..=READS_MAX as u64 {
            ledger.add(RecordedRead::new(
                UnixMillis(at),
                "prod",
                &request,
                Err(&refusal),
                &[],
            ));
        }
        let list = ledger.list(ApiVersion::V1Beta2, "prod").unwrap();
        let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
        assert_eq!(list["items"].as_array().unwrap().len(), LISTED_MAX);
        assert_eq!(list["items"][0]["atUnixMs"], READS_MAX);
        let reads = ledger.reads.lock();
        assert_eq!(reads.len(), READS_MAX);
        assert_eq!(reads[0].at_unix_ms, 1);
        assert_eq!(reads[0].request.len(), TEXT_BYTES_MAX);
        let RecordedAnswer::Refusal { message } = &reads[0].answer else {
            panic!("a refusal was kept as a value");
        };
        assert_eq!(message.len(), TEXT_BYTES_MAX);
    }
}
