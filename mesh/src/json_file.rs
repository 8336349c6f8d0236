//! JSON files that are replaced atomically, since others may read them at any time.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Replaces `file` by a rename; `flag` names it in errors.
pub(crate) fn replace(file: &Path, flag: &str, value: &Value) -> Result<()> {
    let name = || format!("{flag} {}", file.display());
    let new = file.with_extension("new");
    fs::write(&new, value.to_string()).with_context(name)?;
    fs::rename(&new, file).with_context(name)
}
