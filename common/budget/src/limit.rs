//! The memory limit of this process: of a flag, else of its cgroup, else of the machine.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::size::Size;

const CGROUPS: &str = "/sys/fs/cgroup";
/// The cgroups of this process.
const OWN_CGROUP: &str = "/proc/self/cgroup";
/// The machine's memory.
const MACHINE: &str = "/proc/meminfo";
const DEFAULT: Size = Size::mib(512);
/// Cgroup version 1 has no value for "no limit": it shows the largest multiple of a page.
const NO_LIMIT: u64 = 1 << 62;

/// A limit and its source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limit {
    pub size: Size,
    pub source: Source,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// `--memory-limit`.
    Flag,
    /// A file of a cgroup.
    Cgroup(PathBuf),
    /// All memory of the machine: no limit was set.
    Machine,
    /// `DEFAULT`: no limit was set, and the machine's memory is unknown.
    Default,
}

// === impl Limit ===

impl Limit {
    /// The limit of this process: `flag`, if given.
    pub fn find(flag: Option<Size>) -> Self {
        if let Some(size) = flag {
            return Self {
                size,
                source: Source::Flag,
            };
        }
        let machine = fs::read_to_string(MACHINE)
            .ok()
            .and_then(|text| total(&text));
        let own = fs::read_to_string(OWN_CGROUP).unwrap_or_default();
        let found = of_cgroup(Path::new(CGROUPS), &own);
        // A cgroup may allow more than the machine has; then the machine is the limit.
        let found = found.filter(|(size, _)| machine.is_none_or(|machine| *size < machine));
        match (found, machine) {
            (Some((size, file)), _) => Self {
                size,
                source: Source::Cgroup(file),
            },
            (None, Some(size)) => Self {
                size,
                source: Source::Machine,
            },
            (None, None) => Self {
                size: DEFAULT,
                source: Source::Default,
            },
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--memory-limit"),
            Self::Cgroup(file) => write!(f, "{}", file.display()),
            Self::Machine => f.write_str("the machine's memory"),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// The smallest limit from the process's cgroup up to the root, with its file. `own` is the content
/// of `/proc/self/cgroup`: lines `ID:CONTROLLERS:PATH`, with ID 0 and no controllers for version 2.
fn of_cgroup(root: &Path, own: &str) -> Option<(Size, PathBuf)> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        if controllers.is_empty() {
            // In hybrid mode, with version 1 too, version 2 is mounted at `unified`.
            for root in [root.to_path_buf(), root.join("unified")] {
                found.extend(smallest(&root, path, "memory.max"));
            }
        } else if controllers.split(',').any(|one| one == "memory") {
            found.extend(smallest(
                &root.join("memory"),
                path,
                "memory.limit_in_bytes",
            ));
        }
    }
    found.into_iter().min_by_key(|(size, _)| *size)
}

/// The smallest limit among `file` of `path` and its parents below `root`. Inside a container,
/// `path` may be that of the host, of which only the root exists.
fn smallest(root: &Path, path: &str, file: &str) -> Option<(Size, PathBuf)> {
    let own = root.join(path.trim_start_matches('/'));
    let folders = own
        .ancestors()
        .take_while(|folder| folder.starts_with(root));
    let limits = folders.filter_map(|folder| {
        let file = folder.join(file);
        // "max" (no limit) does not parse and is skipped.
        let bytes: u64 = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        (bytes > 0 && bytes < NO_LIMIT).then(|| (Size::bytes(bytes), file))
    });
    limits.min_by_key(|(size, _)| *size)
}

/// `MemTotal` of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<Size> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Size::kib(kib))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn cgroups(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{text}\n")).unwrap();
        }
        root
    }

    /// Version 2, version 1, both beside one another, in a container, and none: the smallest limit
    /// above counts.
    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let none = "9223372036854771712";
        for (files, own, expected) in [
            (&[("memory.max", "100")][..], "0::/", Some(100)),
            (
                &[("a/b/memory.max", "max"), ("a/memory.max", "70")],
                "0::/a/b",
                Some(70),
            ),
            (
                &[("a/b/memory.max", "50"), ("a/memory.max", "70")],
                "0::/a/b",
                Some(50),
            ),
            (&[("memory.max", "max")], "0::/", None),
            (&[("unified/x/memory.max", "30")], "0::/x", Some(30)),
            (
                &[
                    ("memory/a/memory.limit_in_bytes", "40"),
                    ("memory/memory.limit_in_bytes", none),
                ],
                "5:cpu:/\n4:memory:/a\n0::/",
                Some(40),
            ),
            // The path of the host, and the files of the container.
            (
                &[("memory/memory.limit_in_bytes", "90")],
                "4:hugetlb,memory:/kubepods/pod1/c2",
                Some(90),
            ),
            (
                &[("memory/memory.limit_in_bytes", none)],
                "4:memory:/",
                None,
            ),
            (&[("memory.max", "60")], "0::/../../kubepods", Some(60)),
            (&[], "", None),
            (&[("memory.max", "x")], "nonsense\n0::/", None),
        ] {
            let root = cgroups(files);
            let found = of_cgroup(root.path(), own).map(|(size, _)| size.get());
            assert_eq!(found, expected, "{files:?} {own:?}");
        }
    }

    #[test]
    fn a_flag_goes_first_and_the_machine_last() {
        let size = Size::mib(64);
        let limit = Limit::find(Some(size));
        assert_eq!((limit.size, limit.source), (size, Source::Flag));
        assert!(Limit::find(None).size > Size::mib(16));
        assert_eq!(
            total("MemTotal:       2048 kB\nMemFree: 1 kB\n"),
            Some(Size::mib(2))
        );
        assert_eq!(total("nonsense"), None);
    }
}
