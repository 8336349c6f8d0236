//! Validates options, and whether the target supports them.

use common_names::Role;
use mesh_core::injection::Carrier;
use thiserror::Error;

use crate::options::{Options, Target};
use syntax::{
    is_address, is_host, is_image, is_ip, is_label, is_label_key, is_label_value, is_text,
};
use targets::{Required, Supported};

pub(crate) mod syntax;
mod targets;

/// The filter accepts at most this many aggregators.
const AGGREGATORS_MAX: usize = 4;

/// An option that is invalid, unsupported or missing.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Refused {
    #[error("--{option}: {why}")]
    Value { option: &'static str, why: String },
    #[error("--{option} cannot be rendered for {target}: {why}", target = target.as_str())]
    Unsupported {
        option: &'static str,
        target: Target,
        /// The reason, or an alternative.
        why: &'static str,
    },
    #[error("--{option} is needed for {target}: {why}", target = target.as_str())]
    Missing {
        option: &'static str,
        target: Target,
        why: &'static str,
    },
}

/// Fails with the first invalid option.
pub(crate) fn all(target: Target, options: &Options) -> Result<(), Refused> {
    names(options)?;
    aggregators(options)?;
    modules(options)?;
    carrier(options)?;
    let unsupported = |row: &&Supported| !row.by.contains(&target) && (row.given)(options);
    if let Some(row) = targets::SUPPORTED.iter().find(unsupported) {
        return Err(Refused::Unsupported {
            option: row.option,
            target,
            why: row.else_why,
        });
    }
    let missing = |row: &&Required| row.by.contains(&target) && !(row.given)(options);
    match targets::REQUIRED.iter().find(missing) {
        Some(row) => Err(Refused::Missing {
            option: row.option,
            target,
            why: row.what,
        }),
        None => Ok(()),
    }
}

pub(crate) fn value(option: &'static str, why: impl Into<String>) -> Refused {
    let why = why.into();
    Refused::Value { option, why }
}

fn ensure(holds: bool, option: &'static str, why: impl Into<String>) -> Result<(), Refused> {
    if holds {
        return Ok(());
    }
    Err(value(option, why))
}

fn names(options: &Options) -> Result<(), Refused> {
    let why = "a DNS label is expected: at most 63 of a-z, 0-9 and hyphens, a letter first, no hyphen last";
    ensure(is_label(&options.name), "name", why)?;
    for (option, name) in [
        ("namespace", &options.namespace),
        ("workload", &options.workload),
    ] {
        let fits = name.as_ref().is_none_or(|name| is_label(name));
        ensure(fits, option, why)?;
    }
    for (key, label) in &options.selector {
        ensure(
            is_label_key(key) && is_label_value(label),
            "selector",
            "KEY=VALUE of a label is expected",
        )?;
    }
    Ok(())
}

fn aggregators(options: &Options) -> Result<(), Refused> {
    let count = options.aggregators.len();
    ensure(
        (1..=AGGREGATORS_MAX).contains(&count),
        "aggregator",
        format!("1 to {AGGREGATORS_MAX} are allowed"),
    )?;
    let why = "HOST:PORT is expected, a DNS name or an address";
    for address in &options.aggregators {
        ensure(is_address(address), "aggregator", why)?;
    }
    let application = options.application.as_ref();
    let fits = application.is_none_or(is_address);
    ensure(fits, "application", why)?;
    let name = options.aggregator_server_name.as_deref();
    ensure(
        name.is_none_or(is_host),
        "aggregator-server-name",
        "a DNS name is expected",
    )?;
    let Some(ca) = &options.aggregator_ca else {
        let why = "it needs TLS: --aggregator-ca-file";
        ensure(!options.aggregator_token, "aggregator-token", why)?;
        let file = options.aggregator_token_file.is_some();
        ensure(!file, "aggregator-token-file", why)?;
        return ensure(name.is_none(), "aggregator-server-name", why);
    };
    let is_pem = ca.contains("-----BEGIN CERTIFICATE-----");
    ensure(
        is_pem,
        "aggregator-ca-file",
        "a PEM certificate is expected",
    )?;
    let ips = options.aggregators.iter().any(is_ip);
    let why = "an aggregator by IP address needs the name in its certificate";
    ensure(!ips || name.is_some(), "aggregator-server-name", why)
}

/// A dynamic module counts in a process of its own: another module of ours beside it would be
/// another process of the same pod.
fn carrier(options: &Options) -> Result<(), Refused> {
    let file = options.module_file.as_deref();
    let is_native = file.is_some_and(|file| Carrier::of(file) == Carrier::Module);
    if options.carrier == Carrier::Wasm {
        let why = "a dynamic module (.so) needs --carrier module";
        return ensure(!is_native, "module-file", why);
    }
    let why = "the dynamic module plays the role `filter` only";
    ensure(options.role == Role::Filter, "role", why)?;
    ensure(!options.upstream_log, "upstream-log", why)?;
    let why = "--carrier module needs the path of libmeshmeter_filter.so in Envoy's file system";
    ensure(is_native, "module-file", why)
}

fn modules(options: &Options) -> Result<(), Refused> {
    for (option, image) in [
        ("image", &options.image),
        ("module-image", &options.module_image),
    ] {
        let fits = image.as_ref().is_none_or(|image| is_image(image));
        ensure(
            fits,
            option,
            "an image reference is expected, without oci://",
        )?;
    }
    for (option, file) in [
        ("module-file", &options.module_file),
        ("log-module-file", &options.log_module_file),
        ("aggregator-token-file", &options.aggregator_token_file),
    ] {
        let fits = |file: &String| file.starts_with('/') && is_text(file);
        let fits = file.as_ref().is_none_or(fits);
        ensure(fits, option, "an absolute path is expected")?;
    }
    let is_url = |url: &String| {
        let rest = ["http://", "https://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme));
        is_text(url) && !url.contains(' ') && rest.is_some_and(|rest| !rest.is_empty())
    };
    let url = options.module_url.as_ref();
    ensure(
        url.is_none_or(is_url),
        "module-url",
        "http:// or https:// is expected",
    )?;
    let digits =
        |sha256: &String| sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
    let sha256 = options.module_sha256.as_ref();
    ensure(
        sha256.is_none_or(digits),
        "module-sha256",
        "64 hexadecimal digits are expected",
    )?;
    let given = [
        url,
        options.module_image.as_ref(),
        options.module_file.as_ref(),
    ];
    let given = given.iter().flatten().count();
    ensure(
        given <= 1,
        "module-image",
        "--module-image, --module-url and --module-file exclude each other",
    )?;
    let twice = options.image.is_some() && options.module_file.is_some();
    ensure(!twice, "module-file", "--image has the modules already")?;
    let upstream = options.upstream.as_ref();
    ensure(
        upstream.is_none_or(|url| is_text(url)),
        "upstream",
        "a URL is expected",
    )
}
