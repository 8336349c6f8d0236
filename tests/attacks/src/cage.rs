//! A memory cgroup for one program. Where none can be made the program runs without, and only its
//! peak is looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

/// A memory cgroup; removed when dropped, once what ran in it has ended.
#[derive(Debug)]
pub struct Cage {
    folder: Option<PathBuf>,
    limit: u64,
}

static MADE: AtomicU32 = AtomicU32::new(0);

// === impl Cage ===

impl Cage {
    /// A cgroup under this process's own that takes `limit` bytes.
    pub fn new(limit: u64) -> Self {
        let folder = version_2(limit).or_else(|| version_1(limit));
        if folder.is_none() {
            tests_support::skipped::say(
                "the memory cgroup of the attacks",
                "none can be made here: only the peak resident size is checked",
            );
        }
        Self { folder, limit }
    }

    /// The file that takes the pid of what shall run inside.
    pub fn procs(&self) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        Some(folder.join("cgroup.procs"))
    }

    /// The highest resident size of process `pid`. In a cage a program that takes too much is
    /// killed, and pages of its file may be given back at the last moment; without one, more than
    /// the limit is an error.
    pub fn check_peak(&self, pid: u32) -> Result<u64> {
        let peak = peak_resident(pid)?;
        anyhow::ensure!(
            self.folder.is_some() || peak <= self.limit,
            "the peak resident size is {} MiB, and the limit {} MiB",
            peak >> 20,
            self.limit >> 20
        );
        Ok(peak)
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // What ran inside has ended and was waited for; else it stays, empty, until the machine
            // restarts.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Highest resident size of a running process, in bytes.
pub fn peak_resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("no line VmHWM")?.trim().parse()?;
    Ok(kib * 1024)
}

/// A new folder under the cgroup of this process.
fn child(root: &Path, own: &str) -> Option<PathBuf> {
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let name = format!("meshmeter-attack-{}-{number}", std::process::id());
    let folder = root.join(own.trim_start_matches('/')).join(name);
    fs::create_dir(&folder).ok()?;
    // Elsewhere than in a file system of cgroups it is any folder.
    if folder.join("cgroup.procs").exists() {
        return Some(folder);
    }
    let _ = fs::remove_dir(&folder);
    None
}

fn own(controller: &str) -> Option<String> {
    let all = fs::read_to_string("/proc/self/cgroup").ok()?;
    all.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let named = controllers.split(',').any(|one| one == controller);
        named.then(|| path.to_owned())
    })
}

fn version_2(limit: u64) -> Option<PathBuf> {
    let folder = child(Path::new("/sys/fs/cgroup"), &own("")?)?;
    limited(folder, &[("memory.max", limit), ("memory.swap.max", 0)])
}

fn version_1(limit: u64) -> Option<PathBuf> {
    let folder = child(Path::new("/sys/fs/cgroup/memory"), &own("memory")?)?;
    limited(folder, &[("memory.limit_in_bytes", limit)])
}

/// The folder with its limit; removed again where it takes none. Later files are set as far as they
/// exist.
fn limited(folder: PathBuf, files: &[(&str, u64)]) -> Option<PathBuf> {
    for (nth, (file, value)) in files.iter().enumerate() {
        let file = folder.join(file);
        let written = file.exists() && fs::write(&file, value.to_string()).is_ok();
        if nth == 0 && !written {
            let _ = fs::remove_dir(&folder);
            return None;
        }
    }
    Some(folder)
}
