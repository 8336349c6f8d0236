//! The steps of a release: `cargo xtask release`.
#![expect(clippy::print_stdout, reason = "a command line tool speaks on stdout")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};
use time::Date;
use time::macros::format_description;
use tools_release::chart::{self, Place};
use tools_release::registry::{self, Registry};
use tools_release::version::{self, Version};
use tools_release::{changelog, check, command, files, krew, publish, tree};

/// Where a release is put together, relative to the workspace.
const FOLDER: &str = "target/dist";
/// What was pushed, beside that folder: it is no file of the release.
const PUSHED: &str = "target/dist.pushed";

/// The steps of a release, each as a workflow runs it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask release")]
struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Write a version into every file that names one.
    Version {
        version: Version,
        /// Release it: the open section of the changelog becomes that of the version, with this
        /// date.
        #[arg(long, value_name = "YYYY-MM-DD", value_parser = date)]
        date: Option<Date>,
    },
    /// Fail, with a sentence for each reason, unless what is checked out can be released as this
    /// tag.
    Check {
        #[arg(long, value_name = "vX.Y.Z")]
        tag: String,
    },
    /// Print what the changelog says about the version.
    Notes,
    /// Build images, modules, chart and kubectl plugin into `target/dist`, with their checksums.
    Build {
        #[command(flatten)]
        at: At,
        /// Where the sources are, as `https://github.com/OWNER/NAME`: for labels of images, and for
        /// links to the runbook.
        #[arg(long, value_name = "URL")]
        source: Option<String>,
        /// For this architecture only.
        #[arg(long, value_name = "ARCHITECTURE")]
        arch: Vec<String>,
    },
    /// Log in to the registry, with `REGISTRY_USERNAME` and `REGISTRY_PASSWORD`: credentials go
    /// into Docker's file, where skopeo, helm and cosign find them.
    Login {
        #[command(flatten)]
        at: At,
    },
    /// Push images, chart and module from `target/dist`, and compare what is there then.
    Push {
        #[command(flatten)]
        at: At,
    },
    /// Sign what was pushed by cosign, without a key: with the identity of the workflow.
    Sign,
    /// Make the release at GitHub by its command line tool, with the files of `target/dist`.
    Github {
        #[arg(long, value_name = "vX.Y.Z")]
        tag: String,
    },
}

#[derive(Debug, clap::Args)]
struct At {
    /// What the names of the images begin with, as ghcr.io/OWNER/meshmeter.
    #[arg(long, value_name = "HOST/PATH", value_parser = registry_name)]
    registry: String,
    /// Without TLS: for a registry on this machine.
    #[arg(long)]
    plain_http: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().context("find the workspace")?;
    match args.step {
        Step::Version { version, date } => set_version(&root, &version, date),
        Step::Check { tag } => check_tree(&root, &tag),
        Step::Notes => {
            println!("{}", notes(&root)?);
            Ok(())
        }
        Step::Build { at, source, arch } => build(&root, &at, source.as_deref(), &arch),
        Step::Login { at } => login(&at),
        Step::Push { at } => push(&root, &at),
        Step::Sign => sign(&root),
        Step::Github { tag } => github(&root, &tag),
    }
}

fn set_version(root: &Path, version: &Version, date: Option<Date>) -> Result<()> {
    if let Some(date) = date {
        let file = root.join("CHANGELOG.md");
        let text = fs::read_to_string(&file).context("CHANGELOG.md")?;
        fs::write(&file, changelog::close(&text, version, date)?)?;
        println!("CHANGELOG.md");
    }
    for file in version::set(root, version)? {
        println!("{file}");
    }
    Ok(())
}

fn check_tree(root: &Path, tag: &str) -> Result<()> {
    let findings = check::findings(root, tag)?;
    if !findings.is_empty() {
        bail!("this cannot be released:\n  {}", findings.join("\n  "));
    }
    println!("{tag} can be released");
    Ok(())
}

fn notes(root: &Path) -> Result<String> {
    let version = version::of_workspace(root)?;
    let text = fs::read_to_string(root.join("CHANGELOG.md")).context("CHANGELOG.md")?;
    let notes = changelog::section(&text, &version);
    let notes = notes.with_context(|| format!("CHANGELOG.md has no section {version}"))?;
    Ok(notes.to_owned())
}

/// Gets Helm before anything that takes long.
fn get_helm(root: &Path) -> Result<()> {
    let mut cargo = Command::new("cargo");
    command::run(cargo.args(["xtask", "kubectl"]).current_dir(root))
}

fn build(root: &Path, at: &At, source: Option<&str>, arch: &[String]) -> Result<()> {
    get_helm(root)?;
    let version = version::of_workspace(root)?;
    let mut images = Command::new(root.join("scripts/images"));
    images.arg(format!("--registry={}", at.registry));
    images.args(source.map(|source| format!("--source={source}")));
    images.args(arch.iter().map(|arch| format!("--arch={arch}")));
    command::run(&mut images)?;
    let target = root.join("target");
    let folder = root.join(FOLDER);
    files::collect(&target.join("images"), &target.join("wasm"), &folder)?;
    let place = Place {
        registry: &at.registry,
        source,
    };
    let seconds = tree::git(root, &["log", "-1", "--format=%ct"])?.parse()?;
    chart::package(root, place, &version, seconds, &folder)?;
    let license = fs::read(root.join("LICENSE")).context("LICENSE")?;
    let programs = tools_images::paths::target(root);
    krew::write(&programs, arch, &license, source, &version, &folder)?;
    files::sum(&folder)?;
    print!("{}", fs::read_to_string(folder.join(files::SUMS))?);
    Ok(())
}

fn login(at: &At) -> Result<()> {
    let variable = |name: &str| std::env::var(name).context(name.to_owned());
    let user = variable("REGISTRY_USERNAME")?;
    let password = variable("REGISTRY_PASSWORD")?;
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| std::env::home_dir().map(|home| home.join(".docker")));
    let file = folder.context("no home")?.join("config.json");
    at.registry().login(&user, &password, &file)
}

fn push(root: &Path, at: &At) -> Result<()> {
    get_helm(root)?;
    let version = version::of_workspace(root)?;
    let pushed = at.registry().push(root, &root.join(FOLDER), &version)?;
    fs::write(root.join(PUSHED), registry::lines(&pushed))?;
    print!("{}", registry::lines(&pushed));
    // What later steps of a workflow read.
    if let Some(file) = std::env::var_os("GITHUB_OUTPUT") {
        let mut outputs = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(file)?;
        for pushed in &pushed {
            writeln!(outputs, "{}={}", pushed.name, pushed.digest)?;
        }
    }
    Ok(())
}

fn sign(root: &Path) -> Result<()> {
    let text = fs::read_to_string(root.join(PUSHED));
    let text = text.context("nothing was pushed: `cargo xtask release push`")?;
    for reference in registry::parse(&text)? {
        command::run(&mut publish::signature(&reference))?;
    }
    Ok(())
}

fn github(root: &Path, tag: &str) -> Result<()> {
    let version = version::of_workspace(root)?;
    ensure!(tag == version.tag(), "{tag} is not {}", version.tag());
    let folder = root.join(FOLDER);
    files::verify(&folder)?;
    let files = files::names(&folder)?.into_iter();
    let files: Vec<PathBuf> = files.map(|name| folder.join(name)).collect();
    let mut release = publish::release(&version, &notes(root)?, &files);
    command::run(release.current_dir(root))
}

fn date(text: &str) -> Result<Date, time::error::Parse> {
    Date::parse(text, format_description!("[year]-[month]-[day]"))
}

fn registry_name(text: &str) -> Result<String> {
    let has_scheme = text.contains("://");
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    ensure!(
        !has_scheme && !host.is_empty() && !path.is_empty() && !path.ends_with('/'),
        "a host and a path as ghcr.io/owner/meshmeter, without scheme and tag"
    );
    let is_lower = !text.chars().any(char::is_uppercase);
    ensure!(is_lower, "names in registries are lower case");
    Ok(text.to_owned())
}

// === impl At ===

impl At {
    fn registry(&self) -> Registry {
        Registry {
            name: self.registry.clone(),
            plain_http: self.plain_http,
        }
    }
}
