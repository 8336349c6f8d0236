//! Small images, read as those do who load them: blobs by digest, archives by tar and gzip, and by
//! skopeo where it is at hand.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tests_support::skipped;
use tools_images::compile::TARGETS;
use tools_images::digest::Digest;
use tools_images::image::{Annotations, Contents, Image, Runs};
use tools_images::layer::{self, File, Files};
use tools_images::layout::Layout;

const NAME: &str = "registry.example.com/meshmeter/mesh:0.2.0";
const OTHER: &str = "registry.example.com/meshmeter/filter:0.2.0";

fn files(entries: &[(&str, &str, bool)]) -> Files {
    let file = |bytes: &str, is_program| File {
        bytes: bytes.into(),
        is_program,
    };
    let files = entries.iter();
    files
        .map(|(path, bytes, is_program)| ((*path).to_owned(), file(bytes, *is_program)))
        .collect()
}

fn contents() -> Contents {
    Contents {
        files: files(&[
            ("usr/local/bin/it", "a program", true),
            ("opt/meshmeter/a.wasm", "a module", false),
        ]),
        runs: Runs {
            user: "65532:65532".to_owned(),
            env: vec!["SSL_CERT_FILE=/etc/roots".to_owned()],
            entrypoint: vec!["/usr/local/bin/it".to_owned()],
        },
        annotations: Annotations::from([("org.opencontainers.image.title".into(), "it".into())]),
        created: "2026-11-29T12:00:00Z".to_owned(),
    }
}

fn images(contents: &Contents) -> Vec<Image> {
    let targets = TARGETS.iter();
    targets
        .map(|target| contents.pack(target.platform).unwrap())
        .collect()
}

fn parse(files: &BTreeMap<String, Vec<u8>>, path: &str) -> Value {
    serde_json::from_slice(&files[path]).unwrap()
}

/// The blob that a descriptor names, of the size that it says.
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().unwrap();
    let bytes = &files[&format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))];
    assert_eq!(Digest::of(bytes).to_string(), digest);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

fn untar(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (
                    header.uid().unwrap(),
                    header.gid().unwrap(),
                    header.mtime().unwrap()
                ),
                (0, 0, 0)
            );
            let mode = header.mode().unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let path = entry.path().unwrap().display().to_string();
            (path, mode, bytes)
        })
        .collect()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut tar).unwrap();
    tar
}

/// The digest of empty content is the one that everybody knows.
#[test]
fn digests_are_sha256() {
    let digest = Digest::of(b"");
    assert_eq!(
        digest.to_string(),
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(
        digest.path(),
        "blobs/sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

/// A layer has its files sorted, each folder above them first, and neither time nor name of whoever
/// compressed it; its diff ID is the digest of the tar within.
#[test]
fn a_layer_holds_its_files_and_nothing_else() {
    let layer = layer::pack(&contents().files).unwrap();
    let tar = gunzip(&layer.bytes);
    assert_eq!(layer.diff_id, Digest::of(&tar));
    let folder = |path: &str| (path.to_owned(), 0o755, Vec::new());
    assert_eq!(
        untar(&tar),
        [
            folder("opt/"),
            folder("opt/meshmeter/"),
            folder("usr/"),
            folder("usr/local/"),
            folder("usr/local/bin/"),
            ("opt/meshmeter/a.wasm".into(), 0o644, b"a module".to_vec()),
            ("usr/local/bin/it".into(), 0o755, b"a program".to_vec()),
        ]
    );
    let header = GzDecoder::new(&*layer.bytes).header().cloned().unwrap();
    assert_eq!((header.mtime(), header.filename()), (0, None));
}

/// One file alone has no folder above it: the form in which Istio and Envoy Gateway pull a module.
#[test]
fn a_module_is_the_only_entry_of_its_layer() {
    let layer = layer::pack(&files(&[("plugin.wasm", "a module", false)])).unwrap();
    assert_eq!(
        untar(&gunzip(&layer.bytes)),
        [("plugin.wasm".to_owned(), 0o644, b"a module".to_vec())]
    );
}

/// From index to layer every descriptor names what is there, and the configuration says how a
/// container runs.
#[test]
fn a_layout_leads_from_its_index_to_each_layer() {
    let contents = contents();
    let mut layout = Layout::default();
    let digest = layout.add_all(NAME, &images(&contents), &contents.annotations);
    let files = layout.files().unwrap();
    assert_eq!(
        parse(&files, "oci-layout"),
        json!({"imageLayoutVersion": "1.0.0"})
    );
    let top = parse(&files, "index.json");
    let named = &top["manifests"][0];
    assert_eq!(named["digest"], digest.unwrap().to_string());
    assert_eq!(
        named["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    assert_eq!(
        named["annotations"]["org.opencontainers.image.ref.name"],
        NAME
    );
    assert_eq!(named["annotations"]["io.containerd.image.name"], NAME);
    let index: Value = serde_json::from_slice(blob(&files, named)).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    for (descriptor, architecture) in manifests.iter().zip(["amd64", "arm64"]) {
        let platform = json!({"architecture": architecture, "os": "linux"});
        assert_eq!(descriptor["platform"], platform);
        let manifest: Value = serde_json::from_slice(blob(&files, descriptor)).unwrap();
        assert_eq!(manifest["mediaType"], descriptor["mediaType"]);
        let config: Value = serde_json::from_slice(blob(&files, &manifest["config"])).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        let layer = blob(&files, &manifest["layers"][0]);
        let diff_id = Digest::of(&gunzip(layer)).to_string();
        assert_eq!(
            config["rootfs"],
            json!({"type": "layers", "diff_ids": [diff_id]})
        );
        assert_eq!(config["architecture"], architecture);
        assert_eq!(
            config["config"],
            json!({
                "User": "65532:65532",
                "Env": ["SSL_CERT_FILE=/etc/roots"],
                "Entrypoint": ["/usr/local/bin/it"],
                "Labels": {"org.opencontainers.image.title": "it"},
            })
        );
    }
    assert_eq!(manifests.len(), 2);
    // Index, two manifests, two configurations, and one layer that both have.
    assert_eq!(
        files
            .keys()
            .filter(|path| path.starts_with("blobs/"))
            .count(),
        6
    );
    assert!(
        !files.contains_key("manifest.json"),
        "docker knows no index"
    );
}

/// An archive is a layout, and what docker loads: the same blobs under the same names.
#[test]
fn an_archive_has_both_forms() {
    let mut layout = Layout::default();
    layout.add(NAME, &images(&contents())[1]);
    layout.add(OTHER, &images(&contents())[1]);
    let entries = untar(&layout.archive().unwrap());
    let files: BTreeMap<_, _> = entries
        .iter()
        .filter(|(path, _, _)| !path.ends_with('/'))
        .map(|(path, _, bytes)| (path.clone(), bytes.clone()))
        .collect();
    assert_eq!(files, layout.files().unwrap());
    let docker = parse(&files, "manifest.json");
    let index = parse(&files, "index.json");
    for (number, name) in [NAME, OTHER].into_iter().enumerate() {
        let descriptor = &index["manifests"][number];
        assert_eq!(descriptor["platform"]["architecture"], "arm64");
        let manifest: Value = serde_json::from_slice(blob(&files, descriptor)).unwrap();
        let path = |descriptor: &Value| descriptor["digest"].as_str().unwrap().replace(':', "/");
        assert_eq!(
            docker[number],
            json!({
                "Config": format!("blobs/{}", path(&manifest["config"])),
                "RepoTags": [name],
                "Layers": [format!("blobs/{}", path(&manifest["layers"][0]))],
            })
        );
    }
}

/// The same contents give the same bytes, in whatever order they were put together; other contents
/// give others.
#[test]
fn bytes_depend_on_contents_alone() {
    let archive = |contents: &Contents| {
        let mut layout = Layout::default();
        layout.add(NAME, &images(contents)[0]);
        layout.archive().unwrap()
    };
    let first = archive(&contents());
    let mut turned = contents();
    turned.files = turned.files.into_iter().rev().collect();
    assert_eq!(first, archive(&turned));
    let mut changed = contents();
    changed
        .files
        .extend(files(&[("opt/meshmeter/a.wasm", "a modulf", false)]));
    assert_ne!(first, archive(&changed));
}

/// skopeo, which knows nothing of us, finds each image in archive, docker's form and folder, and
/// copies it whole under the same digest.
#[test]
fn skopeo_reads_them() {
    let mut version = Command::new("skopeo");
    if version.arg("--version").output().is_err() {
        skipped::say("what skopeo makes of images", "no skopeo on PATH");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let contents = contents();
    let images = images(&contents);
    let (mut one, mut all) = (Layout::default(), Layout::default());
    one.add(NAME, &images[0]);
    one.add(OTHER, &images[0]);
    let digest = all.add_all(NAME, &images, &contents.annotations).unwrap();
    std::fs::write(path("one.tar"), one.archive().unwrap()).unwrap();
    all.write(&path("all")).unwrap();
    let place = |kind: &str, path: &Path| format!("{kind}:{}:{NAME}", path.display());
    for kind in ["oci-archive", "docker-archive"] {
        let said = skopeo(&["inspect", "--config", &place(kind, &path("one.tar"))]);
        let config: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(config["config"]["User"], "65532:65532", "{kind}");
        assert_eq!(config["architecture"], "amd64", "{kind}");
    }
    let from = place("oci", &path("all"));
    let to = format!("oci:{}:{NAME}", path("copied").display());
    skopeo(&["copy", "--quiet", "--all", &from, &to]);
    let copied = std::fs::read_to_string(path("copied/index.json")).unwrap();
    assert!(copied.contains(&digest.to_string()), "{copied}");
}

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
