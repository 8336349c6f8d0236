//! Host names of a gateway's routes. A request has the rules of the most specific name that it
//! matches, so that each name gets all rules that may match requests to it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use mesh_control_plane::resources::HostnameMatch;

/// Longest host name, in bytes.
const NAME_BYTES_MAX: usize = 253;

/// Items of `hostnames`, as Gateway API writes them; an error is why it does not take the name.
pub(crate) fn names(hostname: &HostnameMatch) -> Result<Vec<String>, String> {
    let names = match hostname {
        HostnameMatch::Exact(host) => vec![host.to_ascii_lowercase()],
        HostnameMatch::Suffix(suffix) => {
            let suffix = suffix.to_ascii_lowercase();
            match suffix.strip_prefix('.') {
                Some(_) => vec![format!("*{suffix}")],
                None => vec![suffix.clone(), format!("*.{suffix}")],
            }
        }
    };
    let refused = names.iter().find(|name| !is_name(name));
    match refused {
        None => Ok(names),
        Some(name) => Err(format!("Gateway API does not take the host name {name}")),
    }
}

/// Names by the indices of the routes that may match requests to them; no name for all others.
pub(crate) fn groups(hostnames: &[Option<&HostnameMatch>]) -> BTreeMap<Vec<usize>, Vec<String>> {
    let mut all: Vec<String> = hostnames
        .iter()
        .flatten()
        .filter_map(|hostname| names(hostname).ok())
        .flatten()
        .collect();
    all.sort();
    all.dedup();
    let mut groups: BTreeMap<Vec<usize>, Vec<String>> = BTreeMap::new();
    for name in all {
        let host = match name.strip_prefix('*') {
            Some(suffix) => HostnameMatch::Suffix(suffix.to_owned()),
            None => HostnameMatch::Exact(name.clone()),
        };
        let is_matched =
            |of: Option<&HostnameMatch>| of.is_none_or(|hostname| host.is_within(hostname));
        groups
            .entry(indices(hostnames, is_matched))
            .or_default()
            .push(name);
    }
    let others = indices(hostnames, |of| of.is_none());
    // What has no name is for every host.
    if !others.is_empty() {
        groups.insert(others, Vec::new());
    }
    groups
}

fn indices(
    hostnames: &[Option<&HostnameMatch>],
    is_matched: impl Fn(Option<&HostnameMatch>) -> bool,
) -> Vec<usize> {
    let all = hostnames.iter().enumerate();
    all.filter(|(_, hostname)| is_matched(**hostname))
        .map(|(index, _)| index)
        .collect()
}

fn is_name(name: &str) -> bool {
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = |label: &str| {
        let is_bounded = !label.starts_with('-') && !label.ends_with('-');
        !label.is_empty() && is_bounded && label.bytes().all(is_plain)
    };
    name.len() <= NAME_BYTES_MAX
        && labels.split('.').all(is_label)
        && labels.parse::<Ipv4Addr>().is_err()
}

/// Whether it can be the host that a filter writes.
pub(crate) fn is_precise(name: &str) -> bool {
    !name.starts_with('*') && is_name(name)
}
