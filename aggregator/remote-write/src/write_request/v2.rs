//! Messages of Remote-Write 2.0 (`io.prometheus.write.v2`), reduced to the fields we write: label
//! names and values in a table of symbols, and each series with its metric type.

use std::collections::HashMap;

use prost::{Enumeration, Message};

use super::{Sample, WriteRequest};
use crate::names::is_gauge;

#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Strings referred to by index. The first is "".
    #[prost(string, repeated, tag = "4")]
    pub symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Symbol indexes of each label's name and value, sorted by name.
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    /// Ascending by time. Without start timestamps: a 0 precedes a counter that began.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<Metadata>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Metadata {
    #[prost(enumeration = "MetricType", tag = "1")]
    pub r#type: i32,
    /// Symbol index of the help text.
    #[prost(uint32, tag = "3")]
    pub help_ref: u32,
}

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
    indexes: HashMap<String, u32>,
}

// === impl Symbols ===

impl Symbols {
    fn new() -> Self {
        let indexes = HashMap::from([(String::new(), 0)]);
        let table = vec![String::new()];
        Self { table, indexes }
    }

    fn index(&mut self, text: String) -> u32 {
        let next = u32::try_from(self.table.len()).unwrap_or(u32::MAX);
        *self.indexes.entry(text).or_insert_with_key(|text| {
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
