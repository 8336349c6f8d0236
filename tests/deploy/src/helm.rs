//! The chart, rendered by a real Helm.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests_manifests::Object;

use crate::root;

/// The chart, relative to the workspace.
pub const CHART: &str = "deploy/chart";
/// Where everything is installed.
pub const NAMESPACE: &str = "meshmeter";
/// What the chart looks for before it makes objects of others' kinds.
const OPERATORS: [&str; 2] = ["cert-manager.io/v1", "monitoring.coreos.com/v1"];

/// Which of the two that people have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Helm {
    Four,
    Three,
}

/// What is rendered: values, one over the other, and the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    /// A file of `examples`, by its name without the ending.
    pub example: Option<&'a str>,
    /// YAML, over the example.
    pub values: &'a str,
    /// Further arguments.
    pub arguments: &'a [&'a str],
    /// Whether the cluster has cert-manager and the Prometheus Operator.
    pub has_operators: bool,
}

/// Names of the values files for the usual cases.
pub fn examples() -> Result<Vec<String>> {
    let folder = root().join(CHART).join("examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).context("examples")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".yaml").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The chart with `values` (YAML), each object read strictly.
pub fn chart(values: &str) -> Result<Vec<Object>> {
    let release = Release {
        values,
        ..Release::default()
    };
    release.objects(Helm::Four)
}

/// One of the usual cases, with `values` (YAML) over it.
pub fn example(name: &str, values: &str) -> Result<Vec<Object>> {
    let release = Release {
        example: Some(name),
        values,
        ..Release::default()
    };
    release.objects(Helm::Four)
}

// === impl Helm ===

impl Helm {
    pub const ALL: [Self; 2] = [Self::Four, Self::Three];

    fn command(self) -> Result<Command> {
        let name = match self {
            Self::Four => "helm",
            Self::Three => "helm3",
        };
        let program = root().join("target/kubectl/bin").join(name);
        if !program.is_file() {
            bail!(
                "NOTHING OF deploy/chart CAN BE RENDERED: no {name}: `cargo xtask kubectl` gets it"
            );
        }
        let mut command = Command::new(program);
        command.current_dir(root());
        Ok(command)
    }
}

// === impl Release ===

impl Default for Release<'_> {
    fn default() -> Self {
        Self {
            example: None,
            values: "",
            arguments: &[],
            has_operators: true,
        }
    }
}

impl Release<'_> {
    /// What `helm template` prints; an error has what it says instead.
    pub fn text(&self, helm: Helm) -> Result<String> {
        let mut command = helm.command()?;
        command.args(["template", "meshmeter", CHART]);
        if self.has_operators {
            for version in OPERATORS {
                command.args(["--api-versions", version]);
            }
        }
        let output = self.run(command)?;
        String::from_utf8(output.stdout).context("not UTF-8")
    }

    /// What `helm template` prints, read strictly.
    pub fn objects(&self, helm: Helm) -> Result<Vec<Object>> {
        let text = self.text(helm)?;
        tests_manifests::check(&text).with_context(|| format!("{self:?}"))
    }

    /// Whatever `helm lint --strict` finds is an error.
    pub fn lint(&self, helm: Helm) -> Result<()> {
        let mut command = helm.command()?;
        command.args(["lint", "--strict", CHART]);
        self.run(command).map(drop)
    }

    fn run(&self, mut command: Command) -> Result<Output> {
        let values = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        fs::write(&values, self.values)?;
        command.args(["--namespace", NAMESPACE]);
        if let Some(example) = self.example {
            command.arg("--values");
            command.arg(PathBuf::from(CHART).join(format!("examples/{example}.yaml")));
        }
        command.arg("--values").arg(values.path());
        let output = command
            .args(self.arguments)
            .output()
            .context("start helm")?;
        let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
        ensure!(
            output.status.success(),
            "{}{}",
            said[0].trim(),
            said[1].trim()
        );
        Ok(output)
    }
}

/// The default values.
pub fn default_values() -> Result<Value> {
    let text = crate::read(&format!("{CHART}/values.yaml"))?;
    let mut documents = tests_manifests::documents(&text)?;
    documents.pop().context("no values")
}
