//! Syntax of names, addresses and references.

use std::net::IpAddr;

use crate::options::Address;

/// Longest DNS label, in bytes. Names have to be labels, since they become volume names too.
const LABEL_BYTES_MAX: usize = 63;
/// Longest DNS name, in bytes.
const HOST_BYTES_MAX: usize = 253;
/// Longest image reference, path or URL, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

pub(crate) fn is_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    (1..=LABEL_BYTES_MAX).contains(&bytes.len())
        && bytes.iter().all(inner)
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last() != Some(&b'-')
}

pub(crate) fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let end = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    bytes.len() <= LABEL_BYTES_MAX
        && bytes.iter().all(inner)
        && end(bytes.first())
        && end(bytes.last())
}

pub(crate) fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(is_host)
}

pub(crate) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        let end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        let inner = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
        bytes.len() <= LABEL_BYTES_MAX
            && bytes.iter().all(inner)
            && end(bytes.first())
            && end(bytes.last())
    };
    host.len() <= HOST_BYTES_MAX && host.split('.').all(label)
}

pub(crate) fn is_address(address: &Address) -> bool {
    address.port != 0 && (is_ip(address) || is_host(&address.host))
}

/// Whether the host is an IP address, not a name.
pub(crate) fn is_ip(address: &Address) -> bool {
    address.host.parse::<IpAddr>().is_ok()
}

pub(crate) fn is_image(image: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/@".contains(&b);
    is_text(image) && image.bytes().all(inner) && !image.contains("://")
}

pub(crate) fn is_text(text: &str) -> bool {
    (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}
