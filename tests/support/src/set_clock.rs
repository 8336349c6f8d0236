//! A program whose wall clock a test sets while it runs; its other clocks are the system's.
//!
//! ```text
//! SetClock::set -> file, mapped by -> set_clock.c, preloaded: the time of the C library
//! ```

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use common_time::UnixMillis;
use tempfile::TempDir;

use crate::clock;

const SOURCE: &str = include_str!("set_clock.c");
/// Environment variable that tells it the file.
const FILE: &str = "MESHMETER_SET_CLOCK";

/// The clock of the programs that are started with its [`Self::environment`].
#[derive(Debug)]
pub struct SetClock {
    library: PathBuf,
    path: PathBuf,
    file: fs::File,
    seconds: i64,
    _folder: TempDir,
}

// === impl SetClock ===

impl SetClock {
    /// One that is right. Needs a C compiler, as every build of Rust does.
    pub fn new() -> Result<Self> {
        let folder = TempDir::new().context("make a directory for a clock")?;
        let in_folder = |name| folder.path().join(name);
        let (source, library) = (in_folder("set_clock.c"), in_folder("set_clock.so"));
        fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler.args([
            "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o",
        ]);
        let output = compiler.args([&library, &source]).output();
        let output = output.context("run cc")?;
        ensure!(
            output.status.success(),
            "cc: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let path = in_folder("offset");
        let file = fs::File::create(&path)?;
        let clock = Self {
            library,
            path,
            file,
            seconds: 0,
            _folder: folder,
        };
        clock.write()?;
        Ok(clock)
    }

    /// From now on it is so many seconds off.
    pub fn set(&mut self, seconds: i64) -> Result<()> {
        self.seconds = seconds;
        self.write()
    }

    /// By how many seconds it is off.
    pub fn seconds(&self) -> i64 {
        self.seconds
    }

    pub fn unix(&self) -> UnixMillis {
        UnixMillis(clock::unix().0.saturating_add_signed(self.seconds * 1000))
    }

    /// Environment variables of a program that goes by it.
    pub fn environment(&self) -> Vec<(String, String)> {
        [("LD_PRELOAD", &self.library), (FILE, &self.path)]
            .map(|(name, value)| (name.to_owned(), value.display().to_string()))
            .into()
    }

    /// In one piece, since it is mapped by whoever reads it.
    fn write(&self) -> Result<()> {
        let nanoseconds = self.seconds * 1_000_000_000;
        let written = self.file.write_all_at(&nanoseconds.to_ne_bytes(), 0);
        written.context("set a clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of this machine goes by it.
    #[test]
    fn shows_what_was_set() {
        let mut set = SetClock::new().unwrap();
        let date = |set: &SetClock| -> u64 {
            let mut date = Command::new("date");
            date.arg("+%s").envs(set.environment());
            let text = String::from_utf8(date.output().unwrap().stdout).unwrap();
            text.trim().parse().unwrap()
        };
        for seconds in [0, -3600, 1800] {
            set.set(seconds).unwrap();
            let before = set.unix().0 / 1000;
            let shown = date(&set);
            let after = set.unix().0 / 1000;
            assert!(
                (before..=after).contains(&shown),
                "{seconds}: {before} {shown} {after}"
            );
        }
    }
}
