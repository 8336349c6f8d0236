//! Parses the file with the pods of standalone mode.

use std::collections::HashMap;
use std::path::Path;

use aggregator_api::names::{namespace_fault, pod_name_fault};
use aggregator_api::selector::{key_fault, value_fault};
use aggregator_core::limits::{LABELS_BYTES_MAX, LABELS_MAX, PODS_MAX, UID_BYTES_MAX};
use aggregator_core::pod::{Labels, Owner, PodInfo, PodKey};
use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// Bytes of the file: [`PODS_MAX`] pods with a handful of labels each.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pods: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    namespace: String,
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    owner: Option<OwnerEntry>,
}

/// The owner that people know a pod by: the Deployment, not the `ReplicaSet`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnerEntry {
    /// Such as `apps`; empty for the core group.
    #[serde(default)]
    group: String,
    kind: String,
    name: String,
}

/// Reads and checks the file at `path`.
pub fn load(path: &Path) -> Result<Vec<PodInfo>> {
    let bytes = std::fs::metadata(path).context("cannot be read")?.len();
    ensure!(
        bytes <= FILE_BYTES_MAX,
        "has {bytes} bytes, at most {FILE_BYTES_MAX} are allowed"
    );
    let text = std::fs::read_to_string(path).context("cannot be read")?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<PodInfo>> {
    let File { pods } = serde_json::from_str(text).context("is not a list of pods")?;
    ensure!(
        pods.len() <= PODS_MAX,
        "pods: {} pods, at most {PODS_MAX} are allowed",
        pods.len()
    );
    let mut seen: HashMap<PodKey, usize> = HashMap::new();
    let mut infos = Vec::with_capacity(pods.len());
    for (index, entry) in pods.into_iter().enumerate() {
        let info = check(entry).with_context(|| format!("pods[{index}]"))?;
        if let Some(first) = seen.insert(info.key.clone(), index) {
            bail!("pods[{index}]: {} is pods[{first}] already", info.key);
        }
        infos.push(info);
    }
    Ok(infos)
}

fn check(entry: Entry) -> Result<PodInfo> {
    let Entry {
        namespace,
        name,
        uid,
        labels,
        owner,
    } = entry;
    if let Some(rule) = namespace_fault(&namespace) {
        bail!("namespace: {namespace:?} is not valid: {rule}");
    }
    if let Some(rule) = pod_name_fault(&name) {
        bail!("name: {name:?} is not valid: {rule}");
    }
    ensure!(
        uid.len() <= UID_BYTES_MAX,
        "uid: {} bytes, at most {UID_BYTES_MAX} are allowed",
        uid.len()
    );
    ensure!(
        labels.len() <= LABELS_MAX,
        "labels: {}, at most {LABELS_MAX} are allowed",
        labels.len()
    );
    let bytes: usize = labels
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    ensure!(
        bytes <= LABELS_BYTES_MAX,
        "labels: {bytes} bytes, at most {LABELS_BYTES_MAX} are allowed"
    );
    for (key, value) in &labels {
        if let Some(rule) = key_fault(key) {
            bail!("labels: the key {key:?} is not valid: {rule}");
        }
        if let Some(rule) = value_fault(value) {
            bail!("labels[{key:?}]: {value:?} is not valid: {rule}");
        }
    }
    let key = PodKey::new(&namespace, &name);
    let owner = owner.map(check_owner).transpose()?;
    Ok(PodInfo {
        owner,
        ..PodInfo::new(key, uid.into(), labels)
    })
}

fn check_owner(entry: OwnerEntry) -> Result<Owner> {
    let OwnerEntry { group, kind, name } = entry;
    if let Some(rule) = pod_name_fault(&name) {
        bail!("owner.name: {name:?} is not valid: {rule}");
    }
    let is_word = |text: &str| text.len() <= 63 && text.chars().all(|c| c.is_ascii_alphanumeric());
    ensure!(
        is_word(&kind) && !kind.is_empty(),
        "owner.kind: {kind:?} is not a kind such as Deployment"
    );
    ensure!(
        is_word(&group.replace(['.', '-'], "")),
        "owner.group: {group:?} is not an API group such as apps"
    );
    Ok(Owner {
        group: group.into(),
        kind: kind.into(),
        name: name.into(),
        uid: "".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documented form, with and without what may be left out.
    #[test]
    fn reads_pods() {
        let text = r#"{"pods":[{"namespace":"prod","name":"jazz-v1","uid":"u1","labels":{"app":"jazz"}},
                               {"namespace":"prod","name":"dj","owner":{"group":"apps","kind":"Deployment","name":"dj"}}]}"#;
        let pods = parse(text).unwrap();
        assert_eq!(pods[0].key, PodKey::new("prod", "jazz-v1"));
        assert_eq!(pods[0].labels["app"], "jazz");
        assert_eq!((&*pods[1].uid, pods[1].labels.len()), ("", 0));
        let owner = pods[1].owner.as_ref().unwrap();
        assert_eq!(
            (&*owner.group, &*owner.kind, &*owner.name),
            ("apps", "Deployment", "dj")
        );
        assert_eq!(pods[0].owner, None);
    }

    /// Each mistake is named with its place.
    #[test]
    fn refuses_by_name_and_place() {
        let long = "u".repeat(UID_BYTES_MAX + 1);
        for (text, expected) in [
            (
                r#"{"pods":[{"namespace":"a","name":"b","label":{}}]}"#.to_owned(),
                "unknown field `label`",
            ),
            (
                "{\"pods\":[\n{\"name\":\"b\"}]}".to_owned(),
                "missing field `namespace` at line 2",
            ),
            ("{".to_owned(), "line 1 column 1"),
            (
                r#"{"pods":[{"namespace":"a","name":"b"},{"namespace":"A","name":"b"}]}"#
                    .to_owned(),
                "pods[1]: namespace: \"A\"",
            ),
            (
                r#"{"pods":[{"namespace":"a","name":"b_c"}]}"#.to_owned(),
                "pods[0]: name: \"b_c\"",
            ),
            (
                r#"{"pods":[{"namespace":"a","name":"b"},{"namespace":"a","name":"b"}]}"#
                    .to_owned(),
                "pods[1]: a/b is pods[0] already",
            ),
            (
                r#"{"pods":[{"namespace":"a","name":"b","labels":{"-k":"v"}}]}"#.to_owned(),
                "pods[0]: labels: the key \"-k\"",
            ),
            (
                r#"{"pods":[{"namespace":"a","name":"b","labels":{"k":"v w"}}]}"#.to_owned(),
                "pods[0]: labels[\"k\"]: \"v w\"",
            ),
            (
                format!(r#"{{"pods":[{{"namespace":"a","name":"b","uid":"{long}"}}]}}"#),
                "pods[0]: uid: 65 bytes",
            ),
        ] {
            let error = format!("{:#}", parse(&text).err().unwrap());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
