//! A release into a stand-in for a registry, and back out of it: every byte is the same.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use stand_in::StandIn;
use tempfile::TempDir;
use tests_support::skipped;
use tools_images::compile::TARGETS;
use tools_images::contents::IMAGES;
use tools_images::image::{Annotations, Contents, Image, Runs};
use tools_images::layer::{File, Files};
use tools_images::layout::Layout;
use tools_release::chart::{self, Place};
use tools_release::registry::{self, Registry};
use tools_release::version::{self, Version};
use tools_release::{command, files};

#[path = "registry/stand_in.rs"]
mod stand_in;

/// What the layout has before the names; that of the registry may be another.
const BUILT_FOR: &str = "registry.example.com/meshmeter";
/// `owner:secret`
const LOGIN: &str = "Basic b3duZXI6c2VjcmV0";

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap()
}

fn version() -> Version {
    version::of_workspace(&root()).unwrap()
}

fn has_skopeo() -> bool {
    let has = Command::new("skopeo").arg("--version").output().is_ok();
    if !has {
        skipped::say("what is pushed into a registry", "no skopeo on PATH");
    }
    has
}

fn image(name: &str, content: &str) -> Vec<Image> {
    let targets = TARGETS.iter().map(|target| {
        let platform = target.platform;
        let bytes = format!("{name} {content} for {}", platform.architecture);
        let file = File {
            bytes: bytes.into_bytes(),
            is_program: false,
        };
        let contents = Contents {
            files: Files::from([(name.to_owned(), file)]),
            runs: Runs::default(),
            annotations: Annotations::new(),
            created: "2026-11-29T12:00:00Z".to_owned(),
        };
        contents.pack(platform).unwrap()
    });
    targets.collect()
}

/// A release put together as `release build` does, of images that are small.
fn release(content: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let [images, wasm, dist] = ["images", "wasm", "dist"].map(|name| folder.path().join(name));
    fs::create_dir_all(&images).unwrap();
    fs::create_dir_all(&wasm).unwrap();
    for module in ["meshmeter-filter.wasm", "meshmeter-log.wasm"] {
        fs::write(wasm.join(module), module).unwrap();
    }
    let (mut layout, mut digests) = (Layout::default(), String::new());
    for ours in &IMAGES {
        let name = format!("{BUILT_FOR}/{}:{}", ours.name, version());
        let images = image(ours.name, content);
        let digest = layout.add_all(&name, &images, &Annotations::new()).unwrap();
        digests += &[&digest.to_string(), " ", &name, "\n"].concat();
        let manifest = images[0].manifest.digest.to_string();
        digests += &[&manifest, " ", &name, " amd64 3 bytes\n"].concat();
    }
    layout.write(&images.join("layout")).unwrap();
    fs::write(images.join("digests.txt"), digests).unwrap();
    files::collect(&images, &wasm, &dist).unwrap();
    package("ghcr.example.com/owner/meshmeter", &dist);
    files::sum(&dist).unwrap();
    folder
}

fn package(registry: &str, folder: &Path) -> PathBuf {
    let place = Place {
        registry,
        source: Some("https://github.com/owner/name"),
    };
    chart::package(&root(), place, &version(), 1_700_000_000, folder).unwrap()
}

fn at(stand_in: &StandIn) -> Registry {
    Registry {
        name: format!("{}/owner/meshmeter", stand_in.host()),
        plain_http: true,
    }
}

fn push(registry: &Registry, release: &TempDir) -> anyhow::Result<Vec<registry::Pushed>> {
    registry.push(&root(), &release.path().join("dist"), &version())
}

fn blobs(layout: &Path) -> BTreeMap<String, Vec<u8>> {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap();
    let blobs = blobs.map(|blob| {
        let blob = blob.unwrap();
        let name = blob.file_name().to_string_lossy().into_owned();
        (name, fs::read(blob.path()).unwrap())
    });
    blobs.collect()
}

/// Images of both architectures and the chart arrive whole: the stand-in recomputes each digest and
/// knows what each manifest names, and what skopeo and Helm pull is what was built.
#[test]
fn what_is_pulled_is_what_was_built() {
    if !has_skopeo() {
        return;
    }
    let (stand_in, release) = (StandIn::start(None), release("content"));
    let registry = at(&stand_in);
    let pushed = push(&registry, &release).unwrap();
    let names: Vec<_> = pushed.iter().map(|pushed| pushed.name).collect();
    assert_eq!(names, ["aggregator", "mesh", "filter", "chart"]);
    let dist = release.path().join("dist");
    let pulled = release.path().join("pulled");
    for image in &pushed[..3] {
        let mut copy = Command::new("skopeo");
        copy.args(["--insecure-policy", "copy", "--all", "--quiet"]);
        copy.arg("--src-tls-verify=false");
        copy.arg(format!("docker://{}", image.reference()));
        copy.arg(format!("oci:{}:{}", pulled.display(), image.name));
        command::output(&mut copy).unwrap();
    }
    assert_eq!(blobs(&pulled), blobs(&dist.join("layout")));
    let mut helm = command::helm(&root()).unwrap();
    helm.args(["pull", "--plain-http", "--destination"]);
    helm.arg(&pulled).arg(format!("--version={}", version()));
    helm.arg(format!("oci://{}/charts/meshmeter", registry.name));
    command::output(&mut helm).unwrap();
    let chart = format!("meshmeter-{}.tgz", version());
    assert_eq!(
        fs::read(pulled.join(&chart)).unwrap(),
        fs::read(dist.join(&chart)).unwrap()
    );
    let path = format!("owner/meshmeter/charts/meshmeter/manifests/{}", version());
    let manifest: Value = serde_json::from_slice(&stand_in.get(&path).unwrap()).unwrap();
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.cncf.helm.config.v1+json"
    );
    assert_eq!(
        manifest["layers"][0]["mediaType"],
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
    );
}

/// The same release may be pushed again, as when a later step failed; another one under the same
/// version is refused, and what is there stays.
#[test]
fn a_released_version_never_changes() {
    if !has_skopeo() {
        return;
    }
    let stand_in = StandIn::start(None);
    let registry = at(&stand_in);
    let first = release("content");
    let pushed = push(&registry, &first).unwrap();
    assert_eq!(push(&registry, &first).unwrap(), pushed);
    let error = push(&registry, &release("other content")).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("is there already and is sha256:"), "{error}");
    assert_eq!(push(&registry, &first).unwrap(), pushed);
    // Another chart alone is refused as well.
    let dist = first.path().join("dist");
    package("elsewhere.example.com/meshmeter", &dist);
    files::sum(&dist).unwrap();
    let error = format!("{:#}", push(&registry, &first).unwrap_err());
    assert!(error.contains("has another chart than sha256:"), "{error}");
}

/// Files that are not those of `SHA256SUMS` are not pushed, nor images without their chart.
#[test]
fn files_that_changed_are_refused() {
    let release = release("content");
    let dist = release.path().join("dist");
    files::verify(&dist).unwrap();
    fs::write(dist.join("meshmeter-log.wasm"), "another").unwrap();
    let registry = Registry {
        name: "127.0.0.1:1/owner/meshmeter".to_owned(),
        plain_http: true,
    };
    let error = format!("{:#}", push(&registry, &release).unwrap_err());
    assert!(error.contains("  meshmeter-log.wasm"), "{error}");
    assert!(!error.contains("meshmeter-filter.wasm"), "{error}");
    fs::write(dist.join("meshmeter-log.wasm"), "meshmeter-log.wasm").unwrap();
    fs::write(dist.join("more"), "").unwrap();
    let error = format!("{:#}", files::verify(&dist).unwrap_err());
    assert!(error.contains("  more"), "{error}");
    fs::remove_file(dist.join("more")).unwrap();
    fs::remove_file(dist.join(format!("meshmeter-{}.tgz", version()))).unwrap();
    files::sum(&dist).unwrap();
    let error = format!("{:#}", push(&registry, &release).unwrap_err());
    assert!(error.starts_with("there is no "), "{error}");
}

/// skopeo and Helm both find the credentials that `release login` writes into Docker's file.
#[test]
fn a_login_is_found_by_both() {
    if !has_skopeo() {
        return;
    }
    let stand_in = StandIn::start(Some(LOGIN));
    let registry = at(&stand_in);
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config.json");
    let wrong = registry.login("owner", "wrong", &config);
    assert!(wrong.is_err());
    let run = |arguments: &[&str]| {
        let mut release = Command::new(env!("CARGO_BIN_EXE_release"));
        release.args(arguments).args(["--plain-http", "--registry"]);
        release
            .arg(&registry.name)
            .env("DOCKER_CONFIG", home.path());
        release.env("REGISTRY_USERNAME", "owner");
        release.env("REGISTRY_PASSWORD", "secret");
        release
    };
    command::output(&mut run(&["login"])).unwrap();
    let mut helm = command::helm(&root()).unwrap();
    let release = release("content");
    helm.env("DOCKER_CONFIG", home.path()).arg("push");
    let chart = format!("dist/meshmeter-{}.tgz", version());
    helm.arg(release.path().join(chart)).arg("--plain-http");
    command::output(helm.arg(format!("oci://{}/charts", registry.name))).unwrap();
    let mut inspect = Command::new("skopeo");
    inspect.args(["inspect", "--raw", "--tls-verify=false"]);
    let chart = format!("docker://{}/charts/meshmeter:{}", registry.name, version());
    inspect.arg(chart).env("HOME", "/nowhere");
    inspect.env("XDG_RUNTIME_DIR", "/nowhere");
    assert!(command::output(inspect.env("DOCKER_CONFIG", "/nowhere")).is_err());
    command::output(inspect.env("DOCKER_CONFIG", home.path())).unwrap();
}
