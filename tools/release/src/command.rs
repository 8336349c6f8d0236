//! Programs that a step calls: their output, and errors that name them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// What it prints; an error has what it says instead.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("start {shown}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{shown}: {}: {}",
        output.status,
        said.trim()
    );
    Ok(output.stdout)
}

/// Gives it `input`, as a password that must not be seen among the arguments of a process.
pub fn with_input(command: &mut Command, input: &str) -> Result<()> {
    let shown = shown(command);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut child = child.with_context(|| format!("start {shown}"))?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    stdin
        .write_all(input.as_bytes())
        .context("write the input")?;
    drop(stdin);
    let status = child.wait().context("wait for the end")?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}

/// Runs to the end with the output shown.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status();
    let status = status.with_context(|| format!("start {shown}"))?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}

/// The Helm that `cargo xtask kubectl` installs: its version decides the bytes of a package.
pub fn helm(root: &Path) -> Result<Command> {
    let helm: PathBuf = root.join("target/kubectl/bin/helm");
    ensure!(
        helm.is_file(),
        "there is no {}: `cargo xtask kubectl` gets it",
        helm.display()
    );
    Ok(Command::new(helm))
}

/// As one would type it, roughly.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
