//! The file with the autoscalers of standalone mode, and its changes.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aggregator_api::names::{namespace_fault, pod_name_fault};
use aggregator_core::limits::{AUTOSCALERS_BYTES_MAX, AUTOSCALERS_MAX};
use aggregator_directory::{AutoscalerInfo, Directory};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Bytes of the file.
const FILE_BYTES_MAX: u64 = AUTOSCALERS_BYTES_MAX as u64;

/// Values in the file: about 100 for each autoscaler.
const NODES_MAX: usize = 100 * AUTOSCALERS_MAX;

/// Values that aliases of YAML may repeat.
const REPEATED_MAX: usize = 10_000;

/// How often to look whether the file has changed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A file with autoscalers.
#[derive(Clone, Debug)]
pub struct AutoscalersFile {
    path: PathBuf,
    autoscalers: Vec<AutoscalerInfo>,
    stamp: Option<Stamp>,
}

/// What changes when the file does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

// === impl AutoscalersFile ===

impl AutoscalersFile {
    /// Reads and checks the file at `path`: one or more JSON or YAML documents, each an
    /// autoscaler, a list of them, or an object whose `items` they are.
    pub fn load(path: &Path) -> Result<Self> {
        // Before the content: a change in between is then seen as one.
        let stamp = Stamp::of(path);
        let bytes = stamp.map_or(0, |stamp| stamp.bytes);
        ensure!(
            bytes <= FILE_BYTES_MAX,
            "has {bytes} bytes, at most {FILE_BYTES_MAX} are allowed"
        );
        let text = fs::read_to_string(path).context("cannot be read")?;
        Ok(Self {
            path: path.to_owned(),
            autoscalers: parse(&text)?,
            stamp,
        })
    }

    /// Puts the autoscalers into `directory`, and removes all others.
    pub(crate) fn fill(&self, directory: &Directory) -> Result<()> {
        let mut listed = HashSet::new();
        for info in &self.autoscalers {
            directory.upsert_autoscaler(info.clone())?;
            listed.insert((&info.namespace, &info.name));
        }
        for known in directory.autoscalers() {
            if !listed.contains(&(&known.namespace, &known.name)) {
                directory.remove_autoscaler(&known.namespace, &known.name);
            }
        }
        Ok(())
    }

    /// Reads the file again when it has changed, until `stop`. A file that cannot be read leaves
    /// `directory` as it is.
    pub(crate) async fn follow(mut self, directory: Arc<Directory>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let stamp = Stamp::of(&self.path);
            if stamp == self.stamp {
                continue;
            }
            self.stamp = stamp;
            let loaded = Self::load(&self.path).and_then(|loaded| loaded.fill(&directory));
            if let Err(error) = loaded {
                tracing::warn!(
                    file = %self.path.display(),
                    error = format!("{error:#}"),
                    "autoscalers file cannot be used; keeping what it said before"
                );
            }
        }
    }
}

// === impl Stamp ===

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            bytes: metadata.len(),
        })
    }
}

fn parse(text: &str) -> Result<Vec<AutoscalerInfo>> {
    let mut options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: AUTOSCALERS_MAX,
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
        },
    };
    options.alias_limits.max_total_replayed_events = REPEATED_MAX;
    let documents = serde_saphyr::from_multiple_with_options::<Value>(text, options);
    let documents = documents
        .map_err(|error| anyhow::anyhow!(error.to_string()))
        .context("is neither JSON nor YAML")?;
    let mut objects = Vec::new();
    for document in documents {
        match document {
            Value::Null => {}
            Value::Array(items) => objects.extend(items),
            Value::Object(mut list) if list.contains_key("items") => match list.remove("items") {
                Some(Value::Array(items)) => objects.extend(items),
                _ => bail!("items is not a list of autoscalers"),
            },
            object => objects.push(object),
        }
    }
    let count = objects.len();
    ensure!(
        count <= AUTOSCALERS_MAX,
        "{count} autoscalers, at most {AUTOSCALERS_MAX} are allowed"
    );
    let mut seen = HashSet::new();
    let mut infos = Vec::with_capacity(count);
    for (index, object) in objects.iter().enumerate() {
        let info = check(object).with_context(|| format!("autoscaler {index}"))?;
        let key = (info.namespace.to_string(), info.name.to_string());
        ensure!(
            seen.insert(key),
            "autoscaler {index}: {}/{} is there already",
            info.namespace,
            info.name
        );
        infos.push(info);
    }
    Ok(infos)
}

fn check(object: &Value) -> Result<AutoscalerInfo> {
    for (field, wanted) in [
        ("kind", "HorizontalPodAutoscaler"),
        ("apiVersion", "autoscaling/v2"),
    ] {
        let given = object[field].as_str().unwrap_or_default();
        ensure!(given == wanted, "{field}: {given:?} is not {wanted}");
    }
    let info = aggregator_directory::read_autoscaler(object)?;
    let (namespace, name) = (&info.namespace, &info.name);
    if let Some(rule) = namespace_fault(namespace) {
        bail!("metadata.namespace: {namespace:?} is not valid: {rule}");
    }
    if let Some(rule) = pod_name_fault(name) {
        bail!("metadata.name: {name:?} is not valid: {rule}");
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JAZZ: &str = "kind: HorizontalPodAutoscaler\napiVersion: autoscaling/v2\n\
        metadata: {namespace: prod, name: jazz}\n\
        spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: jazz-v1}, maxReplicas: 5}\n";

    fn json(name: &str) -> String {
        let jazz: Value = serde_saphyr::from_str(JAZZ).unwrap();
        jazz.to_string().replace("\"jazz\"", &format!("\"{name}\""))
    }

    /// All documented forms.
    #[test]
    fn reads_every_form() {
        for (text, names) in [
            (JAZZ.to_owned(), vec!["jazz"]),
            (format!("[{}, {}]", json("a"), json("b")), vec!["a", "b"]),
            (format!("{{\"items\": [{}]}}", json("a")), vec!["a"]),
            (format!("{JAZZ}---\n{}\n", json("b")), vec!["jazz", "b"]),
            (String::new(), vec![]),
        ] {
            let infos = parse(&text).unwrap();
            let found: Vec<_> = infos.iter().map(|info| info.name.to_string()).collect();
            assert_eq!(found, names, "{text}");
        }
    }

    /// Each mistake is named with its place.
    #[test]
    fn refuses_by_place() {
        for (text, expected) in [
            ("[".to_owned(), "is neither JSON nor YAML"),
            ("{\"items\": 1}".to_owned(), "items is not a list"),
            (
                "[{}]".to_owned(),
                "autoscaler 0: kind: \"\" is not HorizontalPodAutoscaler",
            ),
            (
                JAZZ.replace("autoscaling/v2", "autoscaling/v1"),
                "apiVersion: \"autoscaling/v1\"",
            ),
            (json("A"), "autoscaler 0: metadata.name: \"A\""),
            (
                format!("[{}, {}]", json("a"), json("a")),
                "autoscaler 1: prod/a is there already",
            ),
        ] {
            let error = format!("{:#}", parse(&text).err().unwrap());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    /// A change is taken up, and a file that is broken for a while loses nothing.
    #[tokio::test]
    async fn follows_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("autoscalers.yaml");
        fs::write(&path, JAZZ).unwrap();
        let directory = Arc::new(Directory::default());
        let file = AutoscalersFile::load(&path).unwrap();
        file.fill(&directory).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(file.follow(Arc::clone(&directory), stop.clone()));
        let becomes = async |names: &[&str]| loop {
            let known = directory.autoscalers();
            if known
                .iter()
                .map(|info| &*info.name)
                .eq(names.iter().copied())
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        becomes(&["jazz"]).await;
        fs::write(&path, "[").unwrap();
        fs::write(&path, format!("[{}, {}]", json("a"), json("bb"))).unwrap();
        becomes(&["a", "bb"]).await;
        stop.cancel();
        task.await.unwrap();
    }
}
