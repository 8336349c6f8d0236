//! Generates `proto/src/gen` from `proto/meshmeter`. The result is committed, so that building
//! needs no proto compiler.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use prost::Message as _;

/// Files of the contract, relative to `proto/`.
const FILES: [&str; 1] = ["meshmeter/v1/ingest.proto"];
/// Where the generated code stands, relative to the workspace.
const GENERATED: &str = "proto/src/gen";

/// Writes the generated code, or with `check` fails if it differs from what stands there.
pub(crate) fn run(root: &Path, check: bool) -> Result<()> {
    let committed = root.join(GENERATED);
    if !check {
        return generate(root, &committed);
    }
    let fresh = root.join("target/gen-check");
    generate(root, &fresh)?;
    for entry in fs::read_dir(&fresh)? {
        let name = entry?.file_name();
        if fs::read(fresh.join(&name))? != fs::read(committed.join(&name)).unwrap_or_default() {
            bail!(
                "{GENERATED}/{} is out of date: run `cargo gen`",
                name.display()
            );
        }
    }
    println!("{GENERATED} is up to date");
    Ok(())
}

fn generate(root: &Path, out: &Path) -> Result<()> {
    let include = root.join("proto");
    let descriptors = protox::compile(FILES.map(|file| include.join(file)), [&include])
        .context("compile the proto files")?;
    fs::create_dir_all(out)?;
    fs::write(out.join("meshmeter.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .out_dir(out)
        .codec_path("crate::codec::StrictCodec")
        .client_mod_attribute(".", "#[cfg(feature = \"tonic\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"tonic\")]")
        .btree_map(".")
        .compile_fds(descriptors)
        .context("generate Rust")
}
