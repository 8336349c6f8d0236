//! Command line values for roles and directions.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use common_names::Role;
use mesh_core::injection::{Carrier, Directions};

/// A parser for these values, each with name and help.
pub(crate) fn one_of<T: Copy + Send + Sync>(
    choices: &'static [(T, &str, &str)],
) -> impl TypedValueParser<Value = T> {
    let values = choices
        .iter()
        .map(|(_, name, help)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(values).try_map(|given| {
        let chosen = choices.iter().find(|(_, name, _)| *name == given);
        chosen.map(|(value, ..)| *value).ok_or("no such choice")
    })
}

pub(crate) const ROLES: &[(Role, &str, &str)] = &[
    (
        Role::Filter,
        "filter",
        "In an HTTP filter, from their beginning",
    ),
    (
        Role::AccessLog,
        "access-log",
        "In an access logger, when they have ended",
    ),
];

pub(crate) const CARRIERS: &[(Carrier, &str, &str)] = &[
    (Carrier::Wasm, "wasm", "A Wasm module, in a sandbox"),
    (
        Carrier::Module,
        "module",
        "A dynamic module of Envoy 1.38 and newer: faster, without a sandbox",
    ),
];

pub(crate) const DIRECTIONS: &[(Directions, &str, &str)] = &[
    (Directions::Inbound, "inbound", "Towards the application"),
    (Directions::Outbound, "outbound", "From the application"),
    (Directions::Both, "both", "Both"),
];
