//! Child processes that never outlive their owner: ended by pid when dropped, and by the kernel
//! when the owner is killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::artifacts::on_path;
use crate::clock::{self, now};

/// Lines of a child's log that are shown when something failed.
const TAIL_LINES: usize = 40;

/// Longest wait for the end of a killed child.
const KILL_MAX: Duration = Duration::from_secs(2);

/// Longest wait until a child stands still that was stopped.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

/// A running child, its output in a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

// === impl Process ===

impl Process {
    /// Starts `program`; its standard output and error go to the file `log`. Must be called from a
    /// thread that lives as long as the child shall: the kernel kills the child when that thread
    /// ends.
    pub fn spawn(
        program: &Path,
        args: &[String],
        envs: &[(String, String)],
        log: &Path,
    ) -> Result<Self> {
        let name = program
            .file_name()
            .unwrap_or(program.as_os_str())
            .to_string_lossy()
            .into_owned();
        let output =
            File::create(log).with_context(|| format!("create the log file {}", log.display()))?;
        let errors = output.try_clone().context("duplicate the log file")?;
        let child = command(program)
            .args(args)
            .envs(envs.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C is for the owner alone: it ends its children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self {
            name,
            child,
            log: log.to_path_buf(),
        })
    }

    /// As [`Self::spawn`], inside of the cgroup whose file `cgroup` takes pids; without one it is
    /// the same.
    pub fn spawn_in(
        cgroup: Option<&Path>,
        program: &Path,
        args: &[String],
        envs: &[(String, String)],
        log: &Path,
    ) -> Result<Self> {
        let Some(cgroup) = cgroup else {
            return Self::spawn(program, args, envs, log);
        };
        // The shell replaces itself by the program, which so is inside from its first page on.
        let script = r#"echo $$ > "$0" && exec "$@""#;
        let mut all = vec!["-c".to_owned(), script.to_owned()];
        all.extend([cgroup, program].map(|path| path.display().to_string()));
        all.extend_from_slice(args);
        Self::spawn(Path::new("/bin/sh"), &all, envs, log)
    }

    /// Process id; `None` after the child was waited for.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Fails, with the end of the log, if the child has ended.
    pub fn check_running(&mut self) -> Result<()> {
        let ended = self.child.try_wait();
        let ended = ended.with_context(|| format!("wait for {}", self.name))?;
        if let Some(status) = ended {
            bail!("{} ended with {status}:\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// Stops the child (SIGSTOP): it does nothing until [`Self::resume`].
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Waits until each thread of the child stands still after [`Self::pause`].
    pub async fn wait_stopped(&self) -> Result<()> {
        let pid = self.pid().context("the child has ended")?;
        clock::wait_for("a process to stop", STOPPED_WITHIN, async || {
            let mut stopped = true;
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let stat = fs::read_to_string(thread?.path().join("stat"))?;
                let state = stat
                    .rsplit_once(") ")
                    .map(|(_, rest)| rest.starts_with('T'));
                stopped &= state == Some(true);
            }
            Ok(stopped.then_some(()))
        })
        .await
    }

    /// Lets the child go on (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks the child to end (SIGTERM) and waits; kills it and fails when it takes longer than
    /// `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        if let Ok(status) = timeout(limit, self.child.wait()).await {
            return status.with_context(|| format!("wait for {}", self.name));
        }
        self.kill().await?;
        bail!(
            "{} did not end within {} s of SIGTERM and was killed:\n{}",
            self.name,
            limit.as_secs(),
            self.log_tail()
        )
    }

    /// Kills the child (SIGKILL) and waits for its end.
    pub async fn kill(&mut self) -> Result<()> {
        let killed = self.child.kill().await;
        killed.with_context(|| format!("kill {}", self.name))
    }

    /// All that the child has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of [`Self::log`].
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self
            .pid()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.with_context(|| format!("{} has already ended", self.name))?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }
}

impl Drop for Process {
    /// Kills the child and waits for its end, so that nothing is left when the owner's own end is
    /// seen.
    fn drop(&mut self) {
        // An error of either call means that there is no child any more.
        let _ = self.child.start_kill();
        let start = now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < KILL_MAX {
            pause();
        }
    }
}

/// Waits a moment where nothing can be awaited.
#[expect(
    clippy::disallowed_methods,
    reason = "a destructor cannot await, and the kernel ends a killed process soon"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

/// `program` under `setpriv --pdeathsig`, where that exists: then not even SIGKILL of the owner
/// leaves it behind. `setpriv` replaces itself by the program, so the pid stays.
fn command(program: &Path) -> Command {
    let Some(setpriv) = on_path("setpriv") else {
        return Command::new(program);
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rustix::process::test_kill_process;
    use tempfile::TempDir;

    use super::*;

    fn shell(directory: &TempDir, script: &str) -> Process {
        let args = ["-c".to_owned(), script.to_owned()];
        let log = directory.path().join("log");
        Process::spawn(&PathBuf::from("/bin/sh"), &args, &[], &log).unwrap()
    }

    async fn wait_for_line(process: &Process, line: &str) {
        let found = clock::wait_for("a line", Duration::from_secs(10), async || {
            Ok(process.log().contains(line).then_some(()))
        });
        found.await.unwrap();
    }

    /// When the drop returns, the child is gone and waited for.
    #[tokio::test]
    async fn a_dropped_child_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let process = shell(&directory, "echo up; exec sleep 60");
        wait_for_line(&process, "up").await;
        let pid = i32::try_from(process.pid().unwrap()).unwrap();
        let pid = Pid::from_raw(pid).unwrap();
        assert!(test_kill_process(pid).is_ok());
        drop(process);
        assert!(test_kill_process(pid).is_err());
    }

    /// A child that does not heed SIGTERM is killed, and the error shows what it said last.
    #[tokio::test]
    async fn a_stubborn_child_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; echo stubborn; while :; do sleep 0.1; done";
        let mut process = shell(&directory, script);
        wait_for_line(&process, "stubborn").await;
        let error = process.terminate(Duration::from_millis(300)).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("SIGTERM") && error.contains("stubborn"),
            "{error}"
        );
        assert!(process.check_running().is_err());
    }

    /// A child does not outlive the thread that started it, even where no destructor runs.
    #[tokio::test]
    async fn a_child_dies_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Handle::current();
        let mut process = std::thread::scope(|scope| {
            let owner = scope.spawn(|| {
                let _runtime = runtime.enter();
                let process = shell(&directory, "echo up; exec sleep 60");
                // Before that `setpriv` may not have asked the kernel yet.
                while !process.log().contains("up") {
                    pause();
                }
                process
            });
            owner.join().unwrap()
        });
        let ended = clock::wait_for("its end", Duration::from_secs(10), async || {
            Ok(process.check_running().is_err().then_some(()))
        });
        ended.await.unwrap();
    }
}
