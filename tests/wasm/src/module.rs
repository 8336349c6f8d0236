//! The built modules: where they are, what they import and export.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use wasmparser::{Parser, Payload};
use wasmtime::{Config, Engine, Module};

use crate::plugin::{Code, Role};

/// One of the two modules that `cargo xtask wasm` builds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Built {
    /// `meshmeter-filter.wasm`: role `filter`.
    Filter,
    /// `meshmeter-log.wasm`: roles `access_log` and `upstream_log`.
    Log,
}

/// What a module needs and offers.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Interface {
    /// Imports as `module.name`.
    pub imports: BTreeSet<String>,
    pub exports: BTreeSet<String>,
}

// === impl Built ===

impl Built {
    /// The module that has this role.
    pub fn of(role: Role) -> Self {
        match role {
            Role::Filter => Self::Filter,
            Role::AccessLog | Role::UpstreamLog => Self::Log,
        }
    }

    pub fn path(self) -> PathBuf {
        let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/wasm");
        PathBuf::from(workspace).join(self.file())
    }

    fn file(self) -> &'static str {
        match self {
            Self::Filter => "meshmeter-filter.wasm",
            Self::Log => "meshmeter-log.wasm",
        }
    }

    /// The bytes of the module.
    pub fn bytes(self) -> Result<Vec<u8>> {
        let path = self.path();
        std::fs::read(&path)
            .with_context(|| format!("{} is missing: run `cargo xtask wasm`", path.display()))
    }

    /// The module, compiled once per test process.
    pub fn code(self) -> Result<Code> {
        static FILTER: OnceLock<Module> = OnceLock::new();
        static LOG: OnceLock<Module> = OnceLock::new();
        let cell = match self {
            Self::Filter => &FILTER,
            Self::Log => &LOG,
        };
        compiled(cell, self.file(), || self.bytes())
    }

    /// The module as v0.1.0 had it, compiled once per test process.
    pub fn code_v0_1_0(self) -> Result<Code> {
        static FILTER: OnceLock<Module> = OnceLock::new();
        static LOG: OnceLock<Module> = OnceLock::new();
        let cell = match self {
            Self::Filter => &FILTER,
            Self::Log => &LOG,
        };
        let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../support/v0.1.0");
        let path = PathBuf::from(kept).join(self.file());
        let name = format!("v0.1.0 {}", self.file());
        compiled(cell, &name, || Ok(std::fs::read(&path)?))
    }

    /// What the module imports and exports.
    pub fn interface(self) -> Result<Interface> {
        let bytes = self.bytes()?;
        let mut interface = Interface::default();
        for payload in Parser::new(0).parse_all(&bytes) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let name = format!("{}.{}", import.module, import.name);
                        interface.imports.insert(name);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        interface.exports.insert(export?.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(interface)
    }
}

fn compiled(
    cell: &OnceLock<Module>,
    name: &str,
    bytes: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<Code> {
    let module = if let Some(module) = cell.get() {
        module
    } else {
        let module = Module::new(engine(), bytes()?)?;
        cell.get_or_init(|| module)
    };
    Ok(Code::new(name, module.clone()))
}

/// The engine of all VMs: it counts work, so that a callback that hangs traps.
///
/// # Panics
/// If this machine is one that the engine does not know.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.consume_fuel(true);
        Engine::new(&config).expect("the engine runs on this machine")
    })
}
