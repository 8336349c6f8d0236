//! Proves meshmeter on a cluster, or shows it there: `scripts/cluster`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command whose output is its purpose"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tests_support::clock;
use tools_cluster::api::{Cluster, is_not_found};
use tools_cluster::images::{self, Names, Way};
use tools_cluster::install::{self, Release};
use tools_cluster::names::{HANDS, NAMESPACE, RELEASE, values_path};
use tools_cluster::rig::Rig;
use tools_cluster::row::{Row, table};
use tools_cluster::scenarios::{self, ALL};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Installs the chart, the application djapp in a mesh, and its autoscaler into a cluster.
#[derive(Debug, Parser)]
#[command(name = "cluster", version)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the walkthrough as a test while pods are replaced, killed and cut off; takes some 12
    /// minutes, prints a table, removes everything, and ends with code 1 if a promise was broken.
    Test(TestArgs),
    /// Leave it running under load, and print what to look at.
    Demo(Target),
    /// Remove what `demo` left, or a test that was interrupted.
    Remove(Target),
    /// List the scenarios of `test`.
    List,
}

#[derive(Debug, Args)]
struct TestArgs {
    #[command(flatten)]
    target: Target,
    /// Run only this scenario; may be given several times.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// Print one JSON document in place of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Args)]
struct Target {
    /// Kubeconfig with rights to everything. The namespaces `meshmeter`, `prod` and
    /// `meshmeter-hands` must not be there.
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// Command that brings an archive to the nodes; `{}` stands for it. For kind:
    /// `kind load image-archive {}`.
    #[arg(long, value_name = "COMMAND")]
    load_with: Option<String>,
    /// Push the images to `--registry` by skopeo. Without this and `--load-with` all images have to
    /// be there already.
    #[arg(long, conflicts_with = "load_with")]
    push: bool,
    /// What the names of the images begin with.
    #[arg(
        long,
        default_value = "registry.example.com/meshmeter",
        value_name = "HOST/PATH"
    )]
    registry: String,
    /// Tag of the images.
    #[arg(long, default_value = VERSION)]
    tag: String,
    /// Envoy of the sidecars. Without it an image is made from the Envoy that the tests run.
    #[arg(long, value_name = "IMAGE")]
    envoy_image: Option<String>,
    /// What redirects traffic, as App Mesh's proxy route manager. Without it an image is made from
    /// this machine's iptables.
    #[arg(long, value_name = "IMAGE")]
    redirect_image: Option<String>,
    /// A values file for the chart over those of the test; may be given several times.
    #[arg(long, value_name = "FILE")]
    values: Vec<PathBuf>,
    /// Folder with kubectl and helm.
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Command::parse().verb {
        Verb::Test(args) => test(&args).await,
        Verb::Demo(target) => demo(&target).await.map(|()| true),
        Verb::Remove(target) => remove(&target).await,
        Verb::List => {
            for scenario in ALL {
                println!("{:<20} {}", scenario.name, scenario.about);
            }
            Ok(true)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn test(args: &TestArgs) -> Result<bool> {
    let chosen = chosen(&args.scenario)?;
    let (cluster, release) = prepare(&args.target).await?;
    let mut rows = Vec::new();
    let ran = run(&cluster, &release, &chosen, &mut rows).await;
    if let Err(error) = &ran {
        eprintln!("cluster: {error:#}");
    }
    eprintln!("removing everything");
    let removed = removal(&cluster).await;
    rows.extend(removed.as_ref().ok().cloned());
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json!({"rows": rows}))?);
    } else {
        print!("{}", table(&rows));
    }
    ran?;
    removed?;
    Ok(rows.iter().all(Row::holds))
}

fn chosen(names: &[String]) -> Result<Vec<&'static str>> {
    if names.is_empty() {
        return Ok(ALL.iter().map(|scenario| scenario.name).collect());
    }
    let find = |name: &String| {
        let Some(scenario) = ALL.iter().find(|scenario| scenario.name == name) else {
            bail!(
                "--scenario {name}: there is no such scenario; `scripts/cluster list` names them"
            );
        };
        Ok(scenario.name)
    };
    names.iter().map(find).collect()
}

/// Connects, refuses a cluster that has something of the same names, and brings the images.
async fn prepare(target: &Target) -> Result<(Cluster, Release)> {
    let release = release(target)?;
    let cluster = connect(target, &release.root).await?;
    for namespace in [NAMESPACE, RELEASE, HANDS] {
        match cluster
            .get(&format!("/api/v1/namespaces/{namespace}"))
            .await
        {
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(error),
            Ok(_) => bail!(
                "the namespace {namespace} exists: `scripts/cluster` makes and deletes it. If an earlier run left it, \
                 `scripts/cluster remove` takes it away"
            ),
        }
    }
    let way = way(target)?;
    if !matches!(way, Way::None) {
        bring_images(&cluster, &release, &way).await?;
    }
    Ok((cluster, release))
}

async fn bring_images(cluster: &Cluster, release: &Release, way: &Way) -> Result<()> {
    let architecture = architecture(cluster).await?;
    let archive = format!("target/images/meshmeter-{VERSION}-{architecture}.tar");
    let archive = release.root.join(archive);
    ensure!(
        archive.is_file(),
        "no images for the nodes, which are {architecture}: run `scripts/images --arch {architecture} --registry {}`",
        release.names.registry
    );
    eprintln!("making the images of the test");
    let ours = ["aggregator", "mesh"].map(|image| release.names.of(image));
    let made = images::make(&release.root, &architecture, &release.names)?;
    eprintln!("bringing images to the nodes");
    images::bring(way, &archive, &ours)?;
    images::bring(way, &made.archive, &made.images)?;
    Ok(())
}

fn way(target: &Target) -> Result<Way> {
    Ok(match &target.load_with {
        Some(command) if command.contains("{}") => Way::Load(command.clone()),
        Some(command) => {
            bail!("--load-with {command}: `{{}}` has to stand where the archive's path goes")
        }
        None if target.push => Way::Push,
        None => Way::None,
    })
}

fn release(target: &Target) -> Result<Release> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Ok(Release {
        root: root.canonicalize().context("find the workspace")?,
        names: Names {
            registry: target.registry.clone(),
            tag: target.tag.clone(),
            envoy: target.envoy_image.clone(),
            redirect: target.redirect_image.clone(),
        },
        values: target.values.clone(),
    })
}

async fn connect(target: &Target, root: &Path) -> Result<Cluster> {
    let programs = target.programs.clone();
    let programs = programs.unwrap_or_else(|| root.join("target/kubectl/bin"));
    Cluster::connect(&target.kubeconfig, &programs).await
}

async fn architecture(cluster: &Cluster) -> Result<String> {
    let nodes = cluster.list("/api/v1/nodes").await?;
    let of = |node: &serde_json::Value| {
        let architecture = node["status"]["nodeInfo"]["architecture"].as_str();
        architecture.map(str::to_owned)
    };
    let mut found: Vec<_> = nodes.iter().filter_map(of).collect();
    found.sort();
    found.dedup();
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => bail!("the cluster has no nodes"),
        several => bail!(
            "the nodes are of several architectures: {}",
            several.join(", ")
        ),
    }
}

async fn install(cluster: &Cluster, release: &Release) -> Result<Row> {
    let begun = clock::now();
    let seconds = || begun.elapsed().as_secs_f64();
    release.install(cluster).await?;
    let mut row = Row {
        scenario: "install",
        ..Row::default()
    };
    row.notes
        .push(format!("ready {:.1} s after helm install", seconds()));
    cluster
        .helm(&["test", RELEASE, "--namespace", RELEASE])
        .await?;
    row.notes
        .push(format!("helm test passed at {:.1} s", seconds()));
    install::djapp(cluster, release).await?;
    row.notes
        .push(format!("djapp meshed at {:.1} s", seconds()));
    install::first_value(cluster).await?;
    row.seconds = seconds();
    row.notes
        .push(format!("first values at {:.1} s", row.seconds));
    install::hands(cluster, &release.names).await?;
    Ok(row)
}

async fn run(
    cluster: &Cluster,
    release: &Release,
    chosen: &[&'static str],
    rows: &mut Vec<Row>,
) -> Result<()> {
    eprintln!("installing");
    rows.push(install(cluster, release).await.context("install")?);
    eprint!("{}", table(rows));
    let rig = Rig::new(cluster, release);
    for name in chosen {
        eprintln!("{name} ...");
        let prepared = scenarios::prepare(&rig, name).await;
        let ran = match prepared {
            Ok(()) => scenarios::run(&rig, name).await,
            Err(error) => Err(error),
        };
        // Others go on: one table shows all that is wrong.
        rows.push(ran.unwrap_or_else(|error| Row {
            scenario: name,
            broken: vec![format!("{error:#}")],
            ..Row::default()
        }));
        eprint!("{}", table(&rows[rows.len() - 1..]));
    }
    Ok(())
}

async fn removal(cluster: &Cluster) -> Result<Row> {
    let begun = clock::now();
    let left = install::remove(cluster).await.context("remove")?;
    Ok(Row {
        scenario: "remove",
        seconds: begun.elapsed().as_secs_f64(),
        notes: vec!["namespaces gone".to_owned()],
        broken: left
            .into_iter()
            .map(|object| format!("left: {object}"))
            .collect(),
        ..Row::default()
    })
}

async fn demo(target: &Target) -> Result<()> {
    let (cluster, release) = prepare(target).await?;
    eprintln!("installing");
    let row = install(&cluster, &release).await?;
    install::autoscaler(&cluster, &release.root).await?;
    let rig = Rig::new(&cluster, &release);
    rig.load(40).await?;
    println!("{}", row.notes.join("\n"));
    println!(
        "\n40 requests per second go from dj to jazz, whose autoscaler wants 10 a pod. Look:\n\n  \
         kubectl -n {NAMESPACE} get hpa,pods --watch\n  \
         kubectl get --raw '{}'\n  \
         kubectl get --raw '/apis/view.meshmeter.io/v1/namespaces/{NAMESPACE}/reads'\n  \
         kubectl -n {RELEASE} port-forward meshmeter-0 7471      # http://127.0.0.1:7471/debug/pods\n\n\
         scripts/cluster remove --kubeconfig {}      # when you are done",
        values_path("app=jazz"),
        target.kubeconfig.display(),
    );
    Ok(())
}

async fn remove(target: &Target) -> Result<bool> {
    let release = release(target)?;
    let cluster = connect(target, &release.root).await?;
    let row = removal(&cluster).await?;
    print!("{}", table(std::slice::from_ref(&row)));
    Ok(row.holds())
}
