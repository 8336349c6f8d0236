//! Null is absent, wherever it stands, and everything else is read as serde reads it.

use std::collections::BTreeMap;

use common_json::{drop_nulls, from_slice, from_str};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

/// One field of every sort that objects of Kubernetes have.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    name: String,
    count: u16,
    offset: i64,
    share: f64,
    wanted: bool,
    maybe: Option<String>,
    labels: BTreeMap<String, String>,
    names: Vec<String>,
    bytes: Newtype,
    within: Vec<Part>,
    part: Part,
    boxed: Option<Box<Object>>,
    free: Value,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
struct Newtype(Vec<u8>);

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Part {
    labels: BTreeMap<String, String>,
    names: Vec<String>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
enum Kind {
    #[default]
    One,
    Two,
}

/// Go reads each of them as if the member were not there.
#[test]
fn null_is_the_zero_value() {
    let all = r#"{"name":null,"count":null,"offset":null,"share":null,"wanted":null,"maybe":null,"labels":null,
        "names":null,"bytes":null,"within":null,"part":null,"boxed":null,"free":null,"unknown":null}"#;
    assert_eq!(from_str::<Object>(all).unwrap(), Object::default());
    assert_eq!(from_str::<Object>("null").unwrap(), Object::default());
    let deep = r#"{"within":[null,{"labels":null,"names":["a",null]}],"boxed":{"labels":{"a":null},"names":null}}"#;
    let object: Object = from_slice(deep.as_bytes()).unwrap();
    assert_eq!(object.within[0], Part::default());
    assert_eq!(object.within[1].names, ["a", ""]);
    assert_eq!(object.boxed.unwrap().labels["a"], "");
}

/// What is wrong stays wrong, and is named.
#[test]
fn what_is_malformed_is_refused() {
    for (text, told) in [
        (r#"{"count":-1}"#, "expected u16"),
        (r#"{"labels":[]}"#, "expected a map"),
        (r#"{"names":"a"}"#, "expected a sequence"),
        (r#"{"part":{"kind":"Three"}}"#, "unknown variant"),
        (r#"{"name":nul}"#, "expected ident"),
        (r#"{"name":"#, "EOF"),
    ] {
        let error = from_str::<Object>(text).unwrap_err().to_string();
        assert!(error.contains(told), "{text}: {error}");
    }
}

/// Items stay where they are.
#[test]
fn nulls_are_dropped_from_objects_alone() {
    let mut value = json!({"a": null, "b": [null, {"c": null, "d": 1}], "e": {"f": null}});
    drop_nulls(&mut value);
    assert_eq!(value, json!({"b": [null, {"d": 1}], "e": {}}));
}

/// `value`, or null.
fn or_null(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop_oneof![value, Just(Value::Null)]
}

fn part() -> impl Strategy<Value = Value> {
    let labels = or_null("[a-z]{0,3}".prop_map(|value| json!({"a": value})));
    let names = or_null("[a-z]{0,3}".prop_map(|name| json!([name])));
    (labels, names).prop_map(|(labels, names)| json!({"labels": labels, "names": names}))
}

fn flat() -> impl Strategy<Value = Value> {
    let scalars = (
        or_null("[a-z\"\\\\é]{0,5}".prop_map(Value::from)),
        or_null(any::<u16>().prop_map(Value::from)),
        or_null(any::<i64>().prop_map(Value::from)),
        or_null(any::<bool>().prop_map(Value::from)),
        or_null("[a-z]{0,5}".prop_map(Value::from)),
    );
    let parts = (
        or_null(part()),
        or_null(prop::collection::vec(part(), 0..3).prop_map(Value::from)),
        or_null(prop::collection::vec(any::<u8>(), 0..3).prop_map(Value::from)),
    );
    (scalars, parts).prop_map(
        |((name, count, offset, wanted, maybe), (part, within, bytes))| {
            json!({"name": name, "count": count, "offset": offset, "wanted": wanted, "maybe": maybe,
                   "part": part, "within": within, "bytes": bytes})
        },
    )
}

fn object() -> impl Strategy<Value = Value> {
    (flat(), or_null(flat())).prop_map(|(mut object, boxed)| {
        object["boxed"] = boxed;
        object
    })
}

proptest! {
    /// The same comes of an object with nulls and of the object without those members.
    #[test]
    fn null_is_absent(object in object()) {
        let mut without = object.clone();
        drop_nulls(&mut without);
        let strict: Object = serde_json::from_value(without).unwrap();
        prop_assert_eq!(from_str::<Object>(&object.to_string()).unwrap(), strict);
    }
}
