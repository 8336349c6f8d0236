//! A program as in its container, in a cluster that has what it is given.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests_deploy::find;
use tests_deploy::pods::{arguments, variables};
use tests_manifests::Object;
use tests_support::clock::wait_for;
use tests_support::kubernetes::objects::API_SERVICE;
use tests_support::kubernetes::{ApiServer, Resource};
use tests_support::process::Process;

use crate::{PATIENCE, program, text_of};

/// What the injector takes for the CA of the aggregators.
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

/// A running program; ends when dropped.
pub(crate) struct Running {
    pub(crate) server: ApiServer,
    pub(crate) admin: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

/// The `APIServices` among manifests, as somebody registered them.
pub(crate) fn registered(objects: &[Object]) -> Vec<(Resource, Value)> {
    let services = objects.iter().filter(|object| object.kind == "APIService");
    services
        .map(|service| {
            let object = json!({"metadata": {"name": service.name}, "spec": {}});
            (API_SERVICE, object)
        })
        .collect()
}

/// Runs the first container of a workload among manifests.
pub(crate) async fn run(
    objects: &[Object],
    kind: &str,
    name: &str,
    there: &[(Resource, Value)],
) -> Running {
    let server = ApiServer::start().await.unwrap();
    for (resource, object) in there {
        server.objects().apply(*resource, object.clone());
    }
    let folder = TempDir::new().unwrap();
    let (kubeconfig, addresses) = (
        folder.path().join("kubeconfig"),
        folder.path().join("addresses.json"),
    );
    server.write_kubeconfig(&kubeconfig).unwrap();
    let workload = find(objects, kind, name).unwrap();
    let container = &workload.value["spec"]["template"]["spec"]["containers"][0];
    let mut arguments = arguments(container);
    arguments.push(format!("--kubeconfig={}", kubeconfig.display()));
    arguments.push(format!("--addresses-file={}", addresses.display()));
    let mut variables = variables(container, objects).unwrap();
    // What is mounted in a cluster only.
    variables.remove("MESHMETER_REMOTE_WRITE_QUEUE_DIR");
    if let Some(file) = variables.get_mut("MESHMETER_AGGREGATOR_CA_FILE") {
        let here = folder.path().join("ca.crt");
        std::fs::write(&here, AUTHORITY).unwrap();
        *file = here.display().to_string();
    }
    let variables: Vec<(String, String)> = variables.into_iter().collect();
    let log = folder.path().join("log");
    let mut process = Process::spawn(&program(container), &arguments, &variables, &log).unwrap();
    let admin = wait_for("the addresses", PATIENCE, async || {
        process.check_running()?;
        let text = std::fs::read(&addresses).ok();
        let read = text.map(|text| serde_json::from_slice::<Value>(&text).unwrap());
        Ok(read.map(|read| text_of(&read["admin"])))
    });
    let admin = admin.await.unwrap().parse().unwrap();
    Running {
        server,
        admin,
        _process: process,
        _folder: folder,
    }
}
