//! Annotations that are read: ours, and those of App Mesh for the sidecar that its controller adds
//! (environment and mounts, merged with what is there).

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

/// Label or annotation of a pod: `disabled` leaves it as it is.
pub const INJECT: &str = "meshmeter.io/inject";
/// Annotation of a pod: the name of its virtual node.
pub const VIRTUAL_NODE: &str = "meshmeter.io/virtual-node";
/// Annotation of a pod: the mesh of that node.
pub const MESH: &str = "meshmeter.io/mesh";
/// Annotation of App Mesh: whether its controller adds a sidecar.
pub(crate) const CONTROLLER: &str = "appmesh.k8s.aws/sidecarInjectorWebhook";
/// `K=V, K2=V2`
pub const ENV: &str = "appmesh.k8s.aws/sidecarEnv";
/// `[{"K": "V"}]`; with it the controller does not look at [`ENV`].
pub const ENV_JSON: &str = "appmesh.k8s.aws/sidecarEnvJson";
/// `volume:/path, volume2:/path2`
pub const MOUNTS: &str = "appmesh.k8s.aws/volumeMounts";
/// `secret:/path, secret2:/path2`
pub const SECRETS: &str = "appmesh.k8s.aws/secretMounts";

/// An annotation that cannot be added to.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AnnotationError {
    /// The variable is there with another value.
    #[error("{annotation} sets {name} to {value:?} already")]
    Taken {
        annotation: &'static str,
        name: String,
        value: String,
    },
    /// The controller would not read it either.
    #[error("{0} is malformed: {1:?}")]
    Malformed(&'static str, String),
}

pub(crate) type Annotations = Map<String, Value>;

/// Variables that the sidecar is to have.
pub(crate) fn env(annotations: &Annotations) -> Result<Vec<(String, String)>, AnnotationError> {
    let Some(json) = annotations.get(ENV_JSON).and_then(Value::as_str) else {
        return pairs(annotations, ENV, '=');
    };
    let malformed = |_| AnnotationError::Malformed(ENV_JSON, json.to_owned());
    let maps: Vec<BTreeMap<String, String>> = serde_json::from_str(json).map_err(malformed)?;
    Ok(maps.into_iter().flatten().collect())
}

/// Name and path of each mount of [`MOUNTS`] or [`SECRETS`].
pub(crate) fn mounts(
    annotations: &Annotations,
    name: &'static str,
) -> Result<Vec<(String, String)>, AnnotationError> {
    pairs(annotations, name, ':')
}

fn pairs(
    annotations: &Annotations,
    name: &'static str,
    between: char,
) -> Result<Vec<(String, String)>, AnnotationError> {
    let pairs = text(annotations, name).split(',').map(str::trim);
    let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once(between)?;
        Some((key.trim().to_owned(), value.trim().to_owned()))
    });
    let all: Option<_> = pairs.collect();
    all.ok_or_else(|| AnnotationError::Malformed(name, text(annotations, name).to_owned()))
}

/// The items of the list in `name`, each of the form that `is` knows, at most `max`; `None` where
/// the annotation is not there. What is empty is an empty list, as it was for App Mesh's
/// controller.
pub(crate) fn listed(
    annotations: &Annotations,
    name: &'static str,
    max: usize,
    is: fn(&str) -> bool,
) -> Result<Option<String>, AnnotationError> {
    let Some(held) = annotations.get(name).and_then(Value::as_str) else {
        return Ok(None);
    };
    let items = held.split(',').map(str::trim);
    let items: Vec<_> = items.filter(|item| !item.is_empty()).collect();
    // A range takes the place of two.
    let places: usize = items
        .iter()
        .map(|item| item.split(':').count().min(2))
        .sum();
    if places <= max && items.iter().all(|item| is(item)) {
        Ok(Some(items.join(",")))
    } else {
        Err(AnnotationError::Malformed(name, held.to_owned()))
    }
}

fn text<'a>(annotations: &'a Annotations, name: &str) -> &'a str {
    annotations
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Adds the variable `name`; where it is there with this value nothing changes.
pub fn add_env(
    annotations: &mut Annotations,
    name: &str,
    value: &str,
) -> Result<(), AnnotationError> {
    if annotations.contains_key(ENV_JSON) {
        return add_env_json(annotations, name, value);
    }
    let held = text(annotations, ENV).to_owned();
    for pair in held
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let malformed = || AnnotationError::Malformed(ENV, pair.to_owned());
        let (key, there) = pair.split_once('=').ok_or_else(malformed)?;
        if key.trim() == name {
            return taken(ENV, name, there.trim(), value);
        }
    }
    let merged = joined(&held, &format!("{name}={value}"));
    annotations.insert(ENV.to_owned(), merged.into());
    Ok(())
}

fn add_env_json(
    annotations: &mut Annotations,
    name: &str,
    value: &str,
) -> Result<(), AnnotationError> {
    let held = text(annotations, ENV_JSON);
    let malformed = |_| AnnotationError::Malformed(ENV_JSON, held.to_owned());
    let mut maps: Vec<Map<String, Value>> = serde_json::from_str(held).map_err(malformed)?;
    if let Some(there) = maps.iter().find_map(|map| map.get(name)) {
        return taken(ENV_JSON, name, there.as_str().unwrap_or_default(), value);
    }
    maps.push(Map::from_iter([(name.to_owned(), value.into())]));
    let merged = Value::from(maps.into_iter().map(Value::from).collect::<Vec<_>>());
    annotations.insert(ENV_JSON.to_owned(), merged.to_string().into());
    Ok(())
}

fn taken(
    annotation: &'static str,
    name: &str,
    there: &str,
    value: &str,
) -> Result<(), AnnotationError> {
    if there == value {
        return Ok(());
    }
    Err(AnnotationError::Taken {
        annotation,
        name: name.to_owned(),
        value: there.to_owned(),
    })
}

/// Adds a mount of `volume` at `path`; where it is there nothing changes.
pub fn add_mount(
    annotations: &mut Annotations,
    volume: &str,
    path: &str,
) -> Result<(), AnnotationError> {
    for name in [MOUNTS, SECRETS] {
        let there = mounts(annotations, name)?;
        if let Some((other, _)) = there.iter().find(|(_, there)| there == path) {
            return taken(name, path, other, volume);
        }
    }
    let merged = joined(text(annotations, MOUNTS), &format!("{volume}:{path}"));
    annotations.insert(MOUNTS.to_owned(), merged.into());
    Ok(())
}

/// Sets `name` where it is not there.
pub(crate) fn add_default(annotations: &mut Annotations, name: &str, value: &str) {
    if !annotations.contains_key(name) {
        annotations.insert(name.to_owned(), value.into());
    }
}

fn joined(held: &str, further: &str) -> String {
    let held = held.trim().trim_end_matches(',');
    if held.is_empty() {
        further.to_owned()
    } else {
        format!("{held}, {further}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{AnnotationError, ENV, ENV_JSON, add_env, add_mount};

    fn map(value: &Value) -> super::Annotations {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn variables_are_merged() {
        for (before, after) in [
            (json!({}), json!({ENV: "A=1"})),
            (json!({ENV: "B=2"}), json!({ENV: "B=2, A=1"})),
            (json!({ENV: "B=2,"}), json!({ENV: "B=2, A=1"})),
            (json!({ENV: " A=1 ,B=2"}), json!({ENV: " A=1 ,B=2"})),
            // With the JSON form the other one is not read.
            (
                json!({ENV: "B=2", ENV_JSON: "[{\"C\":\"3\"}]"}),
                json!({ENV: "B=2", ENV_JSON: "[{\"C\":\"3\"},{\"A\":\"1\"}]"}),
            ),
        ] {
            let mut annotations = map(&before);
            add_env(&mut annotations, "A", "1").unwrap();
            assert_eq!(Value::from(annotations.clone()), after);
            add_env(&mut annotations, "A", "1").unwrap();
            assert_eq!(Value::from(annotations), after, "twice is once");
        }
    }

    #[test]
    fn what_is_somebody_elses_is_left_alone() {
        for before in [json!({ENV: "A=2"}), json!({ENV_JSON: "[{\"A\":\"2\"}]"})] {
            let mut annotations = map(&before);
            let error = add_env(&mut annotations, "A", "1").unwrap_err();
            assert!(matches!(error, AnnotationError::Taken { .. }), "{error}");
            assert_eq!(Value::from(annotations), before);
        }
        for before in [json!({ENV: "A"}), json!({ENV_JSON: "A=1"})] {
            let error = add_env(&mut map(&before), "B", "1").unwrap_err();
            assert!(matches!(error, AnnotationError::Malformed(..)), "{error}");
        }
    }

    #[test]
    fn mounts_are_merged() {
        let mut annotations = map(&json!({super::MOUNTS: "theirs:/x"}));
        add_mount(&mut annotations, "ours", "/y").unwrap();
        add_mount(&mut annotations, "ours", "/y").unwrap();
        assert_eq!(annotations[super::MOUNTS], "theirs:/x, ours:/y");
        let error = add_mount(&mut annotations, "ours", "/x").unwrap_err();
        assert!(matches!(error, AnnotationError::Taken { .. }), "{error}");
    }
}
