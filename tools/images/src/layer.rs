//! A layer: a compressed tar of files whose bytes depend on the files alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use crate::digest::Digest;

/// A regular file of an image; root owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub bytes: Vec<u8>,
    pub is_program: bool,
}

/// Files by their path, without the leading `/`.
pub type Files = BTreeMap<String, File>;

#[derive(Clone, Debug)]
pub struct Layer {
    /// Compressed by gzip.
    pub bytes: Vec<u8>,
    /// The digest of the tar within.
    pub diff_id: Digest,
}

/// Packs the files, sorted, with the folders above each; nothing in it depends on a clock or a
/// user.
pub fn pack(files: &Files) -> Result<Layer> {
    let tar = tar(files).context("write the layer")?;
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(&tar)?;
    Ok(Layer {
        bytes: gzip.finish()?,
        diff_id: Digest::of(&tar),
    })
}

fn tar(files: &Files) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let folders: BTreeSet<&Path> = files
        .keys()
        .flat_map(|path| Path::new(path).ancestors().skip(1))
        .filter(|folder| !folder.as_os_str().is_empty())
        .collect();
    for folder in folders {
        let mut header = header(EntryType::Directory, 0, true);
        tar.append_data(&mut header, folder.join(""), &[][..])?;
    }
    for (path, file) in files {
        let mut header = header(EntryType::Regular, file.bytes.len(), file.is_program);
        tar.append_data(&mut header, path, &*file.bytes)?;
    }
    Ok(tar.into_inner()?)
}

/// Of the year 1970 and of root.
pub(crate) fn header(kind: EntryType, bytes: usize, can_run: bool) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(bytes as u64);
    header.set_mode(if can_run { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
