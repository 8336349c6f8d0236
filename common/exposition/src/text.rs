//! From `OpenMetrics` 1.0.0, as `prometheus-client` writes it, to Prometheus' text format 0.0.4.
//!
//! | `OpenMetrics` | text format |
//! |---|---|
//! | `# TYPE x counter`, `x_total 1` | `# TYPE x_total counter`, `x_total 1` |
//! | `# TYPE x info`, `x_info{…} 1` | `# TYPE x_info gauge`, `x_info{…} 1` |
//! | `# TYPE x unknown` | `# TYPE x untyped` |
//! | `# UNIT x seconds`, `# EOF`, exemplars | nothing |

use std::fmt::Write as _;

/// The page in the text format.
pub(crate) fn of(open_metrics: &str) -> String {
    let mut page = String::with_capacity(open_metrics.len());
    // HELP comes before TYPE, but the name to write in it depends on the type.
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            family(rest, help.take(), &mut page);
        } else if !line.starts_with('#') {
            page.push_str(without_exemplar(line));
            page.push('\n');
        }
    }
    page
}

fn family(declared: &str, help: Option<(&str, &str)>, page: &mut String) {
    let (name, kind) = declared.split_once(' ').unwrap_or((declared, "unknown"));
    let (ending, kind) = match kind {
        "counter" => ("_total", kind),
        "info" => ("_info", "gauge"),
        "gauge" | "histogram" | "summary" => ("", kind),
        _ => ("", "untyped"),
    };
    if let Some((_, help)) = help.filter(|(of, _)| *of == name) {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "# HELP {name}{ending} {help}");
    }
    let _ = writeln!(page, "# TYPE {name}{ending} {kind}");
}

/// A sample without its exemplar, which begins with ` # ` after the value. Label values may contain
/// ` # ` too.
fn without_exemplar(line: &str) -> &str {
    let labels_end = end_of_labels(line);
    let exemplar = line[labels_end..].find(" # ");
    exemplar.map_or(line, |at| &line[..labels_end + at])
}

/// Where the labels end; 0 if there are none.
fn end_of_labels(line: &str) -> usize {
    // Labels follow the name without a space: a later `{` is that of an exemplar.
    let begin = line.find(['{', ' ']);
    let Some(begin) = begin.filter(|begin| line[*begin..].starts_with('{')) else {
        return 0;
    };
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.bytes().enumerate().skip(begin) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return at,
            _ => {}
        }
    }
    line.len()
}
