//! What explanations and timelines say of each recorded scenario, and of what scenarios lack.
//! `NAME.txt` in `aggregator/view/tests/snapshots` is what they say; `MESHMETER_REGENERATE=1 cargo
//! test -p aggregator-view --test texts` writes it anew, to be read in the change.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

mod cases;
mod recorded;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use aggregator_view::documents::{Explanation, Timeline};
use aggregator_view::{Evidence, explain, timeline};
use autoscaler::testing::scenarios;

use recorded::{Case, START};

const REGENERATE: &str = "MESHMETER_REGENERATE";

/// Every scenario has its text, and what is derived is what was recorded.
#[test]
fn says_what_happened_in_each_scenario() {
    let mut wrong = Vec::new();
    for scenario in scenarios() {
        let case = recorded::case(&scenario);
        let name = match scenario.part {
            0 => scenario.number.to_owned(),
            part => format!("{}-{part}", scenario.number),
        };
        let title = format!("{}. {}", scenario.number, scenario.title);
        wrong.extend(compare(&name, &text(&title, &case)));
        let all_ours = case.ours.iter().all(|ours| *ours);
        for at in &case.syncs {
            let explanation = explain(&evidence(&case), *at).unwrap();
            if all_ours && !explanation.metrics.iter().any(|own| own.read.is_none()) {
                let derived = explanation.derived_replicas;
                assert_eq!(derived, explanation.observed_replicas, "{name} at {at}");
                assert!(derived.is_some(), "{name} at {at}");
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong:#?}; {REGENERATE}=1 writes them anew"
    );
}

/// What the scenarios have no example of.
#[test]
fn says_what_is_not_known() {
    let mut wrong = Vec::new();
    for (name, title, case) in cases::all() {
        wrong.extend(compare(name, &text(title, &case)));
    }
    assert!(
        wrong.is_empty(),
        "{wrong:#?}; {REGENERATE}=1 writes them anew"
    );
}

fn evidence(case: &Case) -> Evidence<'_> {
    Evidence {
        hpa: &case.hpa,
        ours: &case.ours,
        reads: &case.reads,
        changes: &case.changes,
        replicas: &case.replicas,
    }
}

/// The timeline, then the explanation of each sync.
fn text(title: &str, case: &Case) -> String {
    let evidence = evidence(case);
    let mut text = format!("{title}\n\nTIMELINE\n");
    write_timeline(&mut text, &timeline(&evidence, START - 1));
    for at in &case.syncs {
        match explain(&evidence, *at) {
            Ok(explanation) => write_explanation(&mut text, &explanation),
            Err(error) => writeln!(text, "\nNO EXPLANATION\n{error}").unwrap(),
        }
    }
    text
}

fn write_timeline(text: &mut String, timeline: &Timeline) {
    for entry in &timeline.entries {
        let seconds = entry.at_unix_ms.wrapping_sub(START);
        let at = format!("{}.{:02}", seconds / 1000, seconds % 1000 / 10);
        writeln!(text, "{at:>7} s  {}", entry.text).unwrap();
    }
    for reaction in &timeline.reactions {
        let after = |millis: Option<u64>| {
            millis.map_or_else(|| "unknown".to_owned(), |millis| format!("{millis} ms"))
        };
        writeln!(
            text,
            "from {} to {}: step at {} ms, read after {}, decided after {}, ready after {}",
            reaction.from_replicas,
            reaction.to_replicas,
            i128::from(reaction.step_unix_ms) - i128::from(START),
            after(reaction.read_ms),
            after(reaction.decision_ms),
            after(reaction.ready_ms)
        )
        .unwrap();
    }
}

fn write_explanation(text: &mut String, explanation: &Explanation) {
    let count =
        |count: Option<u32>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    writeln!(
        text,
        "\nEXPLANATION current {} derived {} observed {}",
        count(explanation.current_replicas),
        count(explanation.derived_replicas),
        count(explanation.observed_replicas)
    )
    .unwrap();
    for sentence in &explanation.sentences {
        writeln!(text, "{sentence}").unwrap();
    }
}

/// Differences from the file, or writes it.
fn compare(name: &str, text: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/{name}.txt"));
    if std::env::var_os(REGENERATE).is_some() {
        fs::write(&path, text).unwrap();
        return None;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if expected == text {
        return None;
    }
    let lines = expected.lines().zip(text.lines());
    let first = lines.into_iter().find(|(expected, got)| expected != got);
    Some(format!("{name}: {first:?}"))
}
