//! What requests a rule is for, as Gateway API says it.

use std::collections::BTreeMap;

use mesh_control_plane::resources::{
    GrpcMatch, HeaderMatch, HttpMatch, Method, PathMatch, Protocol, ValueMatch,
};
use serde_json::{Value, json};

use crate::finding::Lack;

/// Longest name of a header or query parameter, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Longest path, in bytes.
const PATH_BYTES_MAX: usize = 1024;

/// Headers, and query parameters, of a match at most.
pub(crate) const CONDITIONS_MAX: usize = 16;

/// All conditions have to hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Match {
    pub(crate) path: Path,
    pub(crate) method: Option<Method>,
    /// By name in lower case: Gateway API looks at the first condition of a name only.
    pub(crate) headers: BTreeMap<String, Condition>,
    pub(crate) parameters: BTreeMap<String, Condition>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Path {
    Exact(String),
    /// Of whole elements, without a `/` at the end; `/` for all paths.
    Prefix(String),
    /// Of the whole path, without anchors.
    Regex(String),
    /// Of gRPC.
    Call {
        service: Option<String>,
        method: Option<String>,
    },
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Condition {
    Exact(String),
    /// Of the whole value, without anchors.
    Regex(String),
    /// Any value.
    Present,
}

/// Something to say about a field of a match: its path from `match`, and why.
pub(crate) struct Remark {
    pub(crate) lack: Lack,
    pub(crate) field: String,
    pub(crate) why: String,
}

/// A condition that Gateway API cannot say.
pub(crate) struct Unsayable {
    /// From `match`, with indices.
    pub(crate) field: String,
    /// "" for the reason of the table.
    pub(crate) why: String,
}

// === impl Match ===

impl Match {
    pub(crate) fn everything(protocol: Protocol) -> Self {
        Self::new(match protocol {
            Protocol::Grpc => Path::Call {
                service: None,
                method: None,
            },
            Protocol::Http | Protocol::Http2 | Protocol::Tcp => Path::Prefix("/".to_owned()),
        })
    }

    fn new(path: Path) -> Self {
        Self {
            path,
            method: None,
            headers: BTreeMap::new(),
            parameters: BTreeMap::new(),
        }
    }

    pub(crate) fn http(matched: &HttpMatch, remarks: &mut Vec<Remark>) -> Result<Self, Unsayable> {
        if matched.scheme.is_some() {
            return Err(Unsayable::by_table("scheme"));
        }
        let mut own = Self::new(Path::http(matched, remarks)?);
        own.method = matched.method;
        own.headers = headers("headers", &matched.headers, remarks)?;
        for (index, parameter) in matched.query_parameters.iter().enumerate() {
            let field = format!("queryParameters[{index}]");
            let exact = parameter.r#match.as_ref();
            let condition = match exact.and_then(|value| value.exact.clone()) {
                None => Condition::Present,
                // An empty value is none in Gateway API.
                Some(exact) if exact.is_empty() => Condition::Regex(String::new()),
                Some(exact) if exact.len() > PATH_BYTES_MAX => {
                    let why = format!("Gateway API takes {PATH_BYTES_MAX} bytes at most");
                    return Err(Unsayable { field, why });
                }
                Some(exact) => Condition::Exact(exact),
            };
            add(
                &mut own.parameters,
                parameter.name.clone(),
                condition,
                &field,
            )?;
        }
        Ok(own)
    }

    pub(crate) fn grpc(matched: &GrpcMatch, remarks: &mut Vec<Remark>) -> Result<Self, Unsayable> {
        let (service, method) = (matched.service_name.clone(), matched.method_name.clone());
        let mut names = service.iter().flat_map(|service| service.split('.'));
        if !names.all(is_identifier) {
            return Err(Unsayable::new(
                "serviceName",
                "it is not the name of a gRPC service",
            ));
        }
        if !method.as_deref().is_none_or(is_identifier) {
            return Err(Unsayable::new(
                "methodName",
                "it is not the name of a gRPC method",
            ));
        }
        let mut own = Self::new(Path::Call { service, method });
        own.headers = headers("metadata", &matched.metadata, remarks)?;
        Ok(own)
    }

    /// An item of `matches`.
    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({});
        match &self.path {
            Path::Exact(path) => value["path"] = json!({"type": "Exact", "value": path}),
            Path::Prefix(path) => value["path"] = json!({"type": "PathPrefix", "value": path}),
            Path::Regex(text) => {
                value["path"] = json!({"type": "RegularExpression", "value": anchored(text)});
            }
            Path::Call { service, method } => {
                let mut call = json!({"type": "Exact"});
                if let Some(service) = service {
                    call["service"] = json!(service);
                    value["method"] = call.clone();
                }
                if let Some(method) = method {
                    call["method"] = json!(method);
                    value["method"] = call;
                }
            }
        }
        if let Some(method) = self.method {
            value["method"] = json!(method.as_str());
        }
        for (field, conditions) in [
            ("headers", &self.headers),
            ("queryParams", &self.parameters),
        ] {
            if !conditions.is_empty() {
                let items = conditions.iter();
                let items = items.map(|(name, condition)| condition.to_value(name));
                value[field] = items.collect();
            }
        }
        value
    }
}

// === impl Path ===

impl Path {
    /// Whether each request has it.
    pub(crate) fn is_everything(&self) -> bool {
        match self {
            Self::Prefix(path) => path == "/",
            Self::Call { service, method } => service.is_none() && method.is_none(),
            Self::Exact(_) | Self::Regex(_) => false,
        }
    }

    fn http(matched: &HttpMatch, remarks: &mut Vec<Remark>) -> Result<Self, Unsayable> {
        let (field, text, exact) = match (&matched.path, &matched.prefix) {
            (Some(PathMatch::Regex(text)), _) => {
                remarks.push(Remark::dialect("path.regex"));
                return Ok(Self::Regex(text.clone()));
            }
            (Some(PathMatch::Exact(path)), _) => ("path.exact", path.as_str(), true),
            (None, prefix) => ("prefix", prefix.as_deref().unwrap_or("/"), false),
        };
        if let Some(why) = path_fault(text) {
            return Err(Unsayable::new(field, why));
        }
        if exact {
            return Ok(Self::Exact(text.to_owned()));
        }
        let whole = text.trim_end_matches('/');
        if whole.is_empty() {
            return Ok(Self::Prefix("/".to_owned()));
        }
        let why = if whole == text {
            format!(
                "App Mesh compares characters and Gateway API elements of the path: {text}… is not matched any more, only {text} and {text}/…"
            )
        } else {
            format!("Gateway API ignores the / at the end of a prefix: {whole} is matched too")
        };
        remarks.push(Remark {
            lack: Lack::Different,
            field: field.to_owned(),
            why,
        });
        Ok(Self::Prefix(whole.to_owned()))
    }
}

/// What the rules of the schemas refuse.
fn path_fault(path: &str) -> Option<&'static str> {
    let is_taken =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@%".contains(&byte);
    let mut escapes = path.split('%').skip(1);
    let is_escape = |rest: &str| {
        let mut digits = rest.bytes().take(2);
        let count = digits.by_ref().filter(u8::is_ascii_hexdigit).count();
        count == 2 && !rest.to_ascii_lowercase().starts_with("2f")
    };
    if path.len() > PATH_BYTES_MAX {
        return Some("Gateway API takes 1024 bytes at most");
    }
    if !path.bytes().all(is_taken) || !escapes.all(is_escape) {
        return Some("Gateway API takes the characters of a path only, and no %2F");
    }
    let has_dots = ["/./", "/../", "//"].iter().any(|part| path.contains(part));
    if has_dots || path.ends_with("/.") || path.ends_with("/..") {
        return Some("Gateway API takes no empty elements of a path, and no . and ..");
    }
    None
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    bytes.next().is_some_and(is_letter)
        && bytes.all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

fn headers(
    list: &str,
    headers: &[HeaderMatch],
    remarks: &mut Vec<Remark>,
) -> Result<BTreeMap<String, Condition>, Unsayable> {
    let mut conditions = BTreeMap::new();
    for (index, header) in headers.iter().enumerate() {
        let field = format!("{list}[{index}]");
        if header.invert {
            return Err(Unsayable::by_table(&format!("{field}.invert")));
        }
        if header.name.starts_with(':') {
            let why = "Gateway API matches no pseudo headers";
            return Err(Unsayable::new(&format!("{field}.name"), why));
        }
        let Some(condition) = Condition::of(header.r#match.as_ref()) else {
            return Err(Unsayable::by_table(&format!("{field}.match.range")));
        };
        if !matches!(condition, Condition::Exact(_)) {
            remarks.push(Remark::dialect(&field));
        }
        add(
            &mut conditions,
            header.name.to_ascii_lowercase(),
            condition,
            &field,
        )?;
    }
    Ok(conditions)
}

fn add(
    conditions: &mut BTreeMap<String, Condition>,
    name: String,
    condition: Condition,
    field: &str,
) -> Result<(), Unsayable> {
    if name.len() > NAME_BYTES_MAX || !name.bytes().all(is_token) {
        return Err(Unsayable::new(field, "Gateway API does not take this name"));
    }
    let joined = match conditions.get(&name) {
        None => Some(condition),
        Some(before) => match before.and(&condition) {
            Overlap::Both(joined) => Some(joined),
            Overlap::None | Overlap::Unknown => None,
        },
    };
    let why = "Gateway API takes one condition for a name: join them in a regular expression";
    let joined = joined.ok_or_else(|| Unsayable::new(field, why))?;
    conditions.insert(name, joined);
    Ok(())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Implementations differ in whether an expression has to match all of a text.
fn anchored(text: &str) -> String {
    format!("^(?:{text})$")
}

// === impl Condition ===

/// What two conditions have in common.
pub(crate) enum Overlap<T> {
    None,
    Both(T),
    /// Something perhaps, which no match can say.
    Unknown,
}

impl Condition {
    /// `None` for a range.
    fn of(value: Option<&ValueMatch>) -> Option<Self> {
        Some(match value {
            None => Self::Present,
            Some(ValueMatch::Exact(text)) => Self::Exact(text.clone()),
            Some(ValueMatch::Prefix(text)) => {
                Self::Regex(format!("{}.*", regex_syntax::escape(text)))
            }
            Some(ValueMatch::Suffix(text)) => {
                Self::Regex(format!(".*{}", regex_syntax::escape(text)))
            }
            Some(ValueMatch::Regex(text)) => Self::Regex(text.clone()),
            Some(ValueMatch::Range(_)) => return None,
        })
    }

    pub(crate) fn and(&self, other: &Self) -> Overlap<Self> {
        match (self, other) {
            (one, other) if one == other => Overlap::Both(one.clone()),
            (Self::Present, one) | (one, Self::Present) => Overlap::Both(one.clone()),
            (Self::Exact(_), Self::Exact(_)) => Overlap::None,
            _ => Overlap::Unknown,
        }
    }

    fn to_value(&self, name: &str) -> Value {
        let (kind, value) = match self {
            Self::Exact(text) => ("Exact", text.clone()),
            Self::Regex(text) => ("RegularExpression", anchored(text)),
            Self::Present => ("RegularExpression", "^.*$".to_owned()),
        };
        json!({"name": name, "type": kind, "value": value})
    }
}

// === impl Remark ===

impl Remark {
    fn dialect(field: &str) -> Self {
        Self {
            lack: Lack::Unspecified,
            field: field.to_owned(),
            why: "it becomes a regular expression, which an implementation need not know: check that yours does, and as RE2".to_owned(),
        }
    }
}

// === impl Unsayable ===

impl Unsayable {
    fn new(field: &str, why: &str) -> Self {
        Self {
            field: field.to_owned(),
            why: why.to_owned(),
        }
    }

    fn by_table(field: &str) -> Self {
        Self::new(field, "")
    }
}
