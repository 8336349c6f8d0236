//! The chart's package beside Helm's own.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use tools_release::chart::{self, CHART, Place};
use tools_release::{command, version};

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap()
}

/// Files by path, and times that they have.
fn unpack(package: &Path) -> (BTreeMap<String, String>, Vec<u64>) {
    let (mut files, mut times) = (BTreeMap::new(), Vec::new());
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(package).unwrap()));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        times.push(entry.header().mtime().unwrap());
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let path = entry.path().unwrap().display().to_string();
        assert!(files.insert(path, text).is_none());
    }
    times.sort_unstable();
    times.dedup();
    (files, times)
}

fn package(place: Place<'_>, folder: &Path) -> PathBuf {
    let version = version::of_workspace(&root()).unwrap();
    fs::create_dir_all(folder).unwrap();
    chart::package(&root(), place, &version, 1_700_000_000, folder).unwrap()
}

/// Both Helms package the same files; two of our packages are the same bytes, and with the tree's
/// own places each file is as Helm 4 packages it.
#[test]
fn it_holds_what_helm_packages() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let place = Place {
        registry: "registry.example.com/meshmeter",
        source: None,
    };
    let ours = package(place, &path("ours"));
    let again = package(place, &path("again"));
    assert_eq!(fs::read(&ours).unwrap(), fs::read(again).unwrap());
    let (files, times) = unpack(&ours);
    assert_eq!(times, [1_700_000_000]);
    for name in ["helm", "helm3"] {
        let mut helm = Command::new(root().join("target/kubectl/bin").join(name));
        helm.arg("package")
            .arg(root().join(CHART))
            .arg("--destination");
        command::output(helm.arg(path(name))).unwrap();
        let (theirs, _) = unpack(&path(name).join(ours.file_name().unwrap()));
        assert!(theirs.keys().eq(files.keys()), "{name}");
        if name == "helm" {
            assert_eq!(theirs, files);
        }
    }
}

/// A chart that was released names the images, sources and runbook of its own place.
#[test]
fn it_says_where_it_was_released() {
    let folder = tempfile::tempdir().unwrap();
    let source = "https://github.com/owner/name";
    let place = Place {
        registry: "ghcr.example.com/owner/meshmeter",
        source: Some(source),
    };
    let (files, _) = unpack(&package(place, folder.path()));
    let values = &files["meshmeter/values.yaml"];
    assert!(values.contains("registry: ghcr.example.com/owner/meshmeter\n"));
    let runbook = format!(
        "{source}/blob/v{}/docs/OPERATIONS.md\n",
        env!("CARGO_PKG_VERSION")
    );
    assert!(values.contains(&runbook), "{values}");
    let about = &files["meshmeter/Chart.yaml"];
    assert!(about.contains(&format!("home: {source}\n")), "{about}");
    for text in [values, about] {
        assert!(!text.contains("example.com/meshmeter/"), "{text}");
        assert!(!text.contains("registry.example.com"), "{text}");
    }
}
