//! The built modules: where they are, what they import and export.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use wasmparser::{Parser, Payload};
use wasmtime::{Config, Engine, Module};

use crate::plugin::Code;

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
    pub fn path(self) -> PathBuf {
        let name = match self {
            Self::Filter => "meshmeter-filter.wasm",
            Self::Log => "meshmeter-log.wasm",
        };
        let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/wasm");
        PathBuf::from(workspace).join(name)
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
        let (cell, name) = match self {
            Self::Filter => (&FILTER, "meshmeter-filter"),
            Self::Log => (&LOG, "meshmeter-log"),
        };
        if let Some(module) = cell.get() {
            return Ok(Code::new(name, module.clone()));
        }
        let module = Module::new(engine(), self.bytes()?)?;
        Ok(Code::new(name, cell.get_or_init(|| module).clone()))
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
