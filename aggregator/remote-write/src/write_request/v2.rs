//! The messages of Remote-Write 2.0 (`io.prometheus.write.v2`), as far as they are written: names
//! and values of labels once in a table of symbols, and each series with the type of its metric.

use std::collections::HashMap;

use prost::{Enumeration, Message};

use super::{Sample, WriteRequest};
use crate::names::is_gauge;

#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// The strings that the others refer to by index. The first is "".
    #[prost(string, repeated, tag = "4")]
    pub symbols: Vec<String>,
    /// The series, each with its samples.
    #[prost(message, repeated, tag = "5")]
    pub timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Name and value of each label, by their index among the symbols; sorted by name.
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    /// In the order of time. Without start timestamps: a counter that began has a 0 before it.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// What is known of the metric.
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<Metadata>,
}

/// What is known of a metric.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Metadata {
    #[prost(enumeration = "MetricType", tag = "1")]
    pub r#type: i32,
    /// What it means, by its index among the symbols.
    #[prost(uint32, tag = "3")]
    pub help_ref: u32,
}

/// The types of metrics that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum MetricType {
    Unspecified = 0,
    Counter = 1,
    Gauge = 2,
}

#[derive(Debug)]
struct Symbols {
    table: Vec<String>,
    known: HashMap<String, u32>,
}

// === impl Symbols ===

impl Symbols {
    fn new() -> Self {
        let known = HashMap::from([(String::new(), 0)]);
        let table = vec![String::new()];
        Self { table, known }
    }

    fn index(&mut self, text: String) -> u32 {
        let next = u32::try_from(self.table.len()).unwrap_or(u32::MAX);
        *self.known.entry(text).or_insert_with_key(|text| {
            self.table.push(text.clone());
            next
        })
    }
}

// === impl Request ===

impl From<WriteRequest> for Request {
    fn from(request: WriteRequest) -> Self {
        let mut symbols = Symbols::new();
        let mut timeseries = Vec::with_capacity(request.timeseries.len());
        for series in request.timeseries {
            let name = series.labels.iter().find(|label| label.name == "__name__");
            let name = name.map_or("", |label| label.value.as_str());
            let (r#type, help) = if is_gauge(name) {
                (
                    MetricType::Gauge,
                    "A value of this moment, of Envoy sidecars",
                )
            } else {
                (MetricType::Counter, "A running total of Envoy sidecars")
            };
            let help_ref = symbols.index(help.to_owned());
            let labels = series.labels.into_iter();
            let labels = labels.flat_map(|label| [label.name, label.value]);
            let labels_refs = labels.map(|text| symbols.index(text)).collect();
            let r#type = r#type.into();
            timeseries.push(TimeSeries {
                labels_refs,
                samples: series.samples,
                metadata: Some(Metadata { r#type, help_ref }),
            });
        }
        let symbols = symbols.table;
        Self {
            symbols,
            timeseries,
        }
    }
}
