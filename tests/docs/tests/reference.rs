//! The references are what the built programs say. `cargo xtask reference` writes them anew.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fs;
use std::path::PathBuf;

use tests_docs::exposition::{self, OpenLabels};
use tests_docs::programs::{Part, Program};
use tests_docs::{flags, markdown, regions, stats, values};

/// With this variable the test writes what it would compare.
const WRITE: &str = "MESHMETER_WRITE_REFERENCE";

/// Labels whose values come with use.
const OPEN: [OpenLabels; 5] = [
    OpenLabels {
        metric: "meshmeter_build_info",
        text: "`version`",
    },
    OpenLabels {
        metric: "meshmeter_ingest_sidecars",
        text: "`build`: up to 16, those beyond as `other`, `unknown`",
    },
    OpenLabels {
        metric: "meshmeter_remote_write_requests_total",
        text: "`code`: HTTP status, or `none`",
    },
    OpenLabels {
        metric: "meshmeter_signal_age_seconds",
        text: "`namespace`: up to 1,000, those beyond as `_other`",
    },
    OpenLabels {
        metric: "meshmeter_signal_age_part_seconds",
        text: "`namespace`: as above; `part`: `flush`, `transport`, `store`",
    },
];

fn docs() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"))
}

/// Every region of `document` says what `content` generates for its name.
fn hold(document: &str, content: impl Fn(&str) -> Option<String>) {
    let file = docs().join(document);
    let committed = fs::read_to_string(&file).unwrap();
    let generated = regions::fill(&committed, content).unwrap();
    if std::env::var_os(WRITE).is_some() {
        fs::write(&file, generated).unwrap();
        return;
    }
    assert!(
        committed == generated,
        "docs/{document} is not what the programs say; `cargo xtask reference` writes it:\n{}",
        regions::difference(&committed, &generated)
    );
}

/// Flags, their variables, defaults and meaning are those of `--help`.
#[test]
fn flags_are_documented() {
    hold("CONFIGURATION.md", |name| {
        let program = match name {
            "flags of meshmeter" => Program::Aggregator,
            "flags of meshmeter-mesh" => Program::Mesh,
            _ => return None,
        };
        Some(flags::render(&program.commands().unwrap()))
    });
}

/// Metrics, their units, labels and meaning are those of `/metrics`, and the sidecar's those of the
/// filter.
#[tokio::test]
async fn metrics_are_documented() {
    let mut tables = Vec::new();
    for part in Part::ALL {
        let metrics = part.metrics().await.unwrap();
        for metric in &metrics {
            assert!(
                !metric.help.is_empty() && !metric.kind.is_empty(),
                "{metric:?}"
            );
        }
        let table = match metrics.as_slice() {
            [] => "\nNone yet.\n\n".to_owned(),
            metrics => exposition::render(metrics, &OPEN),
        };
        tables.push((format!("metrics of the {}", part.as_str()), table));
    }
    tables.push(("stats of the filter".to_owned(), stats::render()));
    for open in OPEN {
        let row = format!("| `{}` |", open.metric);
        assert!(
            tables.iter().any(|(_, table)| table.contains(&row)),
            "{row} is none"
        );
    }
    hold("METRICS.md", |name| {
        let (_, table) = tables.iter().find(|(known, _)| known == name)?;
        Some(table.clone())
    });
}

/// The values of the chart are those of its files.
#[test]
fn values_are_documented() {
    let file = |name: &str| tests_deploy::read(&format!("{}/{name}", tests_deploy::helm::CHART));
    let text = file("values.yaml").unwrap();
    let schema = file("values.schema.json").unwrap();
    let table = values::render(&text, &schema).unwrap();
    hold("reference/CHART.md", |name| {
        (name == "values of the chart").then(|| table.clone())
    });
}

/// The table of the plugin configuration has the fields that the filter knows, no more and no
/// fewer.
#[test]
fn plugin_fields_are_documented() {
    use filter_core::config::{Config, Module};
    let known = |json: &str| -> Vec<String> {
        let (_, sentences) = Config::parse(json.as_bytes(), Module::Filter);
        let told = sentences
            .iter()
            .find_map(|sentence| sentence.split_once("expected one of "));
        let (_, names) = told.unwrap();
        names
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let document = fs::read_to_string(docs().join("CONFIGURATION.md")).unwrap();
    let (_, section) = document.split_once("### Plugin configuration").unwrap();
    let section = section.split("\n#").next().unwrap();
    let rows = markdown::rows(section);
    let documented: Vec<_> = rows
        .iter()
        .filter_map(|row| row[0].strip_prefix('`')?.strip_suffix('`'))
        .collect();
    let mut fields = known(r#"{"role": "filter", "no such field": 1}"#);
    fields.sort_by_key(|field| documented.iter().position(|name| name == field));
    assert_eq!(documented, fields);
    for (field, json) in [
        (
            "aggregators",
            r#"{"role": "filter", "aggregators": [{"cluster": "a", "none": 1}]}"#,
        ),
        ("identity", r#"{"role": "filter", "identity": {"none": 1}}"#),
    ] {
        let row = rows
            .iter()
            .find(|row| row[0] == format!("`{field}`"))
            .unwrap();
        for name in known(json) {
            assert!(
                row[1].contains(&format!("\"{name}\"")),
                "{field} knows {name}"
            );
        }
    }
}
