//! Annotations of pods: ours, and those by which App Mesh's controller configures the sidecar that
//! it adds (environment and mounts, to which entries are appended).

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

/// Label or annotation of a pod: `disabled` prevents injection.
pub const INJECT: &str = "meshmeter.io/inject";
/// Annotation of a pod: the name of its virtual node.
pub const VIRTUAL_NODE: &str = "meshmeter.io/virtual-node";
/// Annotation of a pod: the mesh of its virtual node.
pub const MESH: &str = "meshmeter.io/mesh";
/// App Mesh: whether its controller adds a sidecar.
pub(crate) const CONTROLLER: &str = "appmesh.k8s.aws/sidecarInjectorWebhook";
/// `K=V, K2=V2`
pub const ENV: &str = "appmesh.k8s.aws/sidecarEnv";
/// `[{"K": "V"}]`; with it the controller ignores [`ENV`].
pub const ENV_JSON: &str = "appmesh.k8s.aws/sidecarEnvJson";
/// `volume:/path, volume2:/path2`
pub const MOUNTS: &str = "appmesh.k8s.aws/volumeMounts";
/// `secret:/path, secret2:/path2`
pub const SECRETS: &str = "appmesh.k8s.aws/secretMounts";

#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AnnotationError {
    #[error("{annotation} sets {name} to {value:?} already")]
    Taken {
        annotation: &'static str,
        name: String,
        value: String,
    },
    /// App Mesh's controller could not parse it either.
    #[error("{0} is malformed: {1:?}")]
    Malformed(&'static str, String),
}

pub(crate) type Annotations = Map<String, Value>;

/// Variables for the sidecar.
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
    separator: char,
) -> Result<Vec<(String, String)>, AnnotationError> {
    let pairs = text(annotations, name).split(',').map(str::trim);
    let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once(separator)?;
        Some((key.trim().to_owned(), value.trim().to_owned()))
    });
    let all: Option<_> = pairs.collect();
    all.ok_or_else(|| AnnotationError::Malformed(name, text(annotations, name).to_owned()))
}

/// The comma-separated list in `name`, of at most `max` items that `is` accepts; `None` without the
/// annotation. An empty annotation is an empty list, as for App Mesh's controller.
pub(crate) fn listed(
    annotations: &Annotations,
    name: &'static str,
    max: usize,
    is: fn(&str) -> bool,
) -> Result<Option<String>, AnnotationError> {
    let Some(text) = annotations.get(name).and_then(Value::as_str) else {
        return Ok(None);
    };
    let items = text.split(',').map(str::trim);
    let items: Vec<_> = items.filter(|item| !item.is_empty()).collect();
    // iptables' multiport match counts a range of ports as two.
    let count: usize = items
        .iter()
        .map(|item| item.split(':').count().min(2))
        .sum();
    if count <= max && items.iter().all(|item| is(item)) {
        Ok(Some(items.join(",")))
    } else {
        Err(AnnotationError::Malformed(name, text.to_owned()))
    }
}

fn text<'a>(annotations: &'a Annotations, name: &str) -> &'a str {
    annotations
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Adds a variable. Idempotent; fails if it has another value.
pub fn add_env(
    annotations: &mut Annotations,
    name: &str,
    value: &str,
) -> Result<(), AnnotationError> {
    if annotations.contains_key(ENV_JSON) {
        return add_env_json(annotations, name, value);
    }
    let existing = text(annotations, ENV).to_owned();
    for pair in existing
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let malformed = || AnnotationError::Malformed(ENV, pair.to_owned());
        let (key, current) = pair.split_once('=').ok_or_else(malformed)?;
        if key.trim() == name {
            return unless_equal(ENV, name, current.trim(), value);
        }
    }
    let merged = joined(&existing, &format!("{name}={value}"));
    annotations.insert(ENV.to_owned(), merged.into());
    Ok(())
}

fn add_env_json(
    annotations: &mut Annotations,
    name: &str,
    value: &str,
) -> Result<(), AnnotationError> {
    let existing = text(annotations, ENV_JSON);
    let malformed = |_| AnnotationError::Malformed(ENV_JSON, existing.to_owned());
    let mut maps: Vec<Map<String, Value>> = serde_json::from_str(existing).map_err(malformed)?;
    if let Some(current) = maps.iter().find_map(|map| map.get(name)) {
        return unless_equal(ENV_JSON, name, current.as_str().unwrap_or_default(), value);
    }
    maps.push(Map::from_iter([(name.to_owned(), value.into())]));
    let merged = Value::from(maps.into_iter().map(Value::from).collect::<Vec<_>>());
    annotations.insert(ENV_JSON.to_owned(), merged.to_string().into());
    Ok(())
}

fn unless_equal(
    annotation: &'static str,
    name: &str,
    current: &str,
    value: &str,
) -> Result<(), AnnotationError> {
    if current == value {
        return Ok(());
    }
    Err(AnnotationError::Taken {
        annotation,
        name: name.to_owned(),
        value: current.to_owned(),
    })
}

/// Adds a mount of `volume` at `path`. Idempotent; fails if another volume is mounted there.
pub fn add_mount(
    annotations: &mut Annotations,
    volume: &str,
    path: &str,
) -> Result<(), AnnotationError> {
    for name in [MOUNTS, SECRETS] {
        let mounts = mounts(annotations, name)?;
        if let Some((other, _)) = mounts.iter().find(|(_, mounted)| mounted == path) {
            return unless_equal(name, path, other, volume);
        }
    }
    let merged = joined(text(annotations, MOUNTS), &format!("{volume}:{path}"));
    annotations.insert(MOUNTS.to_owned(), merged.into());
    Ok(())
}

pub(crate) fn add_default(annotations: &mut Annotations, name: &str, value: &str) {
    if !annotations.contains_key(name) {
        annotations.insert(name.to_owned(), value.into());
    }
}

fn joined(existing: &str, added: &str) -> String {
    let existing = existing.trim().trim_end_matches(',');
    if existing.is_empty() {
        added.to_owned()
    } else {
        format!("{existing}, {added}")
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
    fn other_values_are_not_overwritten() {
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
