//! The programs themselves against what manifests say of them: flags and variables, permissions,
//! metrics. They run as their containers do, against the tests' API server.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

mod permissions;
mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tests_deploy::helm::chart;
use tests_deploy::pods::{arguments, templates, variables};
use tests_deploy::{list, read, text};
use tests_manifests::Object;
use tests_support::clock::wait_for;
use tests_support::process::Process;
use tests_support::{artifacts, http};
use tools_images::contents::{IMAGES, USER};

use running::{registered, run};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_mins(1);
/// Long enough for a program to read its flags and say what is wrong with them.
const FLAGS_READ: Duration = Duration::from_secs(3);
/// How clap ends a program whose flags it does not know.
const USAGE: i32 = 2;

/// Ways to write samples, of which an installation has one.
const REMOTE_WRITE: [&str; 3] = [
    "receiver: amp, cluster: test, aws: {credentials: pod-identity}",
    "receiver: other, auth: {type: basic, user: me, secretName: mine}",
    "receiver: other, output: sums",
];

/// Every choice that adds flags, but one of those that exclude each other.
fn all_flags(remote_write: &str) -> Vec<Object> {
    let amp = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-0/api/v1/remote_write";
    let url = if remote_write.contains("amp") {
        amp
    } else {
        "http://127.0.0.1:9/api/v1/write"
    };
    chart(&format!(
        "
appMesh: {{injectEnvoy: true, xdsProxyArgs: [--direction=both]}}
ingest: {{tls: permissive, identity: token}}
aggregator: {{watchNamespaces: [a, b]}}
remoteWrite: {{{remote_write}, url: '{url}'}}
"
    ))
    .unwrap()
}

pub(crate) fn program(container: &Value) -> PathBuf {
    let image = text(&container["image"]);
    let name = image.rsplit('/').next().unwrap().split(':').next();
    match name.unwrap() {
        "aggregator" => artifacts::meshmeter().unwrap(),
        "mesh" => artifacts::mesh().unwrap(),
        other => panic!("{other}: no such program"),
    }
}

/// What a container's program says of itself, by its own `--help`.
fn help(program: &Path, subcommand: &str) -> String {
    let output = Command::new(program)
        .args([subcommand, "--help"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{subcommand}");
    String::from_utf8(output.stdout).unwrap()
}

/// True if clap takes the arguments: it ends the program at once if it does not.
fn are_taken(program: &Path, arguments: &[String], variables: &BTreeMap<String, String>) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(variables);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let step = Duration::from_millis(50);
    for _ in 0..FLAGS_READ.as_millis() / step.as_millis() {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            let mut stderr = child.stderr.take().unwrap();
            stderr.read_to_string(&mut said).unwrap();
            // `check` ends with the same code when it cannot check.
            return status.code() != Some(USAGE) || !said.contains("try '--help'");
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "waits for another process, in steps"
        )]
        std::thread::sleep(step);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

/// Each program takes the arguments and variables of its container, and knows every variable by
/// name.
#[test]
fn flags_are_those_of_the_programs() {
    let mut seen = BTreeSet::new();
    for remote_write in REMOTE_WRITE {
        let objects = all_flags(remote_write);
        for template in templates(&objects) {
            for container in template.containers() {
                let program = program(container);
                let arguments = arguments(container);
                let variables = variables(container, &objects).unwrap();
                let name = text(&container["name"]);
                assert!(
                    are_taken(&program, &arguments, &variables),
                    "{name}: {arguments:?} {variables:?}"
                );
                let mut wrong = arguments.clone();
                wrong.push("--no-such-flag".to_owned());
                assert!(
                    !are_taken(&program, &wrong, &variables),
                    "{name}: anything would be taken"
                );
                let help = help(&program, &arguments[0]);
                for variable in variables
                    .keys()
                    .filter(|name| name.starts_with("MESHMETER_"))
                {
                    let known = help.contains(&format!("[env: {variable}="));
                    assert!(known, "{name}: {variable} is no flag's");
                }
                seen.insert(name.to_owned());
            }
        }
    }
    // With the one of `helm test`.
    assert_eq!(seen.len(), 4, "{seen:?}");
}

pub(crate) fn text_of(value: &Value) -> String {
    text(value).to_owned()
}

/// Names in an expression that can only be metrics: ours, and those of others that we read.
fn metrics(expression: &str) -> Vec<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let begins = ["meshmeter_", "envoy_cluster_", "appmesh_"];
    // Within quotes are values of labels.
    let bare: String = expression.split('"').step_by(2).collect();
    let words = bare.split(|c| !word(c));
    words
        .filter(|name| begins.iter().any(|begin| name.starts_with(begin)))
        .map(str::to_owned)
        .collect()
}

/// Every expression of the rules and dashboards.
fn expressions() -> Vec<String> {
    let rules =
        tests_manifests::documents(&read("deploy/chart/alerts/meshmeter.rules.yaml").unwrap())
            .unwrap();
    let mut found: Vec<String> = list(&rules[0]["groups"])
        .iter()
        .flat_map(|group| list(&group["rules"]))
        .map(|rule| text_of(&rule["expr"]))
        .collect();
    for dashboard in ["fleet", "workload", "self"] {
        let board: Value = serde_json::from_str(
            &read(&format!("deploy/chart/dashboards/{dashboard}.json")).unwrap(),
        )
        .unwrap();
        let panels = list(&board["panels"]).iter();
        found.extend(
            panels
                .flat_map(|panel| list(&panel["targets"]))
                .map(|target| text_of(&target["expr"])),
        );
    }
    found
}

/// Every metric of ours in rules and dashboards is one that a program exposes, or that remote write
/// writes.
#[tokio::test]
async fn metrics_are_those_that_are_exposed() {
    let receiver = "receiver: other, url: 'http://127.0.0.1:9/api/v1/write'";
    let objects = chart(&format!("remoteWrite: {{{receiver}}}")).unwrap();
    let running = run(&objects, "StatefulSet", "meshmeter", &registered(&objects)).await;
    let mut exposed = http::get_ok(running.admin, "/metrics")
        .await
        .unwrap()
        .text();

    let folder = TempDir::new().unwrap();
    let (module, addresses) = (
        folder.path().join("module.wasm"),
        folder.path().join("addresses.json"),
    );
    std::fs::write(&module, "\0asm").unwrap();
    let mut flags = vec![
        "xds-proxy".to_owned(),
        "--listen=127.0.0.1:0".to_owned(),
        "--admin-listen=127.0.0.1:0".to_owned(),
    ];
    flags.push("--upstream=http://127.0.0.1:9".to_owned());
    flags.push("--aggregator=127.0.0.1:9".to_owned());
    flags.push(format!("--filter-wasm={}", module.display()));
    flags.push(format!("--addresses-file={}", addresses.display()));
    let program = artifacts::mesh().unwrap();
    let mut xds_proxy = Process::spawn(&program, &flags, &[], &folder.path().join("log")).unwrap();
    let admin = wait_for("the addresses", PATIENCE, async || {
        xds_proxy.check_running()?;
        let text = std::fs::read(&addresses).ok();
        let read = text.map(|text| serde_json::from_slice::<Value>(&text).unwrap());
        Ok(read.map(|read| text_of(&read["admin"])))
    });
    let admin = admin.await.unwrap().parse().unwrap();
    exposed.push_str(&http::get_ok(admin, "/metrics").await.unwrap().text());

    let families: BTreeSet<&str> = exposed
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let written = read("docs/REMOTE-WRITE.md").unwrap();
    // What needs more than a base to be there: written from the programs themselves, which `xtask
    // gen` holds against them.
    let reference = read("docs/METRICS.md").unwrap();
    let endings = ["", "_total", "_info", "_bucket", "_sum", "_count"];
    let mut names = 0;
    for expression in expressions() {
        for name in metrics(&expression) {
            names += 1;
            let is_exposed = endings.iter().any(|ending| {
                name.strip_suffix(ending)
                    .is_some_and(|family| families.contains(family))
            });
            // What is written and not exposed is in the table of that document.
            let is_written =
                !name.starts_with("meshmeter_") && written.contains(&format!("`{name}"));
            let is_certificate = name.ends_with("_certificate_expiry_timestamp_seconds");
            let is_listed = is_certificate && reference.contains(&format!("| `{name}` |"));
            assert!(
                is_exposed || is_written || is_listed,
                "{name}: exposed by nobody: {expression}"
            );
        }
    }
    assert!(names > 60, "{names}");
}

/// What containers run is in their images: programs under the names that cargo builds, the modules
/// where they are looked for, and the user that manifests ask for.
#[test]
fn images_hold_what_manifests_run() {
    for (image, program) in [
        ("aggregator", artifacts::meshmeter().unwrap()),
        ("mesh", artifacts::mesh().unwrap()),
    ] {
        let ours = IMAGES.iter().find(|ours| ours.name == image).unwrap();
        assert_eq!(*program.file_name().unwrap(), *ours.program.unwrap().file);
    }
    let mut images = BTreeSet::new();
    for template in templates(&all_flags(REMOTE_WRITE[0])) {
        for container in template.containers() {
            let image = text(&container["image"]);
            let Some(name) = image.strip_prefix("registry.example.com/meshmeter/") else {
                continue;
            };
            let version = concat!(":", env!("CARGO_PKG_VERSION"));
            images.insert(name.strip_suffix(version).unwrap().to_owned());
            assert!(container["command"].is_null(), "{image} says what it runs");
            let user = &template.value["spec"]["securityContext"];
            let ids = format!("{}:{}", user["runAsUser"], user["runAsGroup"]);
            assert_eq!(ids, USER, "{image}");
        }
    }
    let known = IMAGES.iter().filter(|ours| ours.program.is_some());
    assert_eq!(images, known.map(|ours| ours.name.to_owned()).collect());
}
