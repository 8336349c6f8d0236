//! The plugin configuration: JSON in, a checked [`Config`] and a list of sentences about what was
//! wrong out.
//!
//! There is always a configuration. A field that is unknown or has a bad value is named in a
//! sentence and falls back to its default while the rest holds, since a filter that refuses its
//! configuration makes Envoy refuse the listener.

use std::collections::BTreeMap;

use crate::json::{self, Value};
use crate::series::{Direction, Role};

/// Largest configuration, in bytes: several times that of 64 labels of 380 bytes, four aggregators
/// and the rest.
pub const CONFIG_BYTES_MAX: usize = 64 * 1024;
/// Aggregators of a sidecar at most.
pub const AGGREGATORS_MAX: usize = 4;
/// Longest cluster name, in bytes; the aggregator has the same limit.
pub const CLUSTER_BYTES_MAX: usize = 256;
/// Series of a VM at most: the aggregator accepts 256 of a pod, "other" of two directions included.
pub const SERIES_MAX: usize = 250;
/// Pod labels that are sent at most, and bytes of a key and of a value, as the aggregator limits
/// them.
pub const LABELS_MAX: usize = 64;
const LABEL_KEY_BYTES_MAX: usize = 317;
const LABEL_VALUE_BYTES_MAX: usize = 63;
/// Bytes of all keys and values together.
const LABELS_BYTES_MAX: usize = 16 * 1024;
/// Shortest and longest time between reports, in milliseconds.
pub const FLUSH_INTERVAL_MS: (u64, u64) = (100, 60_000);
/// Problems that are named at most; the others are counted.
const PROBLEMS_MAX: usize = 16;

/// Which callbacks the running module exports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Module {
    /// `meshmeter-filter.wasm`: an HTTP filter.
    Filter,
    /// `meshmeter-log.wasm`: an access logger.
    Log,
    /// `libmeshmeter_filter.so`: an HTTP filter in Envoy's own process. Its one VM has no requests;
    /// it collects what the workers count.
    Native,
}

/// Detail of response counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseDetail {
    Off,
    /// By class of the status.
    Class,
    Code,
}

/// An aggregator to stream to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Aggregator {
    /// Envoy's name of the cluster.
    pub cluster: String,
    /// `:authority` of the stream; the cluster's name if empty.
    pub authority: String,
}

/// The identity in the configuration. Missing parts are empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfiguredIdentity {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub node: String,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    pub role: Role,
    /// `None` reads the direction from Envoy for each request.
    pub direction: Option<Direction>,
    /// Fixed cluster label of the series; "" for none.
    pub cluster: String,
    /// Whether each upstream cluster has a series of its own.
    pub by_cluster: bool,
    pub responses: ResponseDetail,
    pub aggregators: Vec<Aggregator>,
    /// Time between reports in milliseconds.
    pub flush_interval_ms: u64,
    /// Series of the VM at most.
    pub max_series: usize,
    /// Who the sidecar belongs to.
    pub identity: ConfiguredIdentity,
}

#[derive(Debug, Default)]
struct Problems {
    named: Vec<String>,
    omitted: usize,
}

// === impl Module ===

impl Module {
    fn file(self) -> &'static str {
        match self {
            Self::Filter => "meshmeter-filter.wasm",
            Self::Log => "meshmeter-log.wasm",
            Self::Native => "libmeshmeter_filter.so",
        }
    }

    fn can_be(self, role: Role) -> bool {
        (self == Self::Filter) == (role == Role::Filter)
    }

    fn default_role(self) -> Role {
        match self {
            Self::Filter | Self::Native => Role::Filter,
            Self::Log => Role::AccessLog,
        }
    }
}

// === impl Config ===

impl Config {
    /// The default configuration.
    pub fn new(module: Module) -> Self {
        Self {
            role: module.default_role(),
            direction: None,
            cluster: String::new(),
            by_cluster: false,
            responses: ResponseDetail::Class,
            aggregators: Vec::new(),
            flush_interval_ms: 1000,
            max_series: 64,
            identity: ConfiguredIdentity::default(),
        }
    }

    /// Parses a configuration. Each problem is described in a sentence, and its field has the
    /// default.
    pub fn parse(text: &[u8], module: Module) -> (Self, Vec<String>) {
        let mut config = Self::new(module);
        let mut problems = Problems::default();
        config.read(text, module, &mut problems);
        (config, problems.sentences())
    }

    fn read(&mut self, text: &[u8], module: Module, problems: &mut Problems) {
        if text.len() > CONFIG_BYTES_MAX {
            problems.add(format!(
                "{} bytes, at most {CONFIG_BYTES_MAX}; counting with defaults, streaming nowhere",
                text.len()
            ));
            return;
        }
        let fields = match json::parse(text) {
            Ok(Value::Object(fields)) => fields,
            Ok(other) => {
                problems.add(format!(
                    "{} instead of an object; counting with defaults, streaming nowhere",
                    other.describe()
                ));
                return;
            }
            Err(malformed) => {
                problems.add(format!(
                    "not JSON from byte {} on; counting with defaults, streaming nowhere",
                    malformed.offset
                ));
                return;
            }
        };
        if !fields.iter().any(|(name, _)| name == "role") {
            problems.add(format!(
                "`role` is missing, expected one of `filter`, `access_log`, `upstream_log`; using `{}`",
                self.role.as_str()
            ));
        }
        problems.doubled("", &fields);
        for (name, value) in fields {
            self.field(&name, &value, module, problems);
        }
        if self.by_cluster && !self.cluster.is_empty() {
            problems
                .add("`cluster` and `dimensions` exclude each other; using `dimensions`".into());
            self.cluster = String::new();
        }
    }

    fn field(&mut self, name: &str, value: &Value, module: Module, problems: &mut Problems) {
        match name {
            "role" => self.role(value, module, problems),
            "direction" => match word(value) {
                "auto" => self.direction = None,
                "inbound" => self.direction = Some(Direction::Inbound),
                "outbound" => self.direction = Some(Direction::Outbound),
                _ => problems.bad(name, value, "`auto`, `inbound` or `outbound`", "`auto`"),
            },
            "responses" => match word(value) {
                "class" => self.responses = ResponseDetail::Class,
                "code" => self.responses = ResponseDetail::Code,
                "off" => self.responses = ResponseDetail::Off,
                _ => problems.bad(name, value, "`class`, `code` or `off`", "`class`"),
            },
            "cluster" => {
                if let Some(text) = problems.text(name, value, CLUSTER_BYTES_MAX) {
                    self.cluster = text;
                }
            }
            "dimensions" => match value {
                Value::List(items) if items.is_empty() => self.by_cluster = false,
                Value::List(items) if items.iter().all(|item| word(item) == "cluster") => {
                    self.by_cluster = true;
                }
                _ => problems.bad(name, value, "a list that may hold `cluster`", "none"),
            },
            "aggregators" => self.aggregators(value, problems),
            "flush_interval_ms" => {
                if let Some(number) = problems.number(name, value, FLUSH_INTERVAL_MS, 1000) {
                    self.flush_interval_ms = number;
                }
            }
            "max_series" => {
                if let Some(number) = problems.number(name, value, (1, SERIES_MAX as u64), 64) {
                    self.max_series = usize::try_from(number).unwrap_or(64);
                }
            }
            "identity" => self.identity(value, problems),
            _ => problems.unknown(
                name,
                "`role`, `direction`, `cluster`, `dimensions`, `responses`, `aggregators`, \
                 `flush_interval_ms`, `max_series`, `identity`",
            ),
        }
    }

    fn role(&mut self, value: &Value, module: Module, problems: &mut Problems) {
        let Some(role) = Role::parse(word(value)) else {
            let fallback = format!("`{}`", self.role.as_str());
            let expected = "`filter`, `access_log` or `upstream_log`";
            problems.bad("role", value, expected, &fallback);
            return;
        };
        if !module.can_be(role) {
            problems.add(format!(
                "`role` is \"{}\", which {} cannot play; using `{}`",
                role.as_str(),
                module.file(),
                self.role.as_str()
            ));
            return;
        }
        self.role = role;
    }

    fn aggregators(&mut self, value: &Value, problems: &mut Problems) {
        let Value::List(items) = value else {
            problems.bad("aggregators", value, "a list", "none");
            return;
        };
        for (index, item) in items.iter().enumerate() {
            let path = format!("aggregators[{index}]");
            if index >= AGGREGATORS_MAX {
                problems.add(format!(
                    "`aggregators` holds {}, at most {AGGREGATORS_MAX}; using the first ones",
                    items.len()
                ));
                return;
            }
            let aggregator = aggregator(&path, item, problems);
            if let Some(aggregator) = aggregator.filter(|new| !self.aggregators.contains(new)) {
                self.aggregators.push(aggregator);
            }
        }
    }

    fn identity(&mut self, value: &Value, problems: &mut Problems) {
        let Value::Object(fields) = value else {
            problems.bad("identity", value, "an object", "none");
            return;
        };
        problems.doubled("identity.", fields);
        let identity = &mut self.identity;
        for (name, value) in fields {
            let path = format!("identity.{name}");
            let (target, bytes_max) = match name.as_str() {
                "namespace" => (&mut identity.namespace, 63),
                "pod" => (&mut identity.pod, 253),
                "uid" => (&mut identity.uid, 64),
                "node" => (&mut identity.node, 253),
                "labels" => {
                    labels(value, &mut identity.labels, problems);
                    continue;
                }
                _ => {
                    problems.unknown(&path, "`namespace`, `pod`, `uid`, `node`, `labels`");
                    continue;
                }
            };
            if let Some(text) = problems.text(&path, value, bytes_max) {
                *target = text;
            }
        }
    }
}

/// The text of a value; "" for other types, which no field accepts.
fn word(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        _ => "",
    }
}

fn aggregator(path: &str, value: &Value, problems: &mut Problems) -> Option<Aggregator> {
    let Value::Object(fields) = value else {
        problems.bad(path, value, "an object", "none");
        return None;
    };
    problems.doubled(&format!("{path}."), fields);
    let mut cluster = String::new();
    let mut authority = String::new();
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        let target = match name.as_str() {
            "cluster" => &mut cluster,
            "authority" => &mut authority,
            _ => {
                problems.unknown(&path, "`cluster`, `authority`");
                continue;
            }
        };
        if let Some(text) = problems.text(&path, value, CLUSTER_BYTES_MAX) {
            *target = text;
        }
    }
    if cluster.is_empty() {
        problems.add(format!(
            "`{path}.cluster` is missing or empty, expected the name of an Envoy cluster; \
             not streaming there"
        ));
        return None;
    }
    Some(Aggregator { cluster, authority })
}

fn labels(value: &Value, into: &mut BTreeMap<String, String>, problems: &mut Problems) {
    let Value::Object(fields) = value else {
        problems.bad("identity.labels", value, "an object", "none");
        return;
    };
    problems.doubled("identity.labels.", fields);
    let mut bytes = 0_usize;
    for (name, value) in fields {
        let path = format!("identity.labels.{}", json::excerpt(name));
        let Some(text) = problems.text(&path, value, LABEL_VALUE_BYTES_MAX) else {
            continue;
        };
        bytes = bytes.saturating_add(name.len()).saturating_add(text.len());
        if name.is_empty() || name.len() > LABEL_KEY_BYTES_MAX {
            problems.add(format!(
                "`{path}`: a key of {} bytes, expected 1 to {LABEL_KEY_BYTES_MAX}; left out",
                name.len()
            ));
        } else if into.len() >= LABELS_MAX || bytes > LABELS_BYTES_MAX {
            problems.add(format!(
                "`identity.labels` holds {} labels, at most {LABELS_MAX} of {LABELS_BYTES_MAX} bytes \
                 together; using the first ones",
                fields.len()
            ));
            return;
        } else {
            into.insert(name.clone(), text);
        }
    }
}

// === impl Problems ===

impl Problems {
    fn add(&mut self, sentence: String) {
        if self.named.len() < PROBLEMS_MAX {
            self.named.push(sentence);
        } else {
            self.omitted = self.omitted.saturating_add(1);
        }
    }

    fn bad(&mut self, field: &str, found: &Value, expected: &str, using: &str) {
        let found = found.describe();
        self.add(format!(
            "`{field}` is {found}, expected {expected}; using {using}"
        ));
    }

    fn unknown(&mut self, field: &str, expected: &str) {
        let field = json::excerpt(field);
        self.add(format!(
            "unknown field `{field}`, expected one of {expected}"
        ));
    }

    /// Reports repeated fields; the last one wins.
    fn doubled(&mut self, path: &str, fields: &[(String, Value)]) {
        for (index, (name, _)) in fields.iter().enumerate() {
            if fields
                .iter()
                .take(index)
                .any(|(earlier, _)| earlier == name)
            {
                let name = json::excerpt(name);
                self.add(format!("`{path}{name}` is given twice; using the last"));
            }
        }
    }

    fn text(&mut self, field: &str, value: &Value, bytes_max: usize) -> Option<String> {
        match value {
            Value::Text(text) if text.len() <= bytes_max => Some(text.clone()),
            Value::Text(text) => {
                self.add(format!(
                    "`{field}` has {} bytes, at most {bytes_max}; using none",
                    text.len()
                ));
                None
            }
            other => {
                self.bad(field, other, "a text", "none");
                None
            }
        }
    }

    fn number(
        &mut self,
        field: &str,
        value: &Value,
        (least, most): (u64, u64),
        default: u64,
    ) -> Option<u64> {
        match value {
            Value::Number(Some(number)) if (least..=most).contains(number) => Some(*number),
            other => {
                let expected = format!("a number from {least} to {most}");
                self.bad(field, other, &expected, &default.to_string());
                None
            }
        }
    }

    fn sentences(self) -> Vec<String> {
        let mut sentences: Vec<String> = self
            .named
            .into_iter()
            .map(|sentence| format!("plugin configuration: {sentence}"))
            .collect();
        if self.omitted > 0 {
            sentences.push(format!(
                "plugin configuration: {} more problems",
                self.omitted
            ));
        }
        sentences
    }
}

#[cfg(test)]
mod tests;
