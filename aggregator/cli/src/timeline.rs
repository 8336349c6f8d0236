//! `timeline`: what an HPA read and did.

use std::process::ExitCode;
use std::time::Duration;

use aggregator_view::documents::{Entry, EntryKind, Reaction, Timeline};
use aggregator_view::{GROUP, VERSION};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use crate::args::{TextOrJson, TimelineArgs};
use crate::clock::{self, Clock};
use crate::explain::silent;
use crate::output::{Failure, Output, json, note};
use crate::table::{Cell, Line, Tone};
use crate::{Connection, ConnectionError, Program, numbers, text};

mod chart;

/// With --watch: time between two answers.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Columns of a chart where nobody says how many there are.
const ROOM: usize = 100;

/// Prints the timeline of `hpa NAME`.
pub(crate) async fn run(args: &TimelineArgs, program: Program) -> Result<ExitCode, Failure> {
    let name = args.hpa.name().map_err(|error| Failure::new(&error))?;
    let clock = clock::read();
    let connection = Connection::open(&args.connection, program).await?;
    let since = u64::try_from(args.since.as_millis()).unwrap_or(u64::MAX);
    let from = clock.unix_ms().saturating_sub(since);
    let document = fetch(&connection, name, from).await?;
    let output = Output::new(args.color);
    if args.output == TextOrJson::Json {
        output.print(&json(&document)?);
        return Ok(ExitCode::SUCCESS);
    }
    let timeline = parse(&document)?;
    let lines = shown(&timeline, from, &clock, output.room(), !args.no_chart);
    let is_read = output.print(&lines);
    if timeline.entries.is_empty() {
        note("Nothing was read or decided in that time (--since looks further back).");
    }
    if args.watch && is_read {
        return follow(&connection, name, &timeline, output).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// All that is printed of a timeline that was asked for from then on.
fn shown(
    timeline: &Timeline,
    from: u64,
    clock: &Clock,
    room: Option<usize>,
    with_chart: bool,
) -> Vec<Line> {
    let mut lines = heading(timeline, clock);
    lines.extend(entries(&timeline.entries, clock, room));
    if with_chart {
        let room = room.unwrap_or(ROOM);
        lines.extend(chart::lines(timeline, from, clock, room));
    }
    let reactions = timeline.reactions.iter();
    lines.extend(reactions.map(|reaction| of_reaction(reaction, clock)));
    lines.extend(silent(&timeline.replicas));
    lines
}

/// Prints what is new.
async fn follow(
    connection: &Connection,
    name: &str,
    timeline: &Timeline,
    output: Output,
) -> Result<ExitCode, Failure> {
    let mut known = timeline.entries.clone();
    let mut ticks = interval(AGAIN_AFTER);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // What other replicas saw may come late: some of what is known is asked for again.
        let newest = known.last().map(|entry| entry.at_unix_ms);
        let clock = clock::read();
        let from = newest.unwrap_or(clock.unix_ms()).saturating_sub(60_000);
        let new = match fetch(connection, name, from).await {
            Ok(document) => parse(&document)?.entries,
            Err(error) => {
                crate::report(&error.to_string());
                continue;
            }
        };
        let unseen: Vec<Entry> = new
            .iter()
            .filter(|entry| !known.contains(entry))
            .cloned()
            .collect();
        if !output.print(&entries(&unseen, &clock, output.room())) {
            return Ok(ExitCode::SUCCESS);
        }
        if !new.is_empty() {
            known = new;
        }
    }
}

async fn fetch(connection: &Connection, name: &str, from: u64) -> Result<Value, ConnectionError> {
    let namespace = connection.namespace();
    let path = format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/timelines/{name}");
    connection.read(&path, &[("from", &from.to_string())]).await
}

fn parse(document: &Value) -> Result<Timeline, Failure> {
    common_json::from_str(&document.to_string()).map_err(|error| Failure::new(&error))
}

fn heading(timeline: &Timeline, clock: &Clock) -> Vec<Line> {
    let target = timeline
        .target_milli
        .map(|target| format!(", {} per pod wanted", numbers::milli(target)));
    let heading = format!(
        "{}/{} scales {} between {} and {}{}; times in {}",
        timeline.namespace,
        timeline.hpa,
        timeline.target,
        timeline.min_replicas,
        timeline.max_replicas,
        target.unwrap_or_default(),
        clock.zone_name(),
    );
    vec![vec![Cell::new(&heading).toned(Tone::Heading)]]
}

fn entries(entries: &[Entry], clock: &Clock, room: Option<usize>) -> Vec<Line> {
    let lines = entries.iter().map(|entry| {
        let (kind, tone) = match entry.kind {
            EntryKind::Read => ("read", Tone::Plain),
            EntryKind::Refusal => ("refused", Tone::Bad),
            EntryKind::Decision => ("decided", Tone::Warning),
            EntryKind::Ready => ("ready", Tone::Good),
            EntryKind::Condition => ("condition", Tone::Warning),
        };
        let begin = format!("{}  {kind:<9}  ", clock.time_of_day(entry.at_unix_ms));
        let told = text::shown(&entry.text);
        let told = match room {
            Some(room) => text::fit(&told, room.saturating_sub(begin.len()).max(20)),
            None => told,
        };
        vec![Cell::new(&begin), Cell::new(&told).toned(tone)]
    });
    lines.collect()
}

/// How soon a step was followed.
fn of_reaction(reaction: &Reaction, clock: &Clock) -> Line {
    let after = |ms: Option<u64>| match ms {
        Some(_) => format!("after {}", numbers::time(ms)),
        None => "at a time that is not known".to_owned(),
    };
    let sentence = format!(
        "Step at {} ({} to {} replicas): read {}, decided {}, ready {}.",
        clock.time_of_day(reaction.step_unix_ms),
        reaction.from_replicas,
        reaction.to_replicas,
        after(reaction.read_ms),
        after(reaction.decision_ms),
        after(reaction.ready_ms),
    );
    vec![Cell::new(&sentence)]
}

#[cfg(test)]
mod tests;
