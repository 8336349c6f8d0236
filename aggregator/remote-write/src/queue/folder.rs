//! The folder of a queue on disk: its files, its lock, and atomic replacement of a file.
//!
//! An entry with a name of the queue that is no regular file (a folder, a link) is renamed to
//! `<name>.foreign`. Files with other names are ignored.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

const LOCK: &str = "LOCK";

pub(super) const CURSOR: &str = "cursor";

/// Checkpoint of the next flush.
pub(super) const STATE: &str = "state";

/// List of series written.
pub(super) const WRITTEN: &str = "written";

/// Suffix of a segment's name, after 16 hexadecimal digits.
const SEGMENT: &str = ".seg";

/// Suffix of a file that is being written.
const UNFINISHED: &str = ".new";

/// Ignored entries named in the log at start; of more only the number is logged.
const NAMED_MAX: usize = 10;

/// The folder with its lock: one process at a time may use it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Holds the lock as long as it is open.
    _lock: File,
}

// === impl Folder ===

impl Folder {
    /// Creates and locks the folder, renames foreign entries, removes unfinished files. An error if
    /// the folder is unusable or another process uses it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let lock_path = path.join(LOCK);
        set_aside(&lock_path)?;
        let mut options = OpenOptions::new();
        let lock = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(lock_path)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(ErrorKind::WouldBlock, "another process has this queue open")
            }
            TryLockError::Error(error) => error,
        })?;
        let folder = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        folder.clean()?;
        Ok(folder)
    }

    /// Numbers that the segments begin with, by their names, in order.
    pub(super) fn segments(&self) -> io::Result<Vec<u64>> {
        let mut firsts = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            firsts.extend(name.to_str().and_then(|name| number(name, SEGMENT)));
        }
        firsts.sort_unstable();
        Ok(firsts)
    }

    /// Path of the segment that begins with number `first`.
    pub(super) fn segment(&self, first: u64) -> PathBuf {
        self.path.join(format!("{first:016x}{SEGMENT}"))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes creations, renames and removals durable: on Linux they are data of the folder.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Writes `bytes` to the file at `path` atomically.
    pub(super) fn save(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, |file| file.write_all(bytes))
    }

    /// Replaces the file at `path` atomically by the output of `write`.
    pub(super) fn replace(
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
    pub(super) fn load(path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Renames foreign entries and removes files that a crash left unfinished.
    fn clean(&self) -> io::Result<()> {
        let mut left_alone = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if !is_ours(&name) {
                left_alone.push(name.into_owned());
                continue;
            }
            if let Err(error) = set_aside(&path) {
                tracing::warn!(file = %path.display(), %error, "remote write: cannot rename a foreign entry in the queue's folder");
            } else if name.ends_with(UNFINISHED) && entry.file_type()?.is_file() {
                fs::remove_file(&path)?;
            }
        }
        if !left_alone.is_empty() {
            let count = left_alone.len();
            left_alone.truncate(NAMED_MAX);
            tracing::info!(files = ?left_alone, count, "remote write: ignoring foreign files in the queue's folder");
        }
        Ok(())
    }
}

/// The number in a name of 16 lowercase hexadecimal digits and `suffix`.
fn number(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (format!("{number:016x}") == digits).then_some(number)
}

fn is_ours(name: &str) -> bool {
    let base = name.strip_suffix(UNFINISHED).unwrap_or(name);
    let fixed = [LOCK, CURSOR, STATE, WRITTEN].contains(&base);
    fixed || number(name, SEGMENT).is_some() || number(name, UNFINISHED).is_some()
}

/// Renames the entry at `path` if it is no regular file. Links are renamed, not followed.
fn set_aside(path: &Path) -> io::Result<()> {
    let foreign = match path.symlink_metadata() {
        Ok(metadata) => !metadata.is_file(),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if foreign {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".foreign");
        tracing::warn!(
            file = %path.display(),
            "remote write: renaming a foreign entry in the queue's folder to .foreign"
        );
        fs::rename(path, aside).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "{}: not a file of the queue, and cannot be renamed: {error}",
                    path.display()
                ),
            )
        })?;
    }
    Ok(())
}
