//! Records each read of a metric in the ledger, whether it was answered or refused.

use std::sync::Arc;
use std::time::Duration;

use aggregator_core::query::{Milli, NoValue, QueryResult, Reading};
use aggregator_directory::Directory;
use aggregator_ledger::{Answer, Each, Ledger, PodState, PodValue, Read, ReadSource};
use common_time::{Monotonic, Now};
use http::header::USER_AGENT;
use http::request::Parts;

use crate::asked::Asked;
use crate::autoscalers::{self, Computed};
use crate::hpa_reads::HpaReads;
use crate::metrics::{Source, Summary};
use crate::status::Refusal;

/// Name of the authenticated user, in the request's extensions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reader(pub String);

/// Writes to the ledger.
#[derive(Debug)]
pub(crate) struct Recorder {
    ledger: Arc<Ledger>,
    directory: Arc<Directory>,
    hpa_reads: HpaReads,
}

// === impl Recorder ===

impl Recorder {
    pub(crate) fn new(ledger: Arc<Ledger>, directory: Arc<Directory>, hpa_reads: HpaReads) -> Self {
        Self {
            ledger,
            directory,
            hpa_reads,
        }
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Records that `request` asked for `asked` at `now`, which read `pods`.
    pub(crate) fn record(
        &self,
        now: Now,
        asked: &Asked<'_>,
        request: &Parts,
        result: Result<Summary, &Refusal>,
        pods: &QueryResult,
    ) {
        let pending = self.directory.pending_pods(asked.namespace);
        let readings = pods.readings.iter();
        let readings = readings.map(|reading| value_of(now.monotonic, reading));
        let missing = pods.missing.iter();
        let missing = missing.map(|(pod, why)| left_out(&pod.name, *why));
        let mut each: Vec<_> = readings.chain(missing).collect();
        for pod in &mut each {
            pod.pending = pending.binary_search(pod.name).is_ok();
        }
        let reader = reader_of(request);
        let hpa = reader
            .is_autoscaler()
            .then(|| autoscalers::reader(&self.directory, asked, pods))
            .flatten();
        let computed = match (&hpa, &result) {
            (Some(hpa), Ok(summary)) => hpa.compute(summary, &each),
            _ => Computed::default(),
        };
        if let Some(hpa) = &hpa {
            let answer = result.as_ref().ok().map(|summary| (summary, computed));
            let left_out = pods.missing.len();
            self.hpa_reads.observe(now.monotonic, hpa, answer, left_out);
        }
        self.ledger.record(&Read {
            at: now.wall,
            reader,
            namespace: asked.namespace,
            hpa: hpa.as_ref().map(|hpa| &*hpa.info.name),
            metric: asked.metric,
            object: asked.object,
            selector: asked.selector,
            metric_selector: asked.metric_selector,
            answer: match result {
                Ok(summary) => answer_of(&summary),
                Err(refusal) => Answer::Refusal {
                    code: refusal.code().as_u16(),
                    message: &refusal.message,
                },
            },
            each: Each::Pods(&each),
            computed_replicas: computed.replicas,
        });
    }
}

fn reader_of(request: &Parts) -> aggregator_ledger::Reader<'_> {
    let user = request.extensions.get::<Reader>();
    let user_agent = request.headers.get(USER_AGENT);
    let user_agent = user_agent.and_then(|agent| agent.to_str().ok());
    aggregator_ledger::Reader {
        user: user.map_or("", |reader| &reader.0),
        user_agent: user_agent.unwrap_or_default(),
    }
}

fn answer_of(summary: &Summary) -> Answer<'static> {
    Answer::Value {
        sum: summary.total,
        source: match summary.source {
            Source::Pods => ReadSource::Pods,
            Source::Callers => ReadSource::Callers,
        },
        pods: summary.pods,
        age: summary.age.total(),
        window: summary.window,
    }
}

fn value_of(now: Monotonic, reading: &Reading) -> PodValue<'_> {
    PodValue {
        name: &reading.pod.name,
        state: if reading.held {
            PodState::Held
        } else {
            PodState::Live
        },
        value: reading.value,
        window: reading.window,
        age: now.since(reading.timestamp),
        pending: false,
    }
}

fn left_out(name: &Arc<str>, why: NoValue) -> PodValue<'_> {
    PodValue {
        name,
        state: PodState::LeftOut(why),
        value: Milli(0),
        window: Duration::ZERO,
        age: Duration::ZERO,
        pending: false,
    }
}

#[cfg(test)]
mod tests;
