//! Which requests of browsers go on, and where to. Pure but for the random keys at its beginning.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use aggregator_view::{GROUP, VERSION};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use percent_encoding::percent_decode_str;
use thiserror::Error;

/// Bytes of a key: too many to guess.
const KEY_BYTES: usize = 32;

/// The gate of one run of `ui`.
#[derive(Debug)]
pub(crate) struct Gate {
    /// `127.0.0.1:PORT` and `localhost:PORT`.
    hosts: [String; 2],
    /// Begins the path of every request.
    key: String,
    /// Leads to the key, once.
    ticket: String,
    is_used: AtomicBool,
    /// Path of the first page.
    start: String,
}

/// Where a request goes.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Admitted {
    /// To kube-apiserver, with this path and query.
    Forward(String),
    /// Back to the browser, to another path.
    Redirect(String),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum Refused {
    #[error("only GET is served: the page changes nothing")]
    Method,
    /// A name that leads here is not ours: DNS rebinding.
    #[error("this is not the host of the link that `ui` printed")]
    Host,
    #[error("another site asked for this page")]
    Origin,
    #[error("this is not the link that `ui` printed, or that command was run anew: open its link")]
    Key,
    #[error(
        "this link worked once, for the browser that `ui` started: open the link that it printed"
    )]
    Used,
    #[error("only the page is served here, nothing else of the cluster")]
    Path,
}

// === impl Gate ===

impl Gate {
    /// A gate on `port` with new keys; `start` is the first page's path below the version of the
    /// API group.
    pub(crate) fn new(port: u16, start: &str) -> Self {
        Self {
            hosts: [format!("127.0.0.1:{port}"), format!("localhost:{port}")],
            key: random(),
            ticket: random(),
            is_used: AtomicBool::new(false),
            start: format!("/apis/{GROUP}/{VERSION}/{start}"),
        }
    }

    /// The link to print.
    pub(crate) fn link(&self) -> String {
        let [host, _] = &self.hosts;
        format!("http://{host}{}", self.first())
    }

    /// The link to start a browser with: it works once.
    pub(crate) fn link_for_once(&self) -> String {
        let [host, _] = &self.hosts;
        format!("http://{host}/open/{}", self.ticket)
    }

    fn first(&self) -> String {
        format!("/{}{}", self.key, self.start)
    }

    /// Where a request with this head goes.
    pub(crate) fn admit(&self, head: &Parts) -> Result<Admitted, Refused> {
        if head.method != Method::GET {
            return Err(Refused::Method);
        }
        let host = only(&head.headers, &header::HOST).ok_or(Refused::Host)?;
        if !self
            .hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(host))
        {
            return Err(Refused::Host);
        }
        if head.headers.contains_key(header::ORIGIN) {
            let origin = only(&head.headers, &header::ORIGIN).ok_or(Refused::Origin)?;
            let asking = origin.strip_prefix("http://");
            if !asking.is_some_and(|asking| asking.eq_ignore_ascii_case(host)) {
                return Err(Refused::Origin);
            }
        }
        self.route(head)
    }

    fn route(&self, head: &Parts) -> Result<Admitted, Refused> {
        let path = head.uri.path().strip_prefix('/').ok_or(Refused::Key)?;
        let (key, rest) = path.split_once('/').unwrap_or((path, ""));
        if key == "open" {
            return self.open(rest, &head.headers);
        }
        if !is_equal(key, &self.key) {
            return Err(Refused::Key);
        }
        if rest.is_empty() {
            return Ok(Admitted::Redirect(self.first()));
        }
        if !is_page(rest) {
            return Err(Refused::Path);
        }
        let query = head.uri.query().map(|query| format!("?{query}"));
        Ok(Admitted::Forward(format!(
            "/{rest}{}",
            query.unwrap_or_default()
        )))
    }

    /// Exchanges the ticket for the key.
    fn open(&self, ticket: &str, headers: &HeaderMap) -> Result<Admitted, Refused> {
        // A browser that only guesses what its user wants must not use it up.
        let is_guess = headers.contains_key("sec-purpose") || headers.contains_key("purpose");
        if is_guess || !is_equal(ticket, &self.ticket) {
            return Err(Refused::Key);
        }
        if self.is_used.swap(true, Ordering::Relaxed) {
            return Err(Refused::Used);
        }
        Ok(Admitted::Redirect(self.first()))
    }
}

// === impl Refused ===

impl Refused {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin | Self::Key | Self::Used => StatusCode::FORBIDDEN,
            Self::Path => StatusCode::NOT_FOUND,
        }
    }
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// True for `apis/GROUP/VERSION/page`, the same in a namespace, and one segment behind either.
fn is_page(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').collect();
    let is_name = |segment: &&str| {
        let decoded = percent_decode_str(segment).decode_utf8_lossy();
        !decoded.is_empty()
            && !decoded.contains(['/', '\\', '%'])
            && decoded != "."
            && decoded != ".."
    };
    let ["apis", group, version, rest @ ..] = segments.as_slice() else {
        return false;
    };
    let has_shape = matches!(
        rest,
        ["page"] | ["page", _] | ["namespaces", _, "page"] | ["namespaces", _, "page", _]
    );
    has_shape && *group == GROUP && *version == VERSION && rest.iter().all(is_name)
}

/// Takes as long for a wrong key as for the right one.
fn is_equal(given: &str, key: &str) -> bool {
    let differences = given.bytes().zip(key.bytes()).map(|(a, b)| a ^ b);
    given.len() == key.len() && differences.fold(0, |all, difference| all | difference) == 0
}

fn random() -> String {
    let bytes: [u8; KEY_BYTES] = rand::random();
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn gate() -> Gate {
        Gate::new(8080, "page")
    }

    fn ask(gate: &Gate, path: &str, change: impl FnOnce(&mut Parts)) -> Result<Admitted, Refused> {
        let request = Request::get(path).header("host", "127.0.0.1:8080");
        let mut head = request.body(()).unwrap().into_parts().0;
        change(&mut head);
        gate.admit(&head)
    }

    fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut Parts) {
        move |head| {
            head.headers.insert(name, value.parse().unwrap());
        }
    }

    /// What the page itself asks for goes on, unchanged.
    #[test]
    fn the_page_goes_on() {
        let gate = gate();
        for path in [
            "page",
            "page/system",
            "page/style.css?v=1",
            "page/events?view=overview",
            "namespaces/prod/page",
            "namespaces/prod/page/hpa?name=a%2Fb&at=1",
        ] {
            let upstream = format!("/apis/view.meshmeter.io/v1/{path}");
            let asked = format!("/{}{upstream}", gate.key);
            let expected = Ok(Admitted::Forward(upstream));
            assert_eq!(ask(&gate, &asked, |_| {}), expected);
            let own = set("origin", "http://127.0.0.1:8080");
            assert_eq!(ask(&gate, &asked, own), expected);
            let by_name = set("host", "localhost:8080");
            assert_eq!(ask(&gate, &asked, by_name), expected);
        }
    }

    /// A wrong method, host, origin or key goes nowhere, whatever the path.
    #[test]
    fn others_do_not() {
        let gate = gate();
        let page = gate.first();
        let asked = |change: &dyn Fn(&mut Parts)| ask(&gate, &page, |head| change(head));
        for method in [Method::POST, Method::HEAD, Method::OPTIONS, Method::CONNECT] {
            let refused = asked(&|head| head.method = method.clone());
            assert_eq!(refused, Err(Refused::Method));
        }
        for host in [
            "evil.example:8080",
            "127.0.0.1",
            "127.0.0.1:8081",
            "127.0.0.1:8080.evil.example",
        ] {
            let refused = asked(&|head| {
                head.headers.insert("host", host.parse().unwrap());
            });
            assert_eq!(refused, Err(Refused::Host), "{host}");
        }
        let none = asked(&|head| head.headers.clear());
        assert_eq!(none, Err(Refused::Host));
        let twice = asked(&|head| {
            head.headers
                .append("host", "127.0.0.1:8080".parse().unwrap());
        });
        assert_eq!(twice, Err(Refused::Host));
        for origin in [
            "http://evil.example",
            "null",
            "https://127.0.0.1:8080",
            "http://127.0.0.1:8081",
            "http://localhost:8080",
        ] {
            let refused = asked(&|head| {
                head.headers.insert("origin", origin.parse().unwrap());
            });
            assert_eq!(refused, Err(Refused::Origin), "{origin}");
        }
        let other = Gate::new(8080, "page");
        let short = &gate.key[1..];
        for key in [other.key.as_str(), short, "", "apis", "open/"] {
            let path = format!("/{key}/apis/view.meshmeter.io/v1/page");
            assert_eq!(ask(&gate, &path, |_| {}), Err(Refused::Key), "{path}");
        }
    }

    /// With the key, too, nothing else of the cluster is reached.
    #[test]
    fn nothing_but_the_page_is_reached() {
        let gate = gate();
        for path in [
            "api/v1/secrets",
            "apis",
            "apis/view.meshmeter.io/v1/pods",
            "apis/view.meshmeter.io/v2/page",
            "apis/custom.metrics.k8s.io/v1beta2/page",
            "apis/view.meshmeter.io/v1/page/",
            "apis/view.meshmeter.io/v1/page/a/b",
            "apis/view.meshmeter.io/v1/page/..",
            "apis/view.meshmeter.io/v1/page/%2e%2e",
            "apis/view.meshmeter.io/v1/page/%2e%2e%2fpods",
            "apis/view.meshmeter.io/v1/page/a%5cb",
            "apis/view.meshmeter.io/v1/page/%252e%252e",
            "apis/view.meshmeter.io/v1/namespaces/../page",
            "apis/view.meshmeter.io/v1/namespaces//page",
            "apis/view.meshmeter.io/v1/namespaces/a/pods",
            "/apis/view.meshmeter.io/v1/page",
        ] {
            let asked = format!("/{}/{path}", gate.key);
            assert_eq!(ask(&gate, &asked, |_| {}), Err(Refused::Path), "{path}");
        }
    }

    /// The link that starts a browser works once, and a browser's guess does not use it up.
    #[test]
    fn a_ticket_works_once() {
        let gate = gate();
        let ticket = format!("/open/{}", gate.ticket);
        let guess = set("sec-purpose", "prefetch;prerender");
        assert_eq!(ask(&gate, &ticket, guess), Err(Refused::Key));
        assert_eq!(ask(&gate, "/open/wrong", |_| {}), Err(Refused::Key));
        let first = Ok(Admitted::Redirect(gate.first()));
        assert_eq!(ask(&gate, &ticket, |_| {}), first);
        assert_eq!(ask(&gate, &ticket, |_| {}), Err(Refused::Used));
        assert_eq!(ask(&gate, &format!("/{}/", gate.key), |_| {}), first);
    }
}
