//! Envoy's resources from JSON to their bytes and back, by the API's own types in Python.

use std::fmt::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests_support::artifacts;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// The bytes of each resource, which has its type in `@type`.
pub async fn bytes_of(resources: &[Value]) -> Result<Vec<Vec<u8>>> {
    let lines = converted(resources).await?;
    lines.iter().map(|line| from_hex(line)).collect()
}

/// Resources of a type as JSON again.
pub async fn json_of(type_url: &str, resources: &[Vec<u8>]) -> Result<Vec<Value>> {
    let hex = |bytes: &Vec<u8>| {
        bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    };
    let resources = resources.iter();
    let resources: Vec<_> = resources
        .map(|bytes| json!({"@type": type_url, "@bytes": hex(bytes)}))
        .collect();
    let lines = converted(&resources).await?;
    let all = lines.iter().map(|line| Ok(serde_json::from_str(line)?));
    all.collect()
}

async fn converted(resources: &[Value]) -> Result<Vec<String>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/resources.py");
    let mut python = Command::new(artifacts::python()?)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start Python")?;
    let mut stdin = python.stdin.take().context("its input")?;
    let text = serde_json::to_vec(resources)?;
    let writing = tokio::spawn(async move { stdin.write_all(&text).await });
    let output = python.wait_with_output().await?;
    writing.await??;
    ensure!(output.status.success(), "resources.py failed");
    let lines = String::from_utf8(output.stdout)?;
    let lines: Vec<_> = lines.lines().map(str::to_owned).collect();
    ensure!(lines.len() == resources.len(), "not one line a resource");
    Ok(lines)
}

fn from_hex(line: &str) -> Result<Vec<u8>> {
    let pairs = line.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair)?;
        Ok(u8::from_str_radix(pair, 16)?)
    });
    pairs.collect()
}
