//! A strict reader of Gateway API resources: the schemas of both channels, and their rules in CEL
//! about what is printed.

use mesh_convert::Channel;
use serde_json::{Value, json};
use tests_manifests::{check_object, check_schema};

use crate::{EVERY_FIELD, GATEWAYS, converted};

macro_rules! schemas {
    ($channel:literal, $($file:literal),+) => {
        [$(($file, include_str!(concat!("../schemas/", $channel, "/", $file, ".json")))),+]
    };
}

static EXPERIMENTAL: [(&str, &str); 6] = schemas![
    "experimental",
    "BackendTLSPolicy.v1",
    "GRPCRoute.v1",
    "Gateway.v1",
    "HTTPRoute.v1",
    "ReferenceGrant.v1beta1",
    "TCPRoute.v1alpha2"
];
static STANDARD: [(&str, &str); 5] = schemas![
    "standard",
    "BackendTLSPolicy.v1",
    "GRPCRoute.v1",
    "Gateway.v1",
    "HTTPRoute.v1",
    "ReferenceGrant.v1beta1"
];

/// Reads all documents; panics with the first that an API server would not take.
pub(crate) fn read_strictly(documents: &[Value], channel: Channel) {
    for document in documents {
        if let Err(error) = check(document, channel) {
            panic!("{error}: {document:#}");
        }
    }
}

fn check(document: &Value, channel: Channel) -> Result<(), String> {
    let api_version = document["apiVersion"].as_str().unwrap();
    let Some(version) = api_version.strip_prefix("gateway.networking.k8s.io/") else {
        let read = check_object(document.clone());
        return read.map(|_| ()).map_err(|error| format!("{error:#}"));
    };
    let schemas: &[(&str, &str)] = match channel {
        Channel::Standard => &STANDARD,
        Channel::Experimental => &EXPERIMENTAL,
    };
    let name = format!("{}.{version}", document["kind"].as_str().unwrap());
    let schema = schemas.iter().find(|(file, _)| *file == name);
    let (_, schema) = schema.ok_or_else(|| format!("no kind {name} in the channel"))?;
    let schema: Value = serde_json::from_str(schema).unwrap();
    check_schema(&schema, document).map_err(|error| format!("{error:#}"))?;
    rules(document)
}

/// The rules in CEL, by hand.
fn rules(document: &Value) -> Result<(), String> {
    let spec = &document["spec"];
    if document["kind"] == "Gateway" {
        return listener_rules(&spec["listeners"]);
    }
    if document["kind"] == "BackendTLSPolicy" {
        return name_rules(&spec["validation"]);
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let parents = list(&spec["parentRefs"]);
    let mut names: Vec<_> = parents
        .iter()
        .map(|one| {
            let field = |name: &str| one[name].to_string();
            (field("name"), field("port"), field("sectionName"))
        })
        .collect();
    names.sort();
    names.dedup();
    let refuse = |is_refused: bool, why: &str| {
        if is_refused {
            Err(why.to_owned())
        } else {
            Ok(())
        }
    };
    refuse(names.len() != parents.len(), "a parent is there twice")?;
    let mut matches = 0;
    for rule in list(&spec["rules"]) {
        matches += list(&rule["matches"]).len();
        for backend in list(&rule["backendRefs"]) {
            refuse(backend["port"].is_null(), "a Service without a port")?;
        }
        let millis = |field: &str| rule["timeouts"][field].as_str().map(millis);
        let (request, one) = (millis("request"), millis("backendRequest"));
        let is_longer = request
            .zip(one)
            .is_some_and(|(request, one)| request > 0 && one > request);
        refuse(is_longer, "backendRequest is longer than request")?;
        let has_prefix =
            |filter: &Value| filter["urlRewrite"]["path"]["type"] == "ReplacePrefixMatch";
        let all = list(&rule["matches"]);
        let is_of_prefix = all.len() == 1 && all[0]["path"]["type"] == "PathPrefix";
        refuse(
            list(&rule["filters"]).iter().any(has_prefix) && !is_of_prefix,
            "replacePrefixMatch without exactly one prefix",
        )?;
        for matched in all {
            path_rules(&matched["path"])?;
            call_rules(&matched["method"])?;
        }
    }
    refuse(matches > 128, "more than 128 matches")
}

fn listener_rules(listeners: &Value) -> Result<(), String> {
    let listeners = listeners.as_array().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for listener in listeners {
        let is_new =
            seen.insert(listener["name"].to_string()) && seen.insert(listener["port"].to_string());
        let certificates = listener["tls"]["certificateRefs"].as_array();
        let has_certificate = certificates.is_some_and(|list| !list.is_empty());
        let is_taken = match listener["protocol"].as_str().unwrap() {
            "HTTPS" => has_certificate,
            _ => listener["tls"].is_null(),
        };
        if !is_new || !is_taken {
            return Err(format!("the listener {listener}"));
        }
    }
    Ok(())
}

/// Of `BackendTLSPolicy`, as far as they are about what is printed.
fn name_rules(validation: &Value) -> Result<(), String> {
    let names = validation["subjectAltNames"].as_array();
    let is_taken = |name: &Value| match name["type"].as_str() {
        Some("Hostname") => name["hostname"].is_string() && name["uri"].is_null(),
        _ => name["uri"].is_string() && name["hostname"].is_null(),
    };
    if !names.is_none_or(|names| names.iter().all(is_taken)) {
        return Err(format!("the names {}", validation["subjectAltNames"]));
    }
    let authorities = validation["caCertificateRefs"].as_array();
    if authorities.is_none_or(Vec::is_empty) {
        return Err("no certificate authorities".to_owned());
    }
    Ok(())
}

fn path_rules(path: &Value) -> Result<(), String> {
    let Some(value) = path["value"].as_str() else {
        return Ok(());
    };
    if path["type"] == "RegularExpression" {
        return Ok(());
    }
    let characters = regex::Regex::new(r"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$");
    let parts = ["//", "/./", "/../", "%2f", "%2F", "#"];
    let is_taken = value.starts_with('/')
        && characters.unwrap().is_match(value)
        && !parts.iter().any(|part| value.contains(part))
        && !value.ends_with("/..")
        && !value.ends_with("/.");
    if is_taken {
        Ok(())
    } else {
        Err(format!("the path {value}"))
    }
}

fn call_rules(call: &Value) -> Result<(), String> {
    if !call.is_object() {
        return Ok(());
    }
    let service = regex::Regex::new(r"^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$").unwrap();
    let method = regex::Regex::new(r"^[A-Za-z_][A-Za-z_0-9]*$").unwrap();
    let is_taken =
        |name: &Value, names: &regex::Regex| name.as_str().is_none_or(|name| names.is_match(name));
    let some = call["service"].is_string() || call["method"].is_string();
    if some && is_taken(&call["service"], &service) && is_taken(&call["method"], &method) {
        Ok(())
    } else {
        Err(format!("the method {call}"))
    }
}

/// As of GEP-2257.
pub(crate) fn millis(text: &str) -> u64 {
    let (mut sum, mut number, mut unit) = (0, String::new(), String::new());
    for c in text.chars().chain(['0']) {
        if c.is_ascii_digit() && !unit.is_empty() {
            let factor = match unit.as_str() {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1_000,
                "ms" => 1,
                _ => panic!("{text}"),
            };
            sum += number.parse::<u64>().unwrap() * factor;
            (number, unit) = (String::new(), String::new());
        }
        if c.is_ascii_digit() {
            number.push(c);
        } else {
            unit.push(c);
        }
    }
    sum
}

/// The reader finds what an API server would: (change of a good route, part of the message).
#[test]
fn the_reader_is_strict() {
    let conversion = converted(EVERY_FIELD, Channel::Experimental);
    let routes = conversion.documents.iter();
    let good = routes.clone().find(|document| {
        document["kind"] == "HTTPRoute"
            && document["spec"]["rules"][0]["matches"][0]["path"]["type"] == "PathPrefix"
    });
    let good = good.unwrap();
    assert_eq!(check(good, Channel::Experimental), Ok(()));
    for (pointer, value, part) in [
        (
            "/spec/rules/0/matches/0/path/type",
            json!("Prefix"),
            "Prefix",
        ),
        (
            "/spec/rules/0/matches/0/path/value",
            json!("a"),
            "the path a",
        ),
        (
            "/spec/rules/0/backendRefs/0/weight",
            json!(1_000_001),
            "1000000",
        ),
        ("/spec/rules/0/backendRefs/0/port", json!(0), "minimum"),
        ("/spec/rules/0/timeouts/request", json!("1.5s"), "1.5s"),
        (
            "/spec/parentRefs/0",
            json!({"name": "a", "prot": 1}),
            "prot",
        ),
        ("/spec/rules/0/retry/codes", json!([399]), "400"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer)
            .unwrap_or_else(|| panic!("{pointer}")) = value;
        let error = check(&bad, Channel::Experimental).unwrap_err();
        assert!(error.contains(part), "{pointer}: {error}");
    }
    let error = check(good, Channel::Standard).unwrap_err();
    assert!(error.contains("retry"), "{error}");
}

#[test]
fn every_field_is_read_by_both_channels() {
    for channel in [Channel::Standard, Channel::Experimental] {
        for text in [EVERY_FIELD, GATEWAYS] {
            let conversion = converted(text, channel);
            assert!(conversion.documents.len() > 5);
            read_strictly(&conversion.documents, channel);
        }
    }
}
