//! The values of the chart as tables: names, defaults and meaning from `values.yaml`, types and
//! choices from `values.schema.json`.
//!
//! ```text
//! values.yaml (lines: comment, key) + its YAML + schema -> values -> tables
//! ```

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::markdown::cell;

/// A key of `values.yaml` and what stands above it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Line {
    /// Keys from the top.
    path: Vec<String>,
    comment: String,
}

/// The tables: first what is at the top, then one for each group.
pub fn render(text: &str, schema: &str) -> Result<String> {
    let defaults: Value = serde_saphyr::from_str(text).context("values.yaml")?;
    let schema: Value = serde_json::from_str(schema).context("values.schema.json")?;
    let lines = lines(text);
    let (groups, single): (Vec<&Line>, Vec<&Line>) = lines
        .iter()
        .filter(|line| line.path.len() == 1)
        .partition(|line| is_group(&schema["properties"][&line.path[0]]));
    let mut out = String::from("\n");
    table(&mut out, &single, &defaults, &schema)?;
    for group in groups {
        let name = &group.path[0];
        let below: Vec<&Line> = lines
            .iter()
            .filter(|line| line.path.len() > 1 && line.path[0] == *name)
            .collect();
        write!(out, "### `{name}`\n\n{}\n\n", group.comment)?;
        table(&mut out, &below, &defaults, &schema)?;
    }
    Ok(out)
}

fn table(out: &mut String, lines: &[&Line], defaults: &Value, schema: &Value) -> Result<()> {
    out.push_str("| Value | Type | Default | Meaning |\n|---|---|---|---|\n");
    for line in lines {
        let name = line.path.join(".");
        let (mut default, mut of_schema) = (defaults, Some(schema));
        for key in &line.path {
            default = &default[key];
            // Below what is given whole nothing is listed.
            of_schema = of_schema
                .filter(|schema| is_group(schema))
                .map(|schema| &schema["properties"][key]);
        }
        let Some(of_schema) = of_schema.filter(|schema| !is_group(schema)) else {
            continue;
        };
        ensure!(
            !line.comment.is_empty(),
            "{name}: no comment says what it is"
        );
        let default = match default {
            Value::String(text) if text.is_empty() => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let meaning = cell(&line.comment);
        writeln!(
            out,
            "| `{name}` | {} | {default} | {meaning} |",
            kind(of_schema)
        )?;
    }
    out.push('\n');
    Ok(())
}

/// True of what has named parts.
fn is_group(schema: &Value) -> bool {
    schema["properties"].is_object()
}

fn kind(schema: &Value) -> String {
    if let Some(choices) = schema["enum"].as_array() {
        let texts = choices.iter().filter_map(Value::as_str);
        let named = texts.filter(|text| !text.is_empty());
        return named
            .map(|text| format!("`{text}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(reference) = schema["$ref"].as_str() {
        return match reference.rsplit('/').next() {
            Some("resources") => "resources",
            Some("texts") => "map",
            _ => "text",
        }
        .to_owned();
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let names = types.iter().map(|name| match name.as_str() {
        Some("array") => "list",
        Some("object") => "map",
        Some("string") => "text",
        Some("boolean") => "true, false",
        Some("integer") => "number",
        _ => "null",
    });
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    if let (Some(min), Some(max)) = (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        names = vec![format!("{min} to {max}")];
    }
    names.join(", ")
}

/// Every key, with the comment right above it.
fn lines(text: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let word = line.trim_start();
        let indent = line.len() - word.len();
        if let Some(said) = word.strip_prefix("# ") {
            comment.push(said);
            continue;
        }
        if let Some((key, _)) = word.split_once(':') {
            path.retain(|(of, _)| *of < indent);
            path.push((indent, key.to_owned()));
            found.push(Line {
                path: path.iter().map(|(_, key)| key.clone()).collect(),
                comment: comment.join(" "),
            });
        }
        comment.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups become tables, what is given whole one row, and what has no comment a finding.
    #[test]
    fn renders_what_stands_above_each_value() {
        let text = "# Of the file.\n\n# How.\nmode: a\n\n# Some parts.\nparts:\n  # How many.\n  # Or none.\n  count: 2\n  # Sizes.\n  sizes:\n    small: 1\n";
        let schema = r#"{"properties": {
            "mode": {"enum": ["", "a", "b"]},
            "parts": {"properties": {"count": {"type": ["integer", "null"]}, "sizes": {"type": "object"}}}}}"#;
        let expected = "
| Value | Type | Default | Meaning |
|---|---|---|---|
| `mode` | `a`, `b` | `a` | How. |

### `parts`

Some parts.

| Value | Type | Default | Meaning |
|---|---|---|---|
| `parts.count` | number, null | `2` | How many. Or none. |
| `parts.sizes` | map | `{\"small\":1}` | Sizes. |

";
        assert_eq!(render(text, schema).unwrap(), expected);
        let bare = text.replace("# How.\n", "");
        let refused = render(&bare, schema).unwrap_err().to_string();
        assert_eq!(refused, "mode: no comment says what it is");
    }
}
