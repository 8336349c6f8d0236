//! Reads JSON as Kubernetes writes it: null means absent.
//!
//! Go writes an empty list or map as `null` wherever a field is not `omitempty`, and reads `null`
//! as the zero value of the field's type. Serde accepts `null` only for an `Option`. [`from_str`]
//! and [`Tolerant`] read as Go does, so that no type has to handle it field by field. Objects are
//! read in one pass, without buffering.
//!
//! - `null` for a list, a map or a struct is an empty one (a struct then needs `#[serde(default)]`
//!   on its required fields);
//! - `null` for a string, a number or a bool is `""`, 0 or `false`;
//! - `null` for an `Option` is `None`;
//! - a [`Value`] is left as it is: [`drop_nulls`] cleans it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

mod tolerant;

/// A `T` read as Go does, for APIs that take only a type.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tolerant<T>(pub T);

/// Reads a `T` from text as Go does.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).map(|Tolerant(value)| value)
}

/// Reads a `T` from bytes as Go does.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes).map(|Tolerant(value)| value)
}

/// Removes members that are null, recursively. Null items of lists stay, since the others are
/// addressed by index.
pub fn drop_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        _ => {}
    }
}

// === impl Tolerant ===

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tolerant<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(tolerant::Reader(deserializer)).map(Self)
    }
}
