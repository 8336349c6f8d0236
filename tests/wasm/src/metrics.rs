//! Metrics of the whole process, as Envoy keeps them behind `define_metric`.
//!
//! Each VM has ids of its own; the same name is one number in all VMs and outlives them.

use std::collections::BTreeMap;

use crate::status::Status;

/// Bits of an id that hold the kind.
const KIND_MASK: u32 = 0x3;
/// Distance of two ids of one kind.
const ID_INCREMENT: u32 = 0x4;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// All metrics of a process, by name (without Envoy's prefix `wasmcustom.`).
#[derive(Debug, Default)]
pub struct Metrics {
    values: BTreeMap<(Kind, String), u64>,
}

/// The ids that one VM was given.
#[derive(Debug, Default)]
pub(crate) struct MetricIds {
    names: BTreeMap<u32, (Kind, String)>,
    defined: u32,
}

// === impl Metrics ===

impl Metrics {
    /// Value of the metric `name`; `None` if no module ever defined it.
    pub fn value(&self, kind: Kind, name: &str) -> Option<u64> {
        self.values.get(&(kind, name.to_owned())).copied()
    }

    /// Every metric with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &str, u64)> {
        self.values
            .iter()
            .map(|((kind, name), value)| (*kind, name.as_str(), *value))
    }

    pub(crate) fn define(&mut self, ids: &mut MetricIds, kind: u32, name: &str) -> Option<u32> {
        let kind = match kind {
            0 => Kind::Counter,
            1 => Kind::Gauge,
            2 => Kind::Histogram,
            _ => return None,
        };
        ids.defined += ID_INCREMENT;
        let id = ids.defined | kind as u32;
        ids.names.insert(id, (kind, name.to_owned()));
        self.values.entry((kind, name.to_owned())).or_default();
        Some(id)
    }

    pub(crate) fn increment(&mut self, ids: &MetricIds, id: u32, offset: i64) -> Status {
        if id & KIND_MASK > 1 {
            return Status::BadArgument;
        }
        let Some(key) = ids.names.get(&id) else {
            return Status::NotFound;
        };
        if key.0 == Kind::Counter && offset <= 0 {
            return Status::BadArgument;
        }
        if let Some(value) = self.values.get_mut(key) {
            *value = value.wrapping_add_signed(offset);
        }
        Status::Ok
    }

    pub(crate) fn record(&mut self, ids: &MetricIds, id: u32, number: u64) -> Status {
        let Some(key) = ids.names.get(&id) else {
            return Status::NotFound;
        };
        if let Some(value) = self.values.get_mut(key) {
            *value = match key.0 {
                Kind::Counter => value.wrapping_add(number),
                Kind::Gauge | Kind::Histogram => number,
            };
        }
        Status::Ok
    }

    pub(crate) fn read(&self, ids: &MetricIds, id: u32) -> Result<u64, Status> {
        let key = ids.names.get(&id).ok_or(Status::NotFound)?;
        if key.0 == Kind::Histogram {
            return Err(Status::BadArgument);
        }
        Ok(self.values.get(key).copied().unwrap_or(0))
    }
}

// === impl MetricIds ===

impl MetricIds {
    /// How many ids the VM was given. Envoy keeps each until the VM ends, so this must not grow
    /// with time.
    pub(crate) fn count(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{MetricIds, Metrics};
    use crate::status::Status;

    #[test]
    fn a_name_is_one_number_in_all_vms_under_ids_of_their_own() {
        let mut metrics = Metrics::default();
        let (mut one, mut two) = (MetricIds::default(), MetricIds::default());
        metrics.define(&mut two, 1, "other").unwrap();
        let in_one = metrics.define(&mut one, 0, "requests").unwrap();
        let in_two = metrics.define(&mut two, 0, "requests").unwrap();
        assert_ne!(in_one, in_two);
        assert_eq!(metrics.increment(&one, in_one, 3), Status::Ok);
        assert_eq!(metrics.record(&two, in_two, 4), Status::Ok);
        assert_eq!(metrics.read(&two, in_two), Ok(7));
        assert_eq!(metrics.read(&one, in_two), Err(Status::NotFound));
    }

    #[test]
    fn counters_refuse_what_is_not_positive_and_gauges_fall() {
        let mut metrics = Metrics::default();
        let mut ids = MetricIds::default();
        let counter = metrics.define(&mut ids, 0, "c").unwrap();
        let gauge = metrics.define(&mut ids, 1, "g").unwrap();
        assert_eq!(metrics.increment(&ids, counter, 0), Status::BadArgument);
        assert_eq!(metrics.increment(&ids, counter, -1), Status::BadArgument);
        assert_eq!(metrics.increment(&ids, counter, 2), Status::Ok);
        assert_eq!(metrics.record(&ids, gauge, 5), Status::Ok);
        assert_eq!(metrics.increment(&ids, gauge, -2), Status::Ok);
        assert_eq!(metrics.read(&ids, counter), Ok(2));
        assert_eq!(metrics.read(&ids, gauge), Ok(3));
        assert_eq!(metrics.define(&mut ids, 3, "x"), None);
    }
}
