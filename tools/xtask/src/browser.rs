//! `cargo xtask browser`: what tests of the page need: Debian's Chromium, and axe-core, which finds
//! what keeps people out, under `target/axe`.

use std::path::Path;

use anyhow::Result;

use crate::host;
use crate::npm::Package;

const AXE: Package = Package {
    name: "axe-core@4.14.1",
    sha512: "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
};
/// Where it goes, relative to the workspace.
const FOLDER: &str = "target/axe";

/// Makes sure that both are there.
pub(crate) fn ensure(root: &Path) -> Result<()> {
    host::ensure_program("chromium", "chromium")?;
    if !root.join(FOLDER).join("package/axe.min.js").is_file() {
        host::ensure_program("npm", "npm")?;
        AXE.install(&root.join(FOLDER))?;
    }
    println!("{FOLDER}/package/axe.min.js");
    Ok(())
}
