//! Checks formats of access logs. Envoy rejects a listener whose format has a command operator that
//! it does not know.
//! <https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#command-operators>

/// Without an argument.
const PLAIN: [&str; 43] = [
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "CONNECTION_ID",
    "CONNECTION_TERMINATION_DETAILS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "DURATION",
    "FILTER_CHAIN_NAME",
    "HOSTNAME",
    "PROTOCOL",
    "REQUESTED_SERVER_NAME",
    "REQUEST_DURATION",
    "REQUEST_TX_DURATION",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_DURATION",
    "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG",
    "RESPONSE_TX_DURATION",
    "ROUTE_NAME",
    "START_TIME",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_HOST",
    "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "VIRTUAL_CLUSTER_NAME",
];

/// With the name of a header, or of two (`X?Y`).
const OF_HEADER: [&str; 3] = ["REQ", "RESP", "TRAILER"];

pub(super) fn fault(field: &str, format: &str) -> Option<String> {
    if format.is_empty() {
        return Some(format!("{field}: an empty format logs nothing"));
    }
    let operator = bad_operator(format)?;
    Some(format!(
        "{field}: {operator:?} is not a command operator that is served; a percent sign is %%"
    ))
}

/// The first one that is not known to be good.
fn bad_operator(format: &str) -> Option<&str> {
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        let after = &rest[start + 1..];
        if let Some(next) = after.strip_prefix('%') {
            rest = next;
            continue;
        }
        let Some(end) = after.find('%') else {
            return Some(&rest[start..]);
        };
        let operator = &after[..end];
        if !is_good(operator) {
            return Some(operator);
        }
        rest = &after[end + 1..];
    }
    None
}

fn is_good(operator: &str) -> bool {
    let Some((name, rest)) = operator.split_once('(') else {
        return PLAIN.contains(&operator);
    };
    let Some((argument, length)) = rest.split_once(')') else {
        return false;
    };
    let is_length = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length_is_good = length.is_empty() || {
        let digits = length.strip_prefix(':');
        digits.is_some_and(|digits| is_length(digits) && digits.len() <= 5)
    };
    let mut names = argument.split('?');
    let is_name = |name: &str| {
        let mut bytes = name.strip_prefix(':').unwrap_or(name).bytes();
        !name.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let few = argument.split('?').count() <= 2;
    OF_HEADER.contains(&name) && length_is_good && few && names.all(is_name)
}

#[cfg(test)]
mod tests {
    use super::bad_operator;

    #[test]
    fn operators_are_those_of_envoy() {
        for good in [
            "plain",
            "100 %%",
            "texttesting %PROTOCOL%:%DURATION%\n",
            "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH):20% %RESP(grpc-status)%",
            "[%START_TIME%] %RESPONSE_CODE% %UPSTREAM_CLUSTER%",
        ] {
            assert_eq!(bad_operator(good), None, "{good}");
        }
        for (bad, operator) in [
            ("50 %", "%"),
            ("%NOTHING%", "NOTHING"),
            ("%PROTOCOL(x)%", "PROTOCOL(x)"),
            ("%REQ%", "REQ"),
            ("%REQ()%", "REQ()"),
            ("%REQ(a?b?c)%", "REQ(a?b?c)"),
            ("%REQ(a):%", "REQ(a):"),
            ("%REQ(a%", "REQ(a"),
            ("%protocol%", "protocol"),
        ] {
            assert_eq!(bad_operator(bad), Some(operator), "{bad}");
        }
    }
}
