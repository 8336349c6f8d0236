//! The page of `/metrics`: from a registry and the `Accept` of a request to a text and its media
//! type.
//!
//! ```text
//! registry ── prometheus-client ──> OpenMetrics 1.0.0 ──┬──> clients that prefer it (Prometheus)
//!                                                       └─ text ──> others (text format 0.0.4)
//! ```
//!
//! Parsers of the text format fail on lines that only `OpenMetrics` has (`# TYPE … info`, `# EOF`),
//! and most clients send no `Accept`.

use std::fmt;

use http::HeaderMap;
use http::header::ACCEPT;
use prometheus_client::registry::Registry;

mod text;

/// Media type of `OpenMetrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Media type of the text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics in the format that `headers` accept, and its media type. The response must carry
/// `Vary: Accept`.
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

/// True if `OpenMetrics` has a higher weight than the text format, or the same and comes first.
fn prefers_open_metrics(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).into_iter();
    let items = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    // The highest weight of each; an equal weight of the other format does not replace the first.
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

/// The weight; 0 if it is invalid.
fn weight_of(text: &str) -> f32 {
    let weight = text.parse::<f32>().ok();
    weight
        .filter(|weight| (0.0..=1.0).contains(weight))
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests;
