//! The folder of segments: its files, its lock, and atomic replacement of a file.
//!
//! An entry with a name of ours that is no regular file (a folder, a link) is renamed to
//! `<name>.foreign`. Files with other names are ignored.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

const LOCK: &str = "LOCK";

/// Suffix of a segment's name, after 16 hexadecimal digits.
const SEGMENT: &str = ".seg";

/// Suffix of a file that is being written.
const UNFINISHED: &str = ".new";

/// Ignored entries named in the log at start; of more only the number is logged.
const NAMED_MAX: usize = 10;

/// How a folder is named in logs, and what it has besides segments.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// Who uses it, such as `remote write`.
    pub user: &'static str,
    /// What it is, such as `queue`.
    pub what: &'static str,
    /// Other files of ours.
    pub files: &'static [&'static str],
}

/// The folder with its lock: one process at a time may use it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    names: Names,
    /// Holds the lock as long as it is open.
    _lock: File,
}

// === impl Folder ===

impl Folder {
    /// Creates and locks the folder, renames foreign entries, removes unfinished files. An error if
    /// the folder is unusable or another process uses it.
    pub fn open(path: &Path, names: Names) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let lock_path = path.join(LOCK);
        names.set_aside(&lock_path)?;
        let mut options = OpenOptions::new();
        let lock = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(lock_path)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                let message = format!("another process has this {} open", names.what);
                io::Error::new(ErrorKind::WouldBlock, message)
            }
            TryLockError::Error(error) => error,
        })?;
        let folder = Self {
            path: path.to_owned(),
            names,
            _lock: lock,
        };
        folder.clean()?;
        Ok(folder)
    }

    /// Numbers that the segments begin with, by their names, in order.
    pub fn segments(&self) -> io::Result<Vec<u64>> {
        let mut firsts = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            firsts.extend(name.to_str().and_then(|name| number(name, SEGMENT)));
        }
        firsts.sort_unstable();
        Ok(firsts)
    }

    /// Path of the segment that begins with number `first`.
    pub fn segment(&self, first: u64) -> PathBuf {
        self.path.join(format!("{first:016x}{SEGMENT}"))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes creations, renames and removals durable: on Linux they are data of the folder.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Writes `bytes` to the file at `path` atomically.
    pub fn save(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, |file| file.write_all(bytes))
    }

    /// Replaces the file at `path` atomically by the output of `write`.
    pub fn replace(
        &self,
        path: &Path,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let new = path.with_extension(&UNFINISHED[1..]);
        let mut file = File::create(&new)?;
        write(&mut file)?;
        // Before the rename: else a crash could leave an empty file under the final name.
        file.sync_all()?;
        fs::rename(&new, path)?;
        self.sync()
    }

    /// The content of the file at `path`; `None` if it does not exist.
    pub fn load(path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Renames foreign entries and removes files that a crash left unfinished.
    fn clean(&self) -> io::Result<()> {
        let mut left_alone = Vec::new();
        let Names { user, what, .. } = self.names;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if !self.names.is_ours(&name) {
                left_alone.push(name.into_owned());
                continue;
            }
            if let Err(error) = self.names.set_aside(&path) {
                tracing::warn!(file = %path.display(), %error, "{user}: cannot rename a foreign entry in the {what}'s folder");
            } else if name.ends_with(UNFINISHED) && entry.file_type()?.is_file() {
                fs::remove_file(&path)?;
            }
        }
        if !left_alone.is_empty() {
            let count = left_alone.len();
            left_alone.truncate(NAMED_MAX);
            tracing::info!(files = ?left_alone, count, "{user}: ignoring foreign files in the {what}'s folder");
        }
        Ok(())
    }
}

// === impl Names ===

impl Names {
    fn is_ours(&self, name: &str) -> bool {
        let base = name.strip_suffix(UNFINISHED).unwrap_or(name);
        base == LOCK
            || self.files.contains(&base)
            || number(name, SEGMENT).is_some()
            || number(name, UNFINISHED).is_some()
    }

    /// Renames the entry at `path` if it is no regular file. Links are renamed, not followed.
    fn set_aside(&self, path: &Path) -> io::Result<()> {
        let foreign = match path.symlink_metadata() {
            Ok(metadata) => !metadata.is_file(),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !foreign {
            return Ok(());
        }
        let Self { user, what, .. } = self;
        let mut aside = path.as_os_str().to_owned();
        aside.push(".foreign");
        tracing::warn!(
            file = %path.display(),
            "{user}: renaming a foreign entry in the {what}'s folder to .foreign"
        );
        fs::rename(path, aside).map_err(|error| {
            let path = path.display();
            let message =
                format!("{path}: not a file of the {what}, and cannot be renamed: {error}");
            io::Error::new(error.kind(), message)
        })
    }
}

/// The number in a name of 16 lowercase hexadecimal digits and `suffix`.
fn number(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (format!("{number:016x}") == digits).then_some(number)
}
