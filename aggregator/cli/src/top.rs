//! `top`: what the sidecars count of pods, workloads, namespaces and services.

use std::process::ExitCode;
use std::time::Duration;

use aggregator_view::documents::List;
use aggregator_view::{GROUP, VERSION};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use crate::args::{TopArgs, TopKind, TopOutput};
use crate::output::{Failure, Output, json, yaml};
use crate::table::{Cell, Line};
use crate::{Connection, ConnectionError, Program, clock};
use rows::{Row, Shape};

mod order;
mod rows;
mod screen;

/// Shows it once, or again and again.
pub(crate) async fn run(args: &TopArgs, program: Program) -> Result<ExitCode, Failure> {
    let connection = Connection::open(&args.connection, program).await?;
    let output = Output::new(args.color);
    if !args.watch {
        let list = fetch(&connection, args, output.is_terminal).await?;
        let lines = lines(&list, args, output.room(), output.is_terminal)?;
        output.print(&lines);
        return Ok(ExitCode::SUCCESS);
    }
    let is_table = matches!(args.output, TopOutput::Text | TopOutput::Wide);
    if output.is_terminal && is_table {
        return screen::run(&connection, args, output).await;
    }
    repeat(&connection, args, output).await
}

/// Prints again and again, until nobody reads or the program is interrupted.
async fn repeat(
    connection: &Connection,
    args: &TopArgs,
    output: Output,
) -> Result<ExitCode, Failure> {
    let mut ticks = interval(Duration::from_secs(args.interval));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_first = true;
    loop {
        ticks.tick().await;
        let list = match fetch(connection, args, false).await {
            Ok(list) => list,
            Err(error) if is_first => return Err(error.into()),
            Err(error) => {
                crate::report(&error.to_string());
                continue;
            }
        };
        let mut lines = lines(&list, args, None, false)?;
        if matches!(args.output, TopOutput::Text | TopOutput::Wide) {
            let clock = clock::read();
            stamp(
                &mut lines,
                &clock.time_of_day(clock.unix_ms()),
                args,
                is_first,
            );
        }
        is_first = false;
        if !output.print(&lines) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Puts the time before each row; the columns' names are printed once.
fn stamp(lines: &mut Vec<Line>, time: &str, args: &TopArgs, is_first: bool) {
    if !args.no_headers && !is_first {
        lines.remove(0);
    }
    for (at, line) in lines.iter_mut().enumerate() {
        let is_heading = at == 0 && is_first && !args.no_headers;
        let text = if is_heading { "TIME    " } else { time };
        line.insert(0, Cell::new(&format!("{text}  ")));
    }
}

/// All pages.
async fn fetch(
    connection: &Connection,
    args: &TopArgs,
    is_terminal: bool,
) -> Result<List<Value>, ConnectionError> {
    let resource = args.kind.resource();
    let root = format!("/apis/{GROUP}/{VERSION}");
    let path = match args.kind {
        TopKind::Namespaces => format!("{root}/{resource}"),
        _ if args.all_namespaces => format!("{root}/{resource}"),
        _ => format!("{root}/namespaces/{}/{resource}", connection.namespace()),
    };
    let mut query = Vec::new();
    if let Some(selector) = &args.selector {
        query.push(("labelSelector", selector.as_str()));
    }
    if !with_history(args, is_terminal) {
        query.push(("history", "false"));
    }
    let mut list: List<Value> = connection.list(&path, &query).await?;
    let is_asked = |item: &Value| match &args.name {
        None => true,
        Some(name) => item["name"] == name.as_str(),
    };
    list.items.retain(is_asked);
    if let (Some(name), true) = (&args.name, list.items.is_empty()) {
        let message = format!(
            "no {name} among the {resource} here: see `{} top {resource} -A`",
            connection.program()
        );
        let cause = String::new();
        return Err(ConnectionError::NotFound { message, cause });
    }
    Ok(list)
}

/// What is printed of a list.
fn lines(
    list: &List<Value>,
    args: &TopArgs,
    room: Option<usize>,
    with_history: bool,
) -> Result<Vec<Line>, Failure> {
    if args.output == TopOutput::Json {
        return json(list);
    }
    if args.output == TopOutput::Yaml {
        return yaml(list);
    }
    let mut rows = rows(list, args)?;
    order::sort(&mut rows, args.sort_by);
    if args.output == TopOutput::Name {
        let names = rows.iter().map(|row| vec![Cell::new(&row.reference())]);
        return Ok(names.collect());
    }
    if rows.is_empty() {
        crate::output::note(&format!("No {} found.", args.kind.resource()));
        return Ok(Vec::new());
    }
    let mut lines = rows::table(&rows, shape(args, with_history)).lines(room);
    if args.no_headers {
        lines.remove(0);
    }
    Ok(lines)
}

/// Whether anybody will see histories, which are most of a list.
fn with_history(args: &TopArgs, is_terminal: bool) -> bool {
    match args.output {
        TopOutput::Text => is_terminal,
        TopOutput::Wide | TopOutput::Json | TopOutput::Yaml => true,
        TopOutput::Name => false,
    }
}

fn shape(args: &TopArgs, with_history: bool) -> Shape {
    let is_wide = args.output == TopOutput::Wide;
    Shape {
        kind: args.kind,
        with_namespace: args.all_namespaces,
        is_wide,
        with_history: with_history || is_wide,
    }
}

fn rows(list: &List<Value>, args: &TopArgs) -> Result<Vec<Row>, Failure> {
    let items = list.items.iter();
    items
        .map(|item| Row::of(args.kind, item).map_err(|error| Failure::new(&error)))
        .collect()
}

#[cfg(test)]
mod tests;
