//! `target/python`: a Python with what tests take as an independent reference, botocore for
//! signatures and the API of Envoy.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{envoy, host};

/// Where it goes, relative to the workspace.
const FOLDER: &str = "target/python";

/// What is installed: botocore recomputes signatures, cramjam reads Snappy, xds-protos makes
/// Envoy's resources of JSON.
const PACKAGES: [&str; 3] = ["botocore", "cramjam", "xds-protos"];

/// Makes sure that it is there.
pub(crate) fn ensure(root: &Path) -> Result<()> {
    let folder = root.join(FOLDER);
    let python = folder.join("bin/python");
    let mut imports = Command::new(&python);
    imports.args([
        "-c",
        "import botocore, cramjam, envoy.config.listener.v3.listener_pb2",
    ]);
    if python.exists() && host::succeeds(&mut imports) {
        println!("{FOLDER} is there");
        return Ok(());
    }
    envoy::create_venv(&folder)?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]).args(PACKAGES);
    host::run(&mut pip).context("install botocore, cramjam and xds-protos from PyPI")
}
