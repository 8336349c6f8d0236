//! `simulate`: what autoscalers would have done with a load, side by side. Asks nobody.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use autoscaler::{Behavior, Hpa, Metric, Source, Target};
use autoscaler_simulation::{Outcome, Scenario, Series, Signal, simulate};
use serde::Serialize;
use serde_json::Value;

use crate::args::{SettingArg, SimulateArgs, TextOrJson};
use crate::output::{Failure, Output, json};
use crate::table::{Cell, Kind, Line, Table};

/// Bytes of a recording at most.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of a manifest at most.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;
/// How much more than its target a pod can serve.
const HEADROOM: f64 = 1.2;

/// What one setting came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Compared {
    setting: String,
    signal_delay_ms: u128,
    signal_window_ms: u128,
    signal_every_ms: u128,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    load_seconds: f64,
    capacity: f64,
    replicas: u32,
    settings: Vec<Compared>,
}

/// Runs each setting and prints them side by side.
pub(crate) fn run(args: &SimulateArgs) -> Result<ExitCode, Failure> {
    let report = report(args).map_err(|message| Failure { message, code: 2 })?;
    let output = Output::new(args.color);
    let lines = match args.output {
        TextOrJson::Json => json(&report)?,
        TextOrJson::Text => lines(&report, output.room()),
    };
    output.print(&lines);
    Ok(ExitCode::SUCCESS)
}

fn report(args: &SimulateArgs) -> Result<Report, String> {
    let series = series(args)?;
    let hpa = hpa(args)?;
    let per_pod = target_per_pod(&hpa);
    let capacity = match (args.capacity, per_pod) {
        (Some(capacity), _) => capacity,
        (None, Some(target)) => target * HEADROOM,
        (None, None) => {
            return Err("--capacity is needed: the target is not one per pod".to_owned());
        }
    };
    let replicas = args.replicas.unwrap_or_else(|| {
        needed(
            series.rate(std::time::Duration::ZERO),
            per_pod.unwrap_or(capacity),
            &hpa,
        )
    });
    let settings = args.settings()?.into_iter().map(|setting| {
        let scenario = scenario(&setting, &hpa, capacity, replicas);
        let outcome = simulate(&series, &scenario);
        let outcome = outcome.map_err(|error| format!("{}: {error}", setting.name))?;
        Ok(Compared::new(setting.name, setting.signal, outcome))
    });
    Ok(Report {
        load_seconds: series.length().as_secs_f64(),
        capacity,
        replicas,
        settings: settings.collect::<Result<_, String>>()?,
    })
}

fn series(args: &SimulateArgs) -> Result<Series, String> {
    let Some(file) = &args.file else {
        return Ok(args.shape.series(args.low, args.high));
    };
    let text = read(file, "--file", FILE_BYTES_MAX)?;
    let series = if text.trim_start().starts_with(['{', '[']) {
        Series::from_prometheus(&text)
    } else {
        Series::from_csv(&text)
    };
    series.map_err(|error| format!("--file {}: {error}", file.display()))
}

fn hpa(args: &SimulateArgs) -> Result<Hpa, String> {
    let Some(file) = &args.hpa else {
        if args.max < args.min {
            return Err(format!(
                "--max {} is less than --min {}",
                args.max, args.min
            ));
        }
        #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
        let milli = (args.target * 1000.0).round() as i128;
        if milli < 1 {
            return Err(format!("--target {}: more than 0 is needed", args.target));
        }
        let metric = Metric::pods("appmesh_requests_per_second", milli);
        return Ok(Hpa::new(args.min, args.max, vec![metric]));
    };
    let refused = |problem: String| format!("--hpa {}: {problem}", file.display());
    let text = read(file, "--hpa", MANIFEST_BYTES_MAX)?;
    let object: Value =
        serde_saphyr::from_str(&text).map_err(|error| refused(error.to_string()))?;
    Hpa::from_json(&object).map_err(|error| refused(error.to_string()))
}

fn read(file: &Path, flag: &str, most: u64) -> Result<String, String> {
    let refused = |problem: String| format!("{flag} {}: {problem}", file.display());
    let mut text = String::new();
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).map_err(|error| refused(error.to_string()))?)
    };
    let count = source
        .take(most + 1)
        .read_to_string(&mut text)
        .map_err(|error| refused(error.to_string()))?;
    if u64::try_from(count).is_ok_and(|count| count > most) {
        return Err(refused(format!("it has more than {most} bytes")));
    }
    Ok(text)
}

/// Requests a second per pod that the HPA aims at, if its first metric says that.
fn target_per_pod(hpa: &Hpa) -> Option<f64> {
    let metric = hpa.metrics.first()?;
    let (
        Source::Pods { .. } | Source::Object { .. } | Source::External { .. },
        Target::Average(milli),
    ) = (&metric.source, metric.target)
    else {
        return None;
    };
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let target = milli as f64 / 1000.0;
    (target > 0.0).then_some(target)
}

/// Replicas for a rate, within the bounds of the HPA.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate"
)]
fn needed(rate: f64, per_pod: f64, hpa: &Hpa) -> u32 {
    ((rate / per_pod).ceil() as u32).clamp(hpa.min.max(1), hpa.max)
}

fn scenario(setting: &SettingArg, hpa: &Hpa, capacity: f64, replicas: u32) -> Scenario {
    let mut hpa = hpa.clone();
    if setting.up.is_some() || setting.down.is_some() || setting.tolerance.is_some() {
        let behavior = hpa.behavior.get_or_insert_with(Behavior::default);
        behavior.up.stabilization = setting.up.or(behavior.up.stabilization);
        behavior.down.stabilization = setting.down.or(behavior.down.stabilization);
        behavior.up.tolerance = setting.tolerance.or(behavior.up.tolerance);
        behavior.down.tolerance = setting.tolerance.or(behavior.down.tolerance);
    }
    Scenario {
        hpa,
        signal: setting.signal,
        sync: setting.sync,
        time_to_ready: setting.time_to_ready,
        capacity,
        replicas,
    }
}

fn lines(report: &Report, room: Option<usize>) -> Vec<Line> {
    let rows = report.settings.iter().map(|one| {
        let outcome = &one.outcome;
        let share = if outcome.requests > 0.0 {
            outcome.over_capacity_requests / outcome.requests * 100.0
        } else {
            0.0
        };
        let first = outcome.scalings.first();
        let first = first.map_or_else(
            || "-".to_owned(),
            |first| format!("{} s", first.at_ms / 1000),
        );
        [
            one.setting.clone(),
            first,
            outcome.most_replicas.to_string(),
            format!("{:.0}", outcome.over_capacity_requests),
            format!("{share:.1} %"),
            format!("{:.0} s", outcome.over_capacity_seconds),
            format!("{:.0}", outcome.replica_seconds),
            outcome.scalings.len().to_string(),
            outcome.reversals.to_string(),
        ]
        .map(|text| Cell::new(&text))
        .into()
    });
    let table = Table {
        columns: vec![
            ("SETTING", Kind::Name),
            ("FIRST SCALING", Kind::Number),
            ("MOST PODS", Kind::Number),
            ("OVER CAPACITY", Kind::Number),
            ("OF ALL", Kind::Number),
            ("FOR", Kind::Number),
            ("POD SECONDS", Kind::Number),
            ("SCALINGS", Kind::Number),
            ("REVERSALS", Kind::Number),
        ],
        rows: rows.collect(),
    };
    let mut lines = table.lines(room);
    let note = format!(
        "{:.0} s of load, {} pods at the start, {:.1} requests/s a pod can serve. OVER CAPACITY: requests beyond what ready pods can serve.",
        report.load_seconds, report.replicas, report.capacity
    );
    lines.push(Vec::new());
    lines.push(vec![Cell::new(&note)]);
    lines
}

// === impl Compared ===

impl Compared {
    fn new(setting: String, signal: Signal, outcome: Outcome) -> Self {
        Self {
            setting,
            signal_delay_ms: signal.delay.as_millis(),
            signal_window_ms: signal.window.as_millis(),
            signal_every_ms: signal.every.as_millis(),
            outcome,
        }
    }
}

#[cfg(test)]
mod tests;
