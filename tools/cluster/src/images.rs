//! The images of the test, and how a cluster gets them and ours.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use tests_support::artifacts;
use tools_images::compile::{self, TARGETS, Target};
use tools_images::contents::{Program, USER};
use tools_images::image::{Annotations, Contents, Runs};
use tools_images::layer::{File, Files};
use tools_images::layout::Layout;
use tools_images::paths::Folders;

/// The same for whatever is in it: nothing here is shipped.
const CREATED: &str = "2026-01-01T00:00:00Z";
const DJAPP: Program = Program {
    package: "tests-djapp",
    file: "djapp",
};

/// How images reach the nodes.
#[derive(Clone, Debug)]
pub enum Way {
    /// A command, `{}` in it stands for an archive.
    Load(String),
    /// By skopeo, to the registry in their names.
    Push,
    /// They are there.
    None,
}

/// Names of the images that a run uses.
#[derive(Clone, Debug)]
pub struct Names {
    pub registry: String,
    pub tag: String,
    pub envoy: Option<String>,
    pub redirect: Option<String>,
}

// === impl Names ===

impl Names {
    pub fn of(&self, image: &str) -> String {
        format!("{}/{image}:{}", self.registry, self.tag)
    }

    /// The images whose names were not given are made here.
    fn made(&self) -> Vec<&'static str> {
        let mut made = vec![DJAPP.file];
        made.extend(self.envoy.is_none().then_some("envoy"));
        made.extend(self.redirect.is_none().then_some("redirect"));
        made
    }

    pub fn envoy(&self) -> String {
        self.envoy.clone().unwrap_or_else(|| self.of("envoy"))
    }

    pub fn redirect(&self) -> String {
        self.redirect.clone().unwrap_or_else(|| self.of("redirect"))
    }
}

/// An archive and the names of the images in it.
#[derive(Clone, Debug)]
pub struct Made {
    pub archive: PathBuf,
    pub images: Vec<String>,
}

/// Makes the images of the test for `architecture`.
pub fn make(root: &Path, architecture: &str, names: &Names) -> Result<Made> {
    let target = TARGETS
        .iter()
        .find(|target| target.platform.architecture == architecture);
    let target = *target.with_context(|| format!("nodes of {architecture} have no images here"))?;
    let djapp = djapp(root, target)?;
    let mut layout = Layout::default();
    for image in names.made() {
        let contents = match image {
            "envoy" => envoy(target)?,
            "redirect" => redirect(target, &djapp)?,
            _ => contents([(DJAPP.path(), djapp.clone())], &[&DJAPP.path()], USER),
        };
        layout.add(&names.of(image), &contents.pack(target.platform)?);
    }
    let folder = root.join("target/cluster");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("test-images-{architecture}.tar"));
    fs::write(&file, layout.archive()?).with_context(|| file.display().to_string())?;
    Ok(Made {
        archive: file,
        images: names
            .made()
            .into_iter()
            .map(|image| names.of(image))
            .collect(),
    })
}

/// Brings `archive`, which holds `images`, to the nodes.
pub fn bring(way: &Way, archive: &Path, images: &[String]) -> Result<()> {
    let archive = archive.display().to_string();
    match way {
        Way::None => Ok(()),
        Way::Load(command) => {
            let line = command.replace("{}", &archive);
            sh(Command::new("sh").args(["-c", &line]), &line)
        }
        Way::Push => images.iter().try_for_each(|name| {
            let from = format!("oci-archive:{archive}:{name}");
            let to = format!("docker://{name}");
            let line = format!("skopeo copy {from} {to}");
            sh(Command::new("skopeo").args(["copy", &from, &to]), &line)
        }),
    }
}

fn sh(command: &mut Command, line: &str) -> Result<()> {
    let output = command.output().with_context(|| line.to_owned())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{line}: {}", errors.trim());
    Ok(())
}

fn djapp(root: &Path, target: Target) -> Result<Vec<u8>> {
    let folders = Folders::of_environment(root)?;
    let mut built = compile::programs_of(root, target, &folders, 0, &[DJAPP])?;
    built.remove(DJAPP.file).context("djapp was not built")
}

/// The Envoy that the tests run, with the libraries of this machine: a node may reach no registry.
fn envoy(target: Target) -> Result<Contents> {
    needs_this_machine("envoy", "--envoy-image", target)?;
    let program = artifacts::envoy()?;
    let path = "/usr/local/bin/envoy".to_owned();
    let mut files = vec![(path.clone(), fs::read(&program)?)];
    files.extend(libraries(&program)?);
    Ok(contents(files, &[&path], ""))
}

/// What redirects in place of App Mesh's image: this machine's iptables, told what to do by djapp.
fn redirect(target: Target, djapp: &[u8]) -> Result<Contents> {
    needs_this_machine("redirect", "--redirect-image", target)?;
    let restore = ["/usr/sbin/iptables-restore", "/sbin/iptables-restore"];
    let restore = restore.iter().map(Path::new).find(|path| path.exists());
    let restore = restore.context(
        "there is no iptables-restore here to make the image that redirects from: install iptables, or name an image by \
         --redirect-image",
    )?;
    let mut files = vec![
        (DJAPP.path(), djapp.to_vec()),
        ("/usr/sbin/iptables-restore".to_owned(), fs::read(restore)?),
        // iptables-legacy locks a file there.
        ("/run/.keep".to_owned(), Vec::new()),
    ];
    files.extend(libraries(restore)?);
    for extension in extensions()? {
        files.push((extension.display().to_string(), fs::read(&extension)?));
    }
    Ok(contents(files, &[&DJAPP.path(), "redirect"], ""))
}

fn needs_this_machine(image: &str, flag: &str, target: Target) -> Result<()> {
    let here = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        _ => "arm64",
    };
    let wanted = target.platform.architecture;
    ensure!(
        here == wanted,
        "the image {image} is made from this machine, which is {here}, and nodes are {wanted}: name one by {flag}"
    );
    Ok(())
}

fn contents(
    files: impl IntoIterator<Item = (String, Vec<u8>)>,
    entrypoint: &[&str],
    user: &str,
) -> Contents {
    let file = |(path, bytes): (String, Vec<u8>)| {
        let path = path.trim_start_matches('/').to_owned();
        (
            path,
            File {
                bytes,
                is_program: true,
            },
        )
    };
    Contents {
        files: files.into_iter().map(file).collect::<Files>(),
        runs: Runs {
            user: user.to_owned(),
            env: vec!["PATH=/usr/local/bin:/usr/sbin".to_owned()],
            entrypoint: entrypoint.iter().map(|&part| part.to_owned()).collect(),
        },
        annotations: Annotations::new(),
        created: CREATED.to_owned(),
    }
}

/// The libraries that `program` is linked with, at the paths where its loader looks.
fn libraries(program: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("run ldd")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths: BTreeSet<_> = said
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .collect();
    if paths.is_empty() {
        bail!("ldd says no libraries of {}: {said}", program.display());
    }
    let read = |path: &str| Ok((path.to_owned(), fs::read(path).context(path.to_owned())?));
    paths
        .into_iter()
        .filter(|path| Path::new(path) != program)
        .map(read)
        .collect()
}

/// The matches and targets of iptables, which it loads as it needs them.
fn extensions() -> Result<Vec<PathBuf>> {
    let folders = fs::read_dir("/usr/lib")?
        .flatten()
        .map(|folder| folder.path().join("xtables"));
    let folder = folders
        .chain([PathBuf::from("/usr/lib/xtables")])
        .find(|folder| folder.is_dir());
    let folder = folder.context("no folder xtables with iptables' extensions below /usr/lib")?;
    Ok(fs::read_dir(folder)?
        .flatten()
        .map(|file| file.path())
        .collect())
}
