//! `explain`: why an HPA has as many replicas as it has.

use std::process::ExitCode;

use aggregator_view::documents::{Explanation, ReplicaAnswer};
use aggregator_view::{GROUP, VERSION};
use serde_json::Value;

use crate::args::{ExplainArgs, TextOrJson};
use crate::clock::{self, Clock};
use crate::output::{Failure, Output, json};
use crate::table::{Cell, Line, Tone};
use crate::{Connection, ConnectionError, Program, at};

/// The cause of a refusal for a time before the ledger.
const NOT_RECORDED: &str = "NotRecorded";

/// Prints the explanation of `hpa NAME`.
pub(crate) async fn run(args: &ExplainArgs, program: Program) -> Result<ExitCode, Failure> {
    let name = args.hpa.name().map_err(|error| Failure::new(&error))?;
    let clock = clock::read();
    let parsed = args.at.as_deref().map(|text| at::parse(text, &clock));
    let at = parsed.transpose().map_err(|error| Failure::new(&error))?;
    let connection = Connection::open(&args.connection, program).await?;
    let namespace = connection.namespace();
    let path = format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/explanations/{name}");
    let at_text = at.map(|at| at.to_string());
    let query: Vec<_> = at_text.iter().map(|at| ("at", at.as_str())).collect();
    let document: Value = match connection.read(&path, &query).await {
        Ok(document) => document,
        Err(error) => return Err(refused(error)),
    };
    let explanation: Explanation = common_json::from_str(&document.to_string())
        .map_err(|error| Failure::new(&format!("{path}: {error}")))?;
    let output = Output::new(args.color);
    match args.output {
        TextOrJson::Json => output.print(&json(&document)?),
        TextOrJson::Text => output.print(&lines(&explanation, &clock)),
    };
    match out_of_reach(&explanation, &clock) {
        Some(sentence) => Err(Failure::unknown(&sentence)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The sentences, and which replicas did not tell theirs.
fn lines(explanation: &Explanation, clock: &Clock) -> Vec<Line> {
    let heading = format!(
        "{}/{} ({}) at {} ({})",
        explanation.namespace,
        explanation.hpa,
        explanation.target,
        clock.time_of_day(explanation.at_unix_ms),
        clock.zone_name(),
    );
    let heading = vec![Cell::new(&heading).toned(Tone::Heading)];
    let sentences = explanation.sentences.iter();
    let sentences = sentences.map(|sentence| vec![Cell::new(sentence)]);
    std::iter::once(heading)
        .chain(sentences)
        .chain(silent(&explanation.replicas))
        .collect()
}

/// A line for each replica that did not answer.
pub(crate) fn silent(replicas: &[ReplicaAnswer]) -> impl Iterator<Item = Line> {
    let silent = replicas.iter().filter(|replica| !replica.error.is_empty());
    silent.map(|replica| {
        let sentence = format!(
            "Replica {} did not answer, so that reads it served may be missing: {}.",
            replica.name,
            replica.error.trim_end_matches('.')
        );
        vec![Cell::new(&sentence).toned(Tone::Warning)]
    })
}

/// Older than everything that is known is another code than wrong.
fn refused(error: ConnectionError) -> Failure {
    match &error {
        ConnectionError::NotFound { cause, .. } if cause == NOT_RECORDED => {
            Failure::unknown(&error)
        }
        _ => error.into(),
    }
}

/// Why nothing was explained, if all that is known begins after the time in question.
fn out_of_reach(explanation: &Explanation, clock: &Clock) -> Option<String> {
    let mut metrics = explanation.metrics.iter();
    let was_read = metrics.any(|metric| metric.read.is_some());
    if was_read || explanation.derived_replicas.is_some() {
        return None;
    }
    let since = explanation
        .replicas
        .iter()
        .filter_map(|replica| replica.since_unix_ms);
    let since = since.min()?;
    (since > explanation.at_unix_ms).then(|| {
        format!(
            "the ledger of reads does not reach back to {}: it begins at {} ({})",
            clock.time_of_day(explanation.at_unix_ms),
            clock.time_of_day(since),
            clock.zone_name()
        )
    })
}

#[cfg(test)]
mod tests;
