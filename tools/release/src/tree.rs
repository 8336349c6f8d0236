//! The files of the tree that are text.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command;

/// Path from the root, with `/`, and text of each file that git tracks or would add.
pub fn texts(root: &Path) -> Result<Vec<(String, String)>> {
    let listed = git(
        root,
        &["ls-files", "--cached", "--others", "--exclude-standard"],
    )?;
    let files = listed.lines().filter_map(|file| {
        // Deleted, or not text.
        let text = fs::read_to_string(root.join(file)).ok()?;
        Some((file.to_owned(), text))
    });
    Ok(files.collect())
}

/// What git prints.
pub fn git(root: &Path, arguments: &[&str]) -> Result<String> {
    let mut git = Command::new("git");
    let output = command::output(git.args(arguments).current_dir(root))?;
    let text = String::from_utf8(output)?;
    Ok(text.trim_end().to_owned())
}
