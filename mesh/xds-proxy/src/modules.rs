//! Checks files before configuration refers to them: Envoy rejects a listener whose module it
//! cannot load.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mesh_core::injection::Carrier;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};

const MODULE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Module {
    /// Path of the file, the same for Envoy.
    pub file: PathBuf,
    /// Expected digest in hexadecimal digits; `None` accepts any.
    pub sha256: Option<String>,
}

#[derive(Debug)]
pub struct Modules {
    wasm: Vec<Module>,
    /// Other files that Envoy reads.
    files: Vec<PathBuf>,
    last_check: Mutex<Option<Check>>,
}

#[derive(Debug)]
struct Check {
    stamps: Vec<Stamp>,
    result: Result<(), String>,
}

/// Length and modification time; `None` without a readable file.
type Stamp = Option<(u64, SystemTime)>;

// === impl Modules ===

impl Modules {
    pub fn new(modules: Vec<Module>) -> Self {
        Self {
            wasm: modules,
            files: Vec::new(),
            last_check: Mutex::default(),
        }
    }

    /// Adds a file that only has to exist: Envoy rejects a cluster whose SDS file is missing.
    #[must_use]
    pub fn with_file(mut self, file: PathBuf) -> Self {
        self.files.push(file);
        self
    }

    /// Checks all files; the error names the first that is missing or wrong.
    pub fn check(&self) -> Result<(), String> {
        let modules = self.wasm.iter().map(|module| &module.file);
        let stamps: Vec<_> = modules.chain(&self.files).map(|file| stamp(file)).collect();
        let mut last_check = self.last_check.lock();
        // Called for each response: unchanged files are not read and hashed again.
        if let Some(last) = &*last_check
            && last.stamps == stamps
        {
            return last.result.clone();
        }
        let exists = |file: &PathBuf| {
            fs::metadata(file)
                .map(drop)
                .map_err(|error| named(file, &error))
        };
        let result = self.files.iter().try_for_each(exists);
        let result = result.and_then(|()| self.wasm.iter().try_for_each(verify));
        *last_check = Some(Check {
            stamps,
            result: result.clone(),
        });
        result
    }
}

fn stamp(file: &Path) -> Stamp {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

fn named(file: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", file.display())
}

fn verify(module: &Module) -> Result<(), String> {
    let file = module.file.display();
    let length = fs::metadata(&module.file)
        .map_err(|error| named(&module.file, &error))?
        .len();
    if length > MODULE_BYTES_MAX {
        return Err(format!(
            "{file}: {length} bytes, at most {MODULE_BYTES_MAX} are read"
        ));
    }
    let bytes = fs::read(&module.file).map_err(|error| named(&module.file, &error))?;
    let (magic, kind): (&[u8], _) = match Carrier::of(&file.to_string()) {
        Carrier::Wasm => (b"\0asm", "Wasm"),
        Carrier::Module => (b"\x7fELF", "dynamic"),
    };
    if !bytes.starts_with(magic) {
        return Err(format!("{file}: not a {kind} module"));
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
    fn only_existing_and_valid_files_pass() {
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
        let file = folder.join("filter.so");
        let native = Modules::new(vec![Module {
            file: file.clone(),
            sha256: None,
        }]);
        std::fs::write(&file, b"\0asm\x01\0\0\0").unwrap();
        assert!(native.check().unwrap_err().contains("not a dynamic module"));
        std::fs::write(&file, b"\x7fELF and more").unwrap();
        assert_eq!(native.check(), Ok(()));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
