//! Access logs of a sidecar or gateway.

use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Logging {
    pub access_log: Option<AccessLog>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AccessLog {
    File(FileLog),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileLog {
    /// Absolute, and writable by Envoy.
    pub path: String,
    /// `None` for Envoy's own format.
    pub format: Option<LogFormat>,
}

/// With Envoy's command operators, such as `%PROTOCOL%`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// Without a line break at the end unless it has one.
    Text(String),
    /// One object in a line.
    Json(Vec<LogField>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogField {
    pub key: String,
    pub value: String,
}
