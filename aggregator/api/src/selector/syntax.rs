//! Rules for keys and values of labels, and their errors.

use thiserror::Error;

/// Bytes of a label's value, and of the name part of its key.
const NAME_BYTES_MAX: usize = 63;

/// Bytes of the prefix of a label's key.
const PREFIX_BYTES_MAX: usize = 253;

/// Why a text is no selector, in the words of Kubernetes.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum SyntaxError {
    /// An unexpected token between requirements.
    #[error("found '{found}', expected: {expected}")]
    List {
        /// The token; "" at the end of the text.
        found: String,
        expected: &'static str,
    },
    /// An unexpected token within a requirement.
    #[error("unable to parse requirement: found '{found}', expected: {expected}")]
    Token {
        /// The token; "" at the end of the text.
        found: String,
        expected: &'static str,
    },
    #[error("unable to parse requirement: key: Invalid value: \"{key}\": {rule}")]
    Key { key: String, rule: &'static str },
    #[error(
        "unable to parse requirement: values[{index}][{key}]: Invalid value: \"{value}\": {rule}"
    )]
    Value {
        key: String,
        /// Index among the requirement's values.
        index: usize,
        value: String,
        rule: &'static str,
    },
    /// `in ()`
    #[error(
        "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    )]
    NoValues,
    /// `key>x` where x is no number.
    #[error(
        "unable to parse requirement: values[0]: Invalid value: \"{0}\": for 'Gt', 'Lt' operators, the value must be an integer"
    )]
    NotANumber(String),
}

const NAME_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and \
    end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc')";
const NAME_LENGTH_RULE: &str = "name part must be no more than 63 characters";
const PREFIX_RULE: &str = "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')";
const PREFIX_LENGTH_RULE: &str = "prefix part must be no more than 253 characters";
const SLASH_RULE: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start \
    and end with an alphanumeric character with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345')";
const VALUE_LENGTH_RULE: &str = "must be no more than 63 characters";

/// The rule that `key` breaks as a label's key; `None` if it is valid.
pub fn key_fault(key: &str) -> Option<&'static str> {
    let name = match key.split_once('/') {
        Some((prefix, _)) if prefix.len() > PREFIX_BYTES_MAX => return Some(PREFIX_LENGTH_RULE),
        Some((prefix, _)) if !prefix.split('.').all(is_dns_label) => return Some(PREFIX_RULE),
        Some((_, name)) if name.contains('/') => return Some(SLASH_RULE),
        Some((_, name)) => name,
        None => key,
    };
    if name.len() > NAME_BYTES_MAX {
        return Some(NAME_LENGTH_RULE);
    }
    (!is_name(name)).then_some(NAME_RULE)
}

/// The rule that `value` breaks as a label's value; `None` if it is valid.
pub fn value_fault(value: &str) -> Option<&'static str> {
    if value.len() > NAME_BYTES_MAX {
        return Some(VALUE_LENGTH_RULE);
    }
    (!value.is_empty() && !is_name(value)).then_some(VALUE_RULE)
}

fn is_name(name: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_dns_label(label: &str) -> bool {
    is_name(label)
        && label
            .bytes()
            .all(|byte| !byte.is_ascii_uppercase() && !matches!(byte, b'_' | b'.'))
}
