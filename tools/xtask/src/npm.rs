//! Packages of npm's registry, unpacked below `target/`, each pinned by its digest.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::host;

/// A package as npm's registry has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// With its version, such as `axe-core@4.14.1`.
    pub(crate) name: &'static str,
    /// `dist.integrity` without `sha512-`.
    pub(crate) sha512: &'static str,
}

/// Exits with 1 unless the file (first argument) has the digest (second).
const HAS_DIGEST: &str = "
const hash = require('crypto').createHash('sha512');
hash.update(require('fs').readFileSync(process.argv[1]));
process.exit(hash.digest('base64') === process.argv[2] ? 0 : 1);
";

// === impl Package ===

impl Package {
    /// Unpacks it into `package` below `folder`.
    pub(crate) fn install(self, folder: &Path) -> Result<()> {
        let Self { name, sha512 } = self;
        self.try_install(folder, sha512)
            .with_context(|| format!("get {name} from npm"))
    }

    fn try_install(self, folder: &Path, sha512: &str) -> Result<()> {
        fs::create_dir_all(folder)?;
        let mut npm = Command::new("npm");
        npm.args(["pack", "--silent", self.name])
            .current_dir(folder);
        host::run(&mut npm)?;
        let archive = self.name.replace('@', "-") + ".tgz";
        let mut node = Command::new("node");
        node.args(["--eval", HAS_DIGEST, &archive, sha512]);
        let is_right = host::succeeds(node.current_dir(folder));
        ensure!(
            is_right,
            "{}/{archive} is not the one that is pinned",
            folder.display()
        );
        host::run(
            Command::new("tar")
                .args(["-xzf", &archive])
                .current_dir(folder),
        )
    }
}
