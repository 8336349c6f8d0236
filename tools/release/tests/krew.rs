//! The kubectl plugin, as krew reads its manifest and unpacks its archives.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;
use tools_images::digest::Digest;
use tools_release::krew::{self, PROGRAM};

/// krew's Plugin of v1alpha2; a field that it does not have is refused, as krew's index does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Plugin {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    version: String,
    homepage: String,
    short_description: String,
    description: String,
    caveats: String,
    platforms: Vec<Platform>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Platform {
    selector: Selector,
    uri: String,
    sha256: String,
    bin: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

/// Files by path, with their modes.
fn unpack(archive: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(archive).unwrap()));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mode = entry.header().mode().unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(path, (mode, bytes));
    }
    files
}

/// krew's own rules, and what kubectl needs: an executable of the plugin's name, the licence beside
/// it, each platform once with the digest of what is downloaded.
#[test]
fn krew_can_install_it() {
    let folder = tempfile::tempdir().unwrap();
    let version = "1.2.3".parse().unwrap();
    let archives = ["amd64", "arm64"].map(|architecture| {
        let program = architecture.as_bytes().to_vec();
        krew::pack(architecture, program, b"Apache", &version, folder.path()).unwrap()
    });
    let source = "https://github.com/owner/name";
    let text = krew::manifest(source, &version, &archives);
    let plugin: Plugin = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(
        plugin.api_version,
        "krew.googlecontainertools.github.com/v1alpha2"
    );
    assert_eq!(
        (plugin.kind.as_str(), plugin.metadata.name.as_str()),
        ("Plugin", "meshmeter")
    );
    let spec = plugin.spec;
    assert_eq!(
        (spec.version.as_str(), spec.homepage.as_str()),
        ("v1.2.3", source)
    );
    assert!(
        spec.short_description.len() <= 50,
        "{}",
        spec.short_description
    );
    assert!(
        spec.description.lines().all(|line| line.len() <= 80),
        "{}",
        spec.description
    );
    assert!(spec.caveats.contains("macOS and Windows"));
    let mut platforms = Vec::new();
    for platform in spec.platforms {
        assert_eq!(platform.selector.match_labels["os"], "linux");
        let architecture = platform.selector.match_labels["arch"].clone();
        let name = platform
            .uri
            .strip_prefix(&format!("{source}/releases/download/v1.2.3/"));
        let archive = folder.path().join(name.unwrap());
        let digest = Digest::of(&fs::read(&archive).unwrap()).to_string();
        assert_eq!(digest, format!("sha256:{}", platform.sha256));
        let files = unpack(&archive);
        assert_eq!(platform.bin, PROGRAM);
        assert_eq!(files[PROGRAM], (0o755, architecture.as_bytes().to_vec()));
        assert_eq!(files["LICENSE"], (0o644, b"Apache".to_vec()));
        assert_eq!(files.len(), 2);
        platforms.push(architecture);
    }
    assert_eq!(platforms, ["amd64", "arm64"]);
}

/// What was not built is not promised; where nobody says where the archives will be, there is no
/// manifest of them.
#[test]
fn only_what_was_built_is_named() {
    let target = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let version = "1.2.3".parse().unwrap();
    let release = target.path().join("x86_64-unknown-linux-musl/release");
    fs::create_dir_all(&release).unwrap();
    fs::write(release.join("meshmeter"), "program").unwrap();
    let write = |architectures: &[&str], source| {
        let architectures: Vec<_> = architectures.iter().map(|one| (*one).to_owned()).collect();
        let (target, folder) = (target.path(), folder.path());
        krew::write(target, &architectures, b"Apache", source, &version, folder)
    };
    assert_eq!(write(&["amd64"], None).unwrap().len(), 1);
    assert!(!folder.path().join(krew::MANIFEST).exists());
    write(&["amd64"], Some("https://a.example")).unwrap();
    let text = fs::read_to_string(folder.path().join(krew::MANIFEST)).unwrap();
    assert!(
        text.contains("arch: amd64") && !text.contains("arch: arm64"),
        "{text}"
    );
    let error = write(&[], None).unwrap_err().to_string();
    assert!(error.contains("aarch64-unknown-linux-musl"), "{error}");
}
