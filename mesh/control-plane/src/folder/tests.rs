use std::fmt::Write as _;

use super::*;

const MESH: &str = "{apiVersion: appmesh.k8s.aws/v1beta2, kind: Mesh, metadata: {name: m}, spec: {namespaceSelector: {}}}\n";

fn node(name: &str) -> String {
    format!(
        "---\n{{apiVersion: appmesh.k8s.aws/v1beta2, kind: VirtualNode, metadata: {{name: {name}}}, spec: {{podSelector: {{matchLabels: {{app: {name}}}}}}}}}\n"
    )
}

/// A follower of a folder with the mesh and the nodes `a` and `b`, a file each.
struct FollowedFolder {
    folder: tempfile::TempDir,
    follower: Follower,
    sender: watch::Sender<Arc<Meshes>>,
    metrics: Metrics,
}

impl FollowedFolder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mesh.yaml"), MESH).unwrap();
        for name in ["a", "b"] {
            fs::write(folder.path().join(format!("{name}.yaml")), node(name)).unwrap();
        }
        let manifests = folder.path().to_owned();
        let read = Folder {
            manifests,
            endpoints: None,
        };
        let (follower, meshes) = read.read(AcmMap::default()).unwrap();
        let (sender, _) = watch::channel(Arc::new(meshes));
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        Self {
            folder,
            follower,
            sender,
            metrics,
        }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).unwrap();
    }

    fn look(&mut self) {
        match self.follower.folder.texts() {
            Ok(texts) => self.follower.look(&texts, &self.sender, &self.metrics),
            Err(error) => self.follower.warn(&error.to_string()),
        }
    }

    fn served(&self) -> Vec<String> {
        let meshes = self.sender.borrow();
        let nodes = meshes.iter().flat_map(|mesh| mesh.nodes.keys());
        nodes
            .map(|key| format!("{}/{}", key.namespace, key.name))
            .collect()
    }
}

/// An unparsable file keeps its last good content and is reported by name; other files are updated.
#[test]
fn an_unparsable_file_keeps_its_last_good_content() {
    let bomb = {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(9);
            writeln!(bomb, "a{level}: &a{level} [{before}]").unwrap();
        }
        bomb
    };
    let half = node("a").replace(
        "spec: {podSelector: {matchLabels: {app: a}}}}",
        "spec: {podSel",
    );
    let large = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
    for text in [&bomb, &half, &large, "\u{0}\u{1}"] {
        let mut followed = FollowedFolder::new();
        followed.write("a.yaml", text);
        followed.write("c.yaml", &node("c"));
        followed.look();
        followed.look();
        assert_eq!(followed.served(), ["default/a", "default/b", "default/c"]);
        let refused: Vec<_> = followed
            .follower
            .refused
            .iter()
            .map(|one| one.what.clone())
            .collect();
        let file = followed.folder.path().join("a.yaml").display().to_string();
        assert_eq!(refused, [file]);
        // It is mended, then deleted.
        followed.write("a.yaml", &node("d"));
        followed.look();
        followed.look();
        assert_eq!(followed.served(), ["default/b", "default/c", "default/d"]);
        assert_eq!(followed.follower.refused, []);
        fs::remove_file(followed.folder.path().join("a.yaml")).unwrap();
        followed.look();
        followed.look();
        assert_eq!(followed.served(), ["default/b", "default/c"]);
    }
}

/// A file that is being written, and parses at every moment, is not applied before it is stable.
#[test]
fn a_file_being_written_is_not_applied() {
    let mut followed = FollowedFolder::new();
    let whole = format!("{}{}", node("a"), node("e"));
    followed.write("a.yaml", "");
    followed.look();
    assert_eq!(followed.served(), ["default/a", "default/b"]);
    followed.write("a.yaml", &node("a"));
    followed.look();
    assert_eq!(followed.served(), ["default/a", "default/b"]);
    followed.write("a.yaml", &whole);
    followed.look();
    assert_eq!(followed.served(), ["default/a", "default/b"]);
    followed.look();
    assert_eq!(followed.served(), ["default/a", "default/b", "default/e"]);
}

/// A folder over the limits changes nothing, and is logged once.
#[test]
fn a_folder_that_is_too_large_changes_nothing() {
    let mut followed = FollowedFolder::new();
    for nth in 0..=FILES_MAX {
        followed.write(&format!("n{nth}.yaml"), "");
    }
    followed.look();
    followed.look();
    assert_eq!(followed.served(), ["default/a", "default/b"]);
    assert!(
        followed
            .follower
            .last_error
            .contains("more than 1000 manifests")
    );
    for nth in 0..=FILES_MAX {
        fs::remove_file(followed.folder.path().join(format!("n{nth}.yaml"))).unwrap();
    }
    let large = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap());
    for nth in 0..3 {
        followed.write(&format!("n{nth}.json"), &large);
    }
    followed.look();
    followed.look();
    assert_eq!(followed.served(), ["default/a", "default/b"]);
    assert!(followed.follower.last_error.contains("bytes of manifests"));
}

/// Objects that are not App Mesh resources are counted.
#[test]
fn other_kinds_are_counted() {
    let mut followed = FollowedFolder::new();
    followed.write(
        "x.json",
        "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"kind\": \"VirtualNod\"}, {}]}",
    );
    followed.look();
    followed.look();
    let ignored: Vec<_> = followed
        .follower
        .ignored
        .iter()
        .map(|(kind, count)| (kind.as_str(), *count))
        .collect();
    assert_eq!(ignored, [("", 1), ("VirtualNod", 1)]);
}
