//! `djapp hands`: what no API of Kubernetes does. It runs in the pid namespace of a node.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use http::{Method, Request};
use hyper::body::Incoming;
use rustix::process::{Pid, Signal, kill_process};

use crate::query::parameter;
use crate::server::{Answer, answer, serve};

/// Longest time that a process stands still.
const STOPPED_MAX: u64 = 60;
/// Shortest part of a container's id that is taken: nothing else is killed by mistake.
const ID_MIN: usize = 32;

pub(crate) async fn run(address: SocketAddr) -> Result<()> {
    serve(address, act, std::future::pending()).await
}

fn act(request: &Request<Incoming>) -> Answer {
    let uri = request.uri();
    let container = parameter(uri, "container").filter(|id| id.len() >= ID_MIN);
    let process = parameter(uri, "process").filter(|name| !name.is_empty());
    match (request.method(), uri.path(), container, process) {
        (&Method::POST, "/kill", Some(id), _) => {
            let pids = pids(|folder| contains(&folder.join("cgroup"), id));
            signal(&pids, Signal::KILL);
            answer(200, pids.len().to_string())
        }
        (&Method::GET, "/count", _, Some(name)) => answer(200, named(name).len().to_string()),
        (&Method::POST, "/stop", _, Some(name)) => {
            let seconds = parameter(uri, "seconds").and_then(|seconds| seconds.parse().ok());
            let Some(seconds @ 1..=STOPPED_MAX) = seconds else {
                return answer(400, format!("seconds: from 1 to {STOPPED_MAX}"));
            };
            let pids = named(name);
            signal(&pids, Signal::STOP);
            let stopped = pids.len();
            // Whoever asked may not reach this program until then.
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                signal(&pids, Signal::CONT);
            });
            answer(200, stopped.to_string())
        }
        _ => answer(
            404,
            "wanted: POST /kill?container=ID, GET /count?process=NAME or POST /stop?process=NAME&seconds=N",
        ),
    }
}

fn named(name: &str) -> Vec<Pid> {
    pids(|folder| {
        let found = fs::read_to_string(folder.join("comm"));
        found.is_ok_and(|found| found.trim_end() == name)
    })
}

fn contains(file: &Path, text: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|found| found.contains(text))
}

fn pids(wanted: impl Fn(&Path) -> bool) -> Vec<Pid> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = folders.filter_map(|folder| {
        let pid = Pid::from_raw(folder.file_name().to_str()?.parse().ok()?)?;
        wanted(&folder.path()).then_some(pid)
    });
    found.collect()
}

fn signal(pids: &[Pid], signal: Signal) {
    for pid in pids {
        // One that has ended meanwhile is what was wanted.
        let _ = kill_process(*pid, signal);
    }
}
