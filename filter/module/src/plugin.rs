//! The configuration of one filter, as the workers need it.

use filter_core::config::{CONFIG_BYTES_MAX, Config, Module};
use filter_core::host::RootId;
use filter_core::series::{Direction, Role};

/// One filter configuration of Envoy: a root of the VM.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) root: RootId,
    pub(crate) direction: Direction,
    pub(crate) config: Config,
}

// === impl Plugin ===

impl Plugin {
    /// Reads the plugin configuration. What a dynamic module cannot do is refused in a sentence: it
    /// would count nothing or on the wrong side. Lesser faults are logged by the VM and fall back
    /// to defaults, as in Wasm.
    pub(crate) fn parse(root: RootId, text: &[u8]) -> Result<Self, String> {
        if text.len() > CONFIG_BYTES_MAX {
            return Err(format!(
                "plugin configuration: {} bytes, at most {CONFIG_BYTES_MAX}",
                text.len()
            ));
        }
        let (config, _) = Config::parse(text, Module::Native);
        if config.role != Role::Filter {
            return Err(format!(
                "plugin configuration: `role` is \"{}\", and the dynamic module plays `filter` only: take the Wasm \
                 module for access logs",
                config.role.as_str()
            ));
        }
        let Some(direction) = config.direction else {
            return Err(
                "plugin configuration: `direction` is `auto`, and Envoy does not tell a dynamic module the direction \
                 of its listener: set `inbound` or `outbound`"
                    .to_owned(),
            );
        };
        Ok(Self {
            root,
            direction,
            config,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Plugin::parse(RootId(1), text.as_bytes()).unwrap_err()
    }

    /// What would count nothing, or on the wrong side, is refused by name.
    #[test]
    fn what_it_cannot_do_is_refused() {
        assert!(refused(r#"{"role":"access_log","direction":"inbound"}"#).contains("access_log"));
        assert!(refused("{}").contains("`direction` is `auto`"));
        assert!(refused(&" ".repeat(CONFIG_BYTES_MAX + 1)).contains("at most 65536"));
    }

    /// An unknown field is no reason to refuse a listener.
    #[test]
    fn a_lesser_fault_is_accepted() {
        let plugin = Plugin::parse(RootId(7), br#"{"direction":"outbound","nonsense":1}"#).unwrap();
        assert_eq!(
            (plugin.direction, plugin.root),
            (Direction::Outbound, RootId(7))
        );
    }
}
