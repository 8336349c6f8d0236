//! Paths of the machine that builds: none of them may be in what is shipped.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use memchr::memmem;

/// The folders that a build reads sources from or writes to, and what stands in their place.
#[derive(Clone, Debug)]
pub struct Folders(Vec<(PathBuf, &'static str)>);

/// Cargo's target folder.
#[must_use]
pub fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

// === impl Folders ===

impl Folders {
    /// Of the workspace at `root`, with the homes of cargo and rustup, and cargo's target folder.
    #[must_use]
    pub fn new(root: &Path, cargo_home: &Path, rustup_home: &Path, target: &Path) -> Self {
        let mut folders = vec![
            (root.to_owned(), "."),
            (cargo_home.to_owned(), "cargo"),
            (rustup_home.to_owned(), "rustup"),
            (target.to_owned(), "./target"),
        ];
        // The compiler takes the last that fits: that has to be the innermost.
        folders.sort_by_key(|(folder, _)| folder.as_os_str().len());
        Self(folders)
    }

    /// Those of this process.
    pub fn of_environment(root: &Path) -> Result<Self> {
        let folder = |variable: &str, otherwise: &str| {
            let home = || std::env::home_dir().map(|home| home.join(otherwise));
            let set = std::env::var_os(variable).map(PathBuf::from);
            set.or_else(home)
                .with_context(|| format!("{variable} is not set, and HOME neither"))
        };
        let cargo_home = folder("CARGO_HOME", ".cargo")?;
        let rustup_home = folder("RUSTUP_HOME", ".rustup")?;
        let target = target(root);
        Ok(Self::new(root, &cargo_home, &rustup_home, &target))
    }

    /// Flags by which `option` (of rustc or of a C compiler) leaves them out.
    #[must_use]
    pub fn flags(&self, option: &str) -> Vec<String> {
        let folders = self.0.iter();
        folders
            .map(|(from, to)| format!("{option}={}={to}", from.display()))
            .collect()
    }

    /// Fails if one of them is in there.
    pub fn check(&self, name: &str, bytes: &[u8]) -> Result<()> {
        for (folder, _) in &self.0 {
            let found = memmem::find(bytes, folder.as_os_str().as_encoded_bytes());
            ensure!(
                found.is_none(),
                "{name} holds the path {}: another machine would build other bytes",
                folder.display()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Folders;

    fn folders() -> Folders {
        let [root, cargo, rustup, target] = [
            "/a/tree",
            "/a/tree/home/cargo",
            "/opt/rustup",
            "/a/tree/target",
        ]
        .map(Path::new);
        Folders::new(root, cargo, rustup, target)
    }

    /// A folder within another is replaced by its own name: the compiler takes the last that fits.
    #[test]
    fn the_innermost_folder_is_last() {
        let flags = folders().flags("--remap-path-prefix");
        let position = |flag: &str| flags.iter().position(|other| other == flag).unwrap();
        let root = position("--remap-path-prefix=/a/tree=.");
        assert!(root < position("--remap-path-prefix=/a/tree/home/cargo=cargo"));
        assert!(root < position("--remap-path-prefix=/a/tree/target=./target"));
        assert_eq!(flags.len(), 4);
    }

    /// Each of them is found in the midst of other bytes, and named.
    #[test]
    fn what_is_shipped_holds_none_of_them() {
        for path in [
            "/a/tree/src/main.rs",
            "/opt/rustup/toolchains/x/lib/core.rs",
        ] {
            let bytes = [b"\x7fELF\0\xff", path.as_bytes(), b"\0\0"].concat();
            let error = folders()
                .check("meshmeter", &bytes)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("meshmeter holds the path /"), "{error}");
        }
        let clean = b"./src/main.rs\0cargo/registry/src/x/lib.rs\0/rustc/1/library/core.rs";
        folders().check("meshmeter", clean).unwrap();
    }
}
