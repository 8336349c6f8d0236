//! Only what is there, and what it should be: Envoy rejects a listener whose module it cannot read.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};

/// Largest module that is looked at.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A file and its SHA-256, as hexadecimal digits; `None` if any will do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Module {
    /// The file, which Envoy sees under the same path.
    pub file: PathBuf,
    pub sha256: Option<String>,
}

/// The modules that are to go in.
#[derive(Debug)]
pub struct Modules {
    wasm: Vec<Module>,
    /// Other files that Envoy has to find.
    files: Vec<PathBuf>,
    /// What was found last, and when the files had changed last.
    seen: Mutex<Option<FileVersion>>,
}

#[derive(Debug)]
struct FileVersion {
    stamps: Vec<Stamp>,
    found: Result<(), String>,
}

type Stamp = Option<(u64, SystemTime)>;

// === impl Modules ===

impl Modules {
    pub fn new(modules: Vec<Module>) -> Self {
        Self {
            wasm: modules,
            files: Vec::new(),
            seen: Mutex::default(),
        }
    }

    /// The same, with a file that only has to be there: Envoy rejects a cluster whose secret it
    /// cannot find.
    #[must_use]
    pub fn with_file(mut self, file: PathBuf) -> Self {
        self.files.push(file);
        self
    }

    /// Whether all are there; files that did not change are not read again.
    pub fn check(&self) -> Result<(), String> {
        let modules = self.wasm.iter().map(|module| &module.file);
        let stamps: Vec<_> = modules.chain(&self.files).map(|file| stamp(file)).collect();
        let mut seen = self.seen.lock();
        if let Some(before) = &*seen
            && before.stamps == stamps
        {
            return before.found.clone();
        }
        let there = |file: &PathBuf| {
            fs::metadata(file)
                .map(drop)
                .map_err(|error| named(file, &error))
        };
        let found = self.files.iter().try_for_each(there);
        let found = found.and_then(|()| self.wasm.iter().try_for_each(read));
        *seen = Some(FileVersion {
            stamps,
            found: found.clone(),
        });
        found
    }
}

fn stamp(file: &Path) -> Stamp {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

fn named(file: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", file.display())
}

fn read(module: &Module) -> Result<(), String> {
    let file = module.file.display();
    let length = fs::metadata(&module.file)
        .map_err(|error| named(&module.file, &error))?
        .len();
    if length > BYTES_MAX {
        return Err(format!(
            "{file}: {length} bytes, at most {BYTES_MAX} are read"
        ));
    }
    let bytes = fs::read(&module.file).map_err(|error| named(&module.file, &error))?;
    if !bytes.starts_with(b"\0asm") {
        return Err(format!("{file}: not a Wasm module"));
    }
    let Some(expected) = &module.sha256 else {
        return Ok(());
    };
    let digest = digest(&SHA256, &bytes);
    let found = digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    if found.eq_ignore_ascii_case(expected) {
        Ok(())
    } else {
        Err(format!("{file}: SHA-256 is {found}, not {expected}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Module, Modules};

    #[test]
    fn only_what_is_there_and_what_it_should_be() {
        let folder = std::env::temp_dir().join(format!("meshmeter-modules-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("filter.wasm");
        let sha256 =
            Some("67ff4b0ce7d73c8afbb5f3a3df4b1e4a5f1b5b4f3e0f4e5b0d0a4d8f7e6c5b4a".to_owned());
        let modules = Modules::new(vec![Module {
            file: file.clone(),
            sha256: None,
        }]);
        assert!(modules.check().unwrap_err().contains("No such file"));
        std::fs::write(&file, b"\0asm\x01\0\0\0").unwrap();
        assert_eq!(modules.check(), Ok(()));
        let strict = Modules::new(vec![Module {
            file: file.clone(),
            sha256,
        }]);
        assert!(strict.check().unwrap_err().contains("SHA-256 is"));
        let secret = folder.join("token.json");
        let with_secret = Modules::new(Vec::new()).with_file(secret.clone());
        assert!(with_secret.check().unwrap_err().contains("token.json"));
        std::fs::write(&secret, b"{}").unwrap();
        assert_eq!(with_secret.check(), Ok(()));
        std::fs::write(&file, b"something else").unwrap();
        assert!(modules.check().unwrap_err().contains("not a Wasm module"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
