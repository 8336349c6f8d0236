//! A release into a registry: images by skopeo, the chart by Helm. Both are asked afterwards what
//! is there.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use tools_images::contents::IMAGES;
use tools_images::digest::Digest;

use crate::command;
use crate::files;
use crate::version::Version;

/// Below the registry's folder: its name beside those of the images would be one more `meshmeter`.
const CHARTS: &str = "charts";

/// Where releases are pulled from.
#[derive(Clone, Debug)]
pub struct Registry {
    /// Host, with its port if there is one, and folder.
    pub name: String,
    /// Without TLS, as a stand-in on this machine has it.
    pub plain_http: bool,
}

/// What is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Short: `mesh`.
    pub name: &'static str,
    /// Without tag.
    pub repository: String,
    /// Of the manifest, or of the index where there are several architectures.
    pub digest: String,
}

// === impl Registry ===

impl Registry {
    /// Pushes what `folder` holds. What is there already has to be the same: a released version
    /// never changes.
    pub fn push(&self, root: &Path, folder: &Path, version: &Version) -> Result<Vec<Pushed>> {
        files::verify(folder)?;
        let package = folder.join(format!("meshmeter-{version}.tgz"));
        ensure!(package.is_file(), "there is no {}", package.display());
        let mut pushed = Vec::new();
        for image in &IMAGES {
            pushed.push(self.push_image(folder, image.name, version)?);
        }
        pushed.push(self.push_chart(root, &package, version)?);
        Ok(pushed)
    }

    fn push_image(&self, folder: &Path, name: &'static str, version: &Version) -> Result<Pushed> {
        let ending = format!("/{name}:{version}");
        let (digest, from) = files::digest(folder, &ending)?;
        let repository = format!("{}/{name}", self.name);
        let reference = format!("{repository}:{version}");
        let layout = folder.join(files::LAYOUT);
        if let Ok(there) = self.manifest(&reference) {
            let there = Digest::of(&there).to_string();
            ensure!(
                there == digest,
                "{reference} is there already and is {there}, not {digest}"
            );
        }
        let mut copy = skopeo();
        copy.args(["copy", "--all", "--preserve-digests", "--quiet"]);
        copy.arg(format!("--dest-tls-verify={}", !self.plain_http));
        copy.arg(format!("oci:{}:{from}", layout.display()));
        command::output(copy.arg(format!("docker://{reference}")))?;
        let there = Digest::of(&self.manifest(&reference)?).to_string();
        ensure!(there == digest, "{reference} became {there}, not {digest}");
        Ok(Pushed {
            name,
            repository,
            digest,
        })
    }

    fn push_chart(&self, root: &Path, package: &Path, version: &Version) -> Result<Pushed> {
        let bytes = fs::read(package).with_context(|| package.display().to_string())?;
        let layer = Digest::of(&bytes).to_string();
        let repository = format!("{}/{CHARTS}/meshmeter", self.name);
        let reference = format!("{repository}:{version}");
        let manifest = match self.manifest(&reference) {
            Ok(there) => there,
            Err(_absent) => {
                let mut helm = command::helm(root)?;
                helm.arg("push").arg(package);
                helm.arg(format!("oci://{}/{CHARTS}", self.name));
                if self.plain_http {
                    helm.arg("--plain-http");
                }
                command::output(&mut helm)?;
                self.manifest(&reference)?
            }
        };
        // The manifest has the time of the push in it.
        let text = String::from_utf8_lossy(&manifest);
        ensure!(
            text.contains(&layer),
            "{reference} is there already and has another chart than {layer}"
        );
        Ok(Pushed {
            name: "chart",
            repository,
            digest: Digest::of(&manifest).to_string(),
        })
    }

    /// The bytes under a name, as they are.
    fn manifest(&self, reference: &str) -> Result<Vec<u8>> {
        let mut inspect = skopeo();
        inspect.args(["inspect", "--raw"]);
        inspect.arg(format!("--tls-verify={}", !self.plain_http));
        command::output(inspect.arg(format!("docker://{reference}")))
    }

    /// Writes credentials where skopeo, Helm and cosign look for them: in Docker's file.
    pub fn login(&self, user: &str, password: &str, file: &Path) -> Result<()> {
        let host = self.name.split('/').next().unwrap_or(&self.name);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let mut login = skopeo();
        login.args(["login", "--username", user, "--password-stdin"]);
        login.arg(format!("--tls-verify={}", !self.plain_http));
        login.arg("--authfile").arg(file).arg(host);
        command::with_input(&mut login, password)
    }
}

// === impl Pushed ===

impl Pushed {
    /// By digest, as it is signed.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }
}

/// Reads what [`lines`] wrote.
pub fn parse(text: &str) -> Result<Vec<String>> {
    let references = text.lines().map(|line| {
        let Some((_name, reference)) = line.split_once(' ') else {
            bail!("not a name and a reference: {line:?}");
        };
        Ok(reference.to_owned())
    });
    references.collect()
}

/// What was pushed, a line each: its name and its reference.
#[must_use]
pub fn lines(pushed: &[Pushed]) -> String {
    let lines = pushed.iter();
    let lines: Vec<_> = lines
        .map(|pushed| [pushed.name, " ", &pushed.reference(), "\n"].concat())
        .collect();
    lines.concat()
}

/// Nothing that is read here comes from elsewhere, so that there is no policy to look for.
fn skopeo() -> Command {
    let mut skopeo = Command::new("skopeo");
    skopeo.arg("--insecure-policy");
    skopeo
}
