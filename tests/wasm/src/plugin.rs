//! A Wasm plugin as a bootstrap or an xDS update configures it.

pub use common_names::Role;
// Envoy numbers the directions of listeners as the wire does.
pub use proto::v1::Direction;

/// What a trap does to later requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// `fail_open: true`: the VM stays dead, traffic flows.
    Open,
    /// `FAIL_CLOSED`: the VM stays dead, its filter answers 503.
    Closed,
    /// `FAIL_RELOAD`: a new VM at the first request after a backoff of one second.
    Reload,
}

/// The code a VM runs.
#[derive(Clone)]
pub struct Code {
    /// Name that tells codes apart, as Envoy does by their bytes.
    pub name: String,
    pub(crate) module: wasmtime::Module,
}

#[derive(Clone, Debug)]
pub struct Plugin {
    /// Plugin name, as its log lines carry it.
    pub name: String,
    /// Name of the root context.
    pub root_id: String,
    /// VMs of one `vm_id` share data.
    pub vm_id: String,
    /// Configuration of the plugin, JSON.
    pub configuration: String,
    pub code: Code,
    pub role: Role,
    /// The listener it belongs to.
    pub direction: Direction,
    pub failure: Failure,
}

// === impl Code ===

impl Code {
    pub fn new(name: &str, module: wasmtime::Module) -> Self {
        Self {
            name: name.to_owned(),
            module,
        }
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

// === impl Plugin ===

impl Plugin {
    /// A plugin as the deployment configures it: `vm_id` and root are called `meshmeter`, traps are
    /// harmless.
    pub fn new(code: Code, role: Role, configuration: &str) -> Self {
        Self {
            name: "meshmeter".to_owned(),
            root_id: "meshmeter".to_owned(),
            vm_id: "meshmeter".to_owned(),
            configuration: configuration.to_owned(),
            code,
            role,
            direction: Direction::Inbound,
            failure: Failure::Open,
        }
    }

    /// The same plugin on a listener of another direction.
    #[must_use]
    pub fn on(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Two plugins of one key share their VMs.
    pub(crate) fn vm_key(&self) -> VmKey {
        VmKey {
            vm_id: self.vm_id.clone(),
            code: self.code.name.clone(),
        }
    }

    /// Two plugins of one key in one VM share their root context. The direction is part of it for
    /// HTTP filters alone: Envoy makes access loggers without one, so that those of all listeners
    /// share a root.
    pub(crate) fn root_key(&self) -> RootKey {
        let direction = match self.role {
            Role::Filter => self.direction,
            Role::AccessLog | Role::UpstreamLog => Direction::Unspecified,
        };
        RootKey {
            root_id: self.root_id.clone(),
            configuration: self.configuration.clone(),
            name: self.name.clone(),
            direction,
        }
    }
}

/// What tells base VMs apart.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct VmKey {
    pub(crate) vm_id: String,
    code: String,
}

/// What tells the root contexts of a VM apart.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct RootKey {
    root_id: String,
    configuration: String,
    name: String,
    direction: Direction,
}
