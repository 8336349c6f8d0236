//! Builds meshmeter's container images without a container engine: `scripts/images`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool: results on stdout, progress on stderr"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tools_images::compile::{self, Ingredients, TARGETS, Target};
use tools_images::contents::{Built, IMAGES, Origin, Ours};
use tools_images::image::Image;
use tools_images::layout::Layout;
use tools_images::paths::{self, Folders};
use tools_images::sbom::Packages;
use tools_images::started::Runner;
use tools_images::twice;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Builds the images of the aggregator, the mesh program and the filter, for amd64 and arm64: an
/// archive for each architecture, and an OCI layout with both.
#[derive(Debug, Parser)]
#[command(name = "images", version)]
struct Args {
    /// What the names of the images begin with.
    #[arg(long, default_value = "registry.example.com/meshmeter")]
    registry: String,
    /// Where the sources are to be found, for the label `org.opencontainers.image.source`.
    #[arg(long, value_name = "URL")]
    source: Option<String>,
    /// Build for this architecture only; may be given several times.
    #[arg(long, value_name = "ARCHITECTURE", value_parser = ["amd64", "arm64"])]
    arch: Vec<String>,
    /// Build once more, in another folder with another home of cargo, and compare every byte.
    #[arg(long)]
    twice: bool,
}

/// What the images of one architecture come from.
struct Sources<'a> {
    built: Built,
    ingredients: Ingredients,
    rust: String,
    origin: &'a Origin,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().context("find the workspace")?;
    let out = root.join("target/images");
    let (origin, epoch) = origin(&root, &args)?;
    ensure!(
        !args.twice || origin.revision.is_some(),
        "--twice builds a commit: commit what is changed"
    );
    build(&root, &args, &origin, epoch, &out)?;
    println!("in {}", out.display());
    if args.twice {
        twice::run(&root, &out, &args.repeated())?;
        println!("built again in another folder: every byte is the same");
    }
    Ok(())
}

fn build(root: &Path, args: &Args, origin: &Origin, epoch: u64, out: &Path) -> Result<()> {
    let folders = Folders::of_environment(root)?;
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    fs::create_dir_all(out)?;
    let mut images: Vec<Vec<Image>> = IMAGES.iter().map(|_| Vec::new()).collect();
    let targets = TARGETS.iter().filter(|target| {
        let architecture = target.platform.architecture;
        args.arch.is_empty() || args.arch.iter().any(|wanted| wanted == architecture)
    });
    for target in targets {
        let architecture = target.platform.architecture;
        eprintln!("building for {architecture}");
        let built = compile::run(root, *target, &folders, epoch)?;
        try_out(root, *target)?;
        let sources = Sources {
            built,
            ingredients: compile::ingredients(root, *target)?,
            rust: compile::rust_version(root)?,
            origin,
        };
        let mut archive = Layout::default();
        for (ours, images) in IMAGES.iter().zip(&mut images) {
            let image = pack(ours, *target, &sources, &folders, out)?;
            archive.add(&args.name(ours), &image);
            images.push(image);
        }
        let file = out.join(format!("meshmeter-{VERSION}-{architecture}.tar"));
        fs::write(&file, archive.archive()?).with_context(|| file.display().to_string())?;
    }
    let mut layout = Layout::default();
    let mut digests = String::new();
    for (ours, images) in IMAGES.iter().zip(&images) {
        let name = args.name(ours);
        let digest = layout.add_all(&name, images, &ours.annotations(origin))?;
        digests += &[&digest.to_string(), " ", &name, "\n"].concat();
        for image in images {
            digests += &line(&name, image);
        }
    }
    layout.write(&out.join("layout"))?;
    fs::write(out.join("digests.txt"), &digests)?;
    print!("{digests}");
    Ok(())
}

fn line(name: &str, image: &Image) -> String {
    let architecture = image.platform.architecture;
    let digest = &image.manifest.digest;
    format!(
        "{digest} {name} {architecture} {} bytes\n",
        image.layer.size
    )
}

/// The image for one architecture, with its SBOM written beside.
fn pack(
    ours: &Ours,
    target: Target,
    sources: &Sources<'_>,
    folders: &Folders,
    out: &Path,
) -> Result<Image> {
    let Ingredients {
        programs,
        modules,
        roots,
    } = &sources.ingredients;
    let mut packages = Packages::default();
    if let Some(program) = ours.program {
        packages = programs.of(program.package)?.and(roots.clone());
    }
    if !ours.modules.is_empty() {
        packages = packages.and(modules.clone());
    }
    let sbom = packages.document(ours.name, VERSION, &sources.rust)?;
    folders.check("the SBOM", sbom.as_bytes())?;
    let architecture = target.platform.architecture;
    let file = format!("{}-{VERSION}-{architecture}.cdx.json", ours.name);
    fs::write(out.join(file), &sbom)?;
    let image = ours
        .contents(&sources.built, &sbom, sources.origin)?
        .pack(target.platform)?;
    ensure!(
        image.layer.size <= ours.compressed_max,
        "{} for {architecture}: {} bytes compressed, at most {}",
        ours.name,
        image.layer.size,
        ours.compressed_max
    );
    Ok(image)
}

/// Starts the programs, where this machine can.
fn try_out(root: &Path, target: Target) -> Result<()> {
    let architecture = target.platform.architecture;
    let runner = match Runner::find(target) {
        Ok(runner) => runner,
        Err(missing) => {
            eprintln!("SKIPPED: programs for {architecture} were not started: {missing}");
            return Ok(());
        }
    };
    let release = paths::target(root).join(target.triple).join("release");
    for program in compile::programs() {
        let tried = runner.try_out(program, &release.join(program.file), VERSION);
        tried.with_context(|| format!("{} for {architecture}", program.file))?;
        eprintln!("{} for {architecture} starts and answers", program.file);
    }
    Ok(())
}

/// The commit and its time, in seconds of the epoch. `SOURCE_DATE_EPOCH` goes first; without
/// either the time is the epoch itself.
fn origin(root: &Path, args: &Args) -> Result<(Origin, u64)> {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        let output = git.args(arguments).current_dir(root).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let mut revision = git(&["rev-parse", "HEAD"]);
    if git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty()) {
        eprintln!("there are changes that are not committed: the images are of no commit");
        revision = None;
    }
    let said = std::env::var("SOURCE_DATE_EPOCH").ok();
    let epoch = match said.or_else(|| git(&["log", "-1", "--format=%ct"])) {
        Some(text) => text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH: {text}"))?,
        None => 0,
    };
    let created = OffsetDateTime::from_unix_timestamp(i64::try_from(epoch)?)?;
    let origin = Origin {
        version: VERSION,
        revision,
        created: created.format(&Rfc3339)?,
        source: args.source.clone(),
    };
    Ok((origin, epoch))
}

// === impl Args ===

impl Args {
    fn name(&self, ours: &Ours) -> String {
        format!("{}/{}:{VERSION}", self.registry, ours.name)
    }

    /// The flags that decide what is built.
    fn repeated(&self) -> Vec<String> {
        let arch = self.arch.iter().map(|arch| format!("--arch={arch}"));
        let source = self
            .source
            .iter()
            .map(|source| format!("--source={source}"));
        let registry = format!("--registry={}", self.registry);
        arch.chain(source).chain([registry]).collect()
    }
}
