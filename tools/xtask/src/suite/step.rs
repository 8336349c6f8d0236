//! One step of the suite: what it runs and how it ended.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::host;

/// What begins the line of a test that did not run for want of something on this machine, and
/// passed all the same.
const LEFT_OUT: &str = "SKIPPED";

/// Something to run, and what has to have passed before.
pub(super) struct Step<'a> {
    pub(super) name: &'static str,
    pub(super) needs: Option<&'static str>,
    action: Action<'a>,
}

enum Action<'a> {
    Call(Box<dyn Fn() -> Result<()> + 'a>),
    Command(Command),
    /// As `Command`, with cargo's count of tests in its output.
    Tests(Command),
    Skip(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Checks or tests that passed and failed, and what some of them say that they left out.
    Ran {
        passed: u64,
        failed: u64,
        left_out: Vec<String>,
    },
    /// Left out, and that is no failure: the machine lacks an optional tool.
    Skipped(&'static str),
}

// === impl Step ===

impl<'a> Step<'a> {
    pub(super) fn call(name: &'static str, call: impl Fn() -> Result<()> + 'a) -> Self {
        Self::new(name, Action::Call(Box::new(call)))
    }

    pub(super) fn command(name: &'static str, command: Command) -> Self {
        Self::new(name, Action::Command(command))
    }

    pub(super) fn tests(name: &'static str, command: Command) -> Self {
        Self::new(name, Action::Tests(command))
    }

    pub(super) fn skipped(name: &'static str, reason: &'static str) -> Self {
        Self::new(name, Action::Skip(reason))
    }

    /// Leaves this step out when `step` did not pass.
    pub(super) fn needs(mut self, step: &'static str) -> Self {
        self.needs = Some(step);
        self
    }

    fn new(name: &'static str, action: Action<'a>) -> Self {
        Self {
            name,
            needs: None,
            action,
        }
    }

    /// What is about to run, for the reader.
    pub(super) fn shown(&self) -> String {
        match &self.action {
            Action::Command(command) | Action::Tests(command) => host::shown(command),
            Action::Call(_) => format!("cargo xtask: {}", self.name),
            Action::Skip(reason) => format!("NOT RUN: {reason}"),
        }
    }

    /// Runs to the end. An error has been printed when this returns.
    pub(super) fn run(self) -> Outcome {
        match self.action {
            Action::Call(call) => Outcome::of(&call()),
            Action::Command(mut command) => Outcome::of(&host::run(&mut command)),
            Action::Tests(command) => match count_tests(command) {
                Ok(outcome) => outcome,
                failed => Outcome::of(&failed.map(|_| ())),
            },
            Action::Skip(reason) => Outcome::Skipped(reason),
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn of(result: &Result<()>) -> Self {
        match result {
            Ok(()) => Self::ran(1, 0),
            Err(error) => {
                println!("error: {error:#}");
                Self::ran(0, 1)
            }
        }
    }

    pub(super) fn ran(passed: u64, failed: u64) -> Self {
        Self::Ran {
            passed,
            failed,
            left_out: Vec::new(),
        }
    }

    /// One or a few words for the reader.
    pub(super) fn word(&self) -> String {
        match self {
            Self::Ran {
                failed: 0, passed, ..
            } => format!("ok ({passed})"),
            Self::Ran { passed, failed, .. } => {
                format!("FAILED ({passed} passed, {failed} failed)")
            }
            Self::Skipped(_) => "NOT RUN".to_owned(),
        }
    }

    pub(super) fn passed(&self) -> bool {
        matches!(self, Self::Ran { failed: 0, .. })
    }
}

/// Runs cargo's tests, shows their output and adds up its `test result` lines.
fn count_tests(mut command: Command) -> Result<Outcome> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", host::shown(&command)))?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let (mut passed, mut failed, mut left_out) = (0, 0, Vec::new());
    for line in BufReader::new(stdout).lines() {
        let line = line.context("read the output of the tests")?;
        println!("{line}");
        if let Some((more_passed, more_failed)) = test_result(&line) {
            passed += more_passed;
            failed += more_failed;
        } else if line.starts_with(LEFT_OUT) {
            left_out.push(line);
        }
    }
    let status = child.wait().context("wait for the tests")?;
    if !status.success() && failed == 0 {
        // It did not compile, or a test program died without a result.
        println!("error: {}: {status}", host::shown(&command));
        failed = 1;
    }
    Ok(Outcome::Ran {
        passed,
        failed,
        left_out,
    })
}

/// Passed and failed of a line such as `test result: ok. 12 passed; 0 failed; 0 ignored; …`.
fn test_result(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |noun: &str| {
        let part = counts
            .split("; ")
            .find_map(|part| part.strip_suffix(noun))?;
        part.parse().ok()
    };
    Some((count(" passed")?, count(" failed")?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Outcome, count_tests, test_result};

    /// The counts that the last line of the suite sums come from cargo's own lines and no others.
    #[test]
    fn result_lines_are_read() {
        let ok = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.02s";
        let bad = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
        assert_eq!(test_result(ok), Some((12, 0)));
        assert_eq!(test_result(bad), Some((3, 2)));
        assert_eq!(test_result("test foo ... ok"), None);
        assert_eq!(test_result("test result: unreadable"), None);
    }

    /// A run that ends badly without a failed test (a compile error, a crash) is a failure all the
    /// same.
    #[test]
    fn a_bad_end_without_results_fails() {
        let script = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            count_tests(command).unwrap()
        };
        let line = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(
            script(&format!("echo '{line}'; echo '{line}'")),
            Outcome::ran(4, 0)
        );
        assert_eq!(
            script(&format!("echo '{line}'; exit 101")),
            Outcome::ran(2, 1)
        );
        assert_eq!(
            script(&format!("echo 'SKIPPED: no cluster'; echo '{line}'")),
            Outcome::Ran {
                passed: 2,
                failed: 0,
                left_out: vec!["SKIPPED: no cluster".to_owned()],
            }
        );
    }
}
