//! The output as text.

use std::fmt::Write as _;

use common_log::escaped;
use thiserror::Error;

use crate::{Conversion, GATEWAY_API};

#[derive(Debug, Error)]
#[error("a document cannot be written as YAML: {0}")]
pub struct PrintError(String);

/// YAML documents, with the findings as comments at the head.
pub fn text(conversion: &Conversion) -> Result<String, PrintError> {
    let mut text = String::new();
    let mut comment = |line: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# {}", escaped(line));
    };
    let channel = conversion.channel.as_str();
    comment(&format!(
        "Gateway API {GATEWAY_API}, {channel} channel: converted from App Mesh resources by meshmeter-mesh convert"
    ));
    if !conversion.needed.is_empty() {
        comment("Services that have to be there:");
        for service in &conversion.needed {
            comment(&format!("  {service}"));
        }
    }
    if !conversion.printed.is_empty() {
        comment("Services that are printed: an apply writes over those of these names.");
        for service in &conversion.printed {
            comment(&format!("  {service}"));
        }
    }
    if conversion.findings.is_empty() {
        comment("Nothing was lost.");
    } else {
        comment("What is not as it was:");
        for finding in &conversion.findings {
            comment(&format!("  {finding}"));
        }
    }
    for document in &conversion.documents {
        let yaml = serde_saphyr::to_string(document);
        let yaml = yaml.map_err(|error| PrintError(error.to_string()))?;
        text.push_str("---\n");
        text.push_str(yaml.trim_end());
        text.push('\n');
    }
    Ok(text)
}
