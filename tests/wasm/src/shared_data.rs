//! Shared data: key and value pairs per `vm_id`, the same for all threads of the process.

use std::collections::BTreeMap;

use crate::status::Status;

/// A value and the number that changes whenever the value is set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Versioned {
    /// The bytes as they were set.
    pub(crate) value: Vec<u8>,
    /// Never 0; a `set` that names another number than this one is refused.
    pub(crate) cas: u32,
}

/// All shared data of a process.
#[derive(Debug, Default)]
pub(crate) struct SharedData {
    values: BTreeMap<String, BTreeMap<String, Versioned>>,
    last_cas: u32,
}

// === impl SharedData ===

impl SharedData {
    /// The value of `key` among the VMs of `vm_id`.
    pub(crate) fn get(&self, vm_id: &str, key: &str) -> Option<&Versioned> {
        self.values.get(vm_id)?.get(key)
    }

    /// Sets `key`. With `cas` 0, or for a key that does not exist yet, whatever it held.
    pub(crate) fn set(&mut self, vm_id: &str, key: &str, value: Vec<u8>, cas: u32) -> Status {
        let mismatch = |held: &Versioned| cas != 0 && held.cas != cas;
        if self.get(vm_id, key).is_some_and(mismatch) {
            return Status::CasMismatch;
        }
        self.last_cas = self.last_cas.checked_add(1).unwrap_or(1);
        let versioned = Versioned {
            value,
            cas: self.last_cas,
        };
        let of_vm = self.values.entry(vm_id.to_owned()).or_default();
        of_vm.insert(key.to_owned(), versioned);
        Status::Ok
    }

    /// Another thread wrote the same value a moment ago: the value stands, its number moves on.
    pub(crate) fn touch(&mut self, vm_id: &str, key: &str) {
        if let Some(value) = self.get(vm_id, key).map(|held| held.value.clone()) {
            self.set(vm_id, key, value, 0);
        }
    }

    /// The last VM of `vm_id` ended.
    pub(crate) fn forget(&mut self, vm_id: &str) {
        self.values.remove(vm_id);
    }
}

#[cfg(test)]
mod tests {
    use super::SharedData;
    use crate::status::Status;

    #[test]
    fn a_set_needs_the_number_that_was_read_unless_it_names_none() {
        let mut data = SharedData::default();
        assert_eq!(data.set("vm", "key", vec![1], 77), Status::Ok, "a new key");
        let first = data.get("vm", "key").unwrap().cas;
        assert_ne!(first, 0);
        assert_eq!(data.set("vm", "key", vec![2], first), Status::Ok);
        assert_eq!(data.set("vm", "key", vec![3], first), Status::CasMismatch);
        assert_eq!(data.get("vm", "key").unwrap().value, [2]);
        assert_eq!(data.set("vm", "key", vec![4], 0), Status::Ok);
        assert_eq!(data.get("vm", "key").unwrap().value, [4]);
        assert_eq!(data.get("other", "key"), None);
    }
}
