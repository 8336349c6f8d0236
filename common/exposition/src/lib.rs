//! What `/metrics` answers: a registry and the `Accept` of a request in, a page and its media type
//! out.
//!
//! ```text
//! registry ── prometheus-client ──> OpenMetrics 1.0.0 ──┬──> whoever prefers it (Prometheus)
//!                                                       └─ text ──> others (text format 0.0.4)
//! ```
//!
//! Readers of the text format stop at what only `OpenMetrics` has (`# TYPE … info`, `# EOF`), and
//! most say nothing in `Accept`.

use std::fmt;

use http::HeaderMap;
use http::header::ACCEPT;
use prometheus_client::registry::Registry;

mod text;

/// Media type of `OpenMetrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Media type of the text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is counted, in the format that `headers` ask for, and its media type. The answer varies by
/// `Accept`.
pub fn page(
    registry: &Registry,
    headers: &HeaderMap,
) -> Result<(String, &'static str), fmt::Error> {
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, registry)?;
    if prefers_open_metrics(headers) {
        return Ok((page, OPEN_METRICS));
    }
    Ok((text::of(&page), TEXT))
}

/// True if `OpenMetrics` is named with a higher weight than the text format, or with the same and
/// before it.
fn prefers_open_metrics(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).into_iter();
    let items = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    // The weight of each: the highest, and of equal ones the first.
    let (mut open, mut text) = (0.0f32, 0.0f32);
    for item in items {
        let mut parts = item.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut weight, mut version) = (1.0, "");
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => weight = weight_of(value.trim()),
                "version" => version = value.trim().trim_matches('"'),
                _ => {}
            }
        }
        match media_type.as_str() {
            "application/openmetrics-text" if ["", "1.0.0"].contains(&version) && weight > text => {
                open = open.max(weight);
            }
            "text/plain" | "text/*" | "*/*" if weight > open => text = text.max(weight),
            _ => {}
        }
    }
    open > text
}

/// A weight that cannot be read is none.
fn weight_of(text: &str) -> f32 {
    let weight = text.parse::<f32>().ok();
    weight
        .filter(|weight| (0.0..=1.0).contains(weight))
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests;
