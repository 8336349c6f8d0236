use super::*;

fn listing() -> Listing {
    Listing {
        sort: Sort {
            column: Column::Requests,
            descending: true,
        },
        continue_token: "a/b&c=d".to_owned(),
    }
}

fn addresses() -> Vec<Address> {
    let hostile = "a b&c=d?#/\"'<%2e>ü";
    vec![
        Address::new(None, View::Overview(Listing::default())),
        Address::new(None, View::Overview(listing())),
        Address::new(Some("prod"), View::Overview(listing())),
        Address::new(None, View::Pods(listing())),
        Address::new(Some("prod"), View::Pods(Listing::default())),
        Address::new(None, View::System),
        Address::new(
            Some("prod"),
            View::Workload {
                kind: "Deployment".to_owned(),
                name: hostile.to_owned(),
            },
        ),
        Address::new(
            Some("prod"),
            View::Hpa {
                name: hostile.to_owned(),
                range: Range::Day,
                before: Some(12),
            },
        ),
        Address::new(
            Some("prod"),
            View::Explanation {
                hpa: hostile.to_owned(),
                at: 1_764_511_351_250,
            },
        ),
    ]
}

/// Splits a path below the version of the API group as the server does, and parses it.
fn parse(path: &str) -> Result<Address, AddressError> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let segments: Vec<&str> = path.split('/').collect();
    match segments[..] {
        ["page"] => Address::parse(None, "", query),
        ["page", page] => Address::parse(None, page, query),
        ["namespaces", namespace, "page"] => Address::parse(Some(namespace), "", query),
        ["namespaces", namespace, "page", page] => Address::parse(Some(namespace), page, query),
        _ => panic!("{path} is no path of a page"),
    }
}

/// What a browser makes of `link` on the page at `path`.
fn resolve(path: &str, link: &str) -> String {
    let path = path.split('?').next().unwrap();
    let mut folder: Vec<&str> = path.split('/').collect();
    folder.pop();
    let (link, query) = link.split_once('?').unwrap_or((link, ""));
    for step in link.split('/') {
        match step {
            ".." => {
                folder.pop().expect("the link stays below the group");
            }
            step => folder.push(step),
        }
    }
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{mark}{query}", folder.join("/"))
}

/// A link from each page to each page leads there, and says all that it is to say.
#[test]
fn links_lead_to_what_they_name() {
    for from in addresses() {
        for to in addresses() {
            let link = from.link(&to);
            assert!(!link.starts_with('/') && !link.contains("//"), "{link}");
            assert_eq!(parse(&resolve(&from.path(), &link)), Ok(to));
        }
        let style = resolve(&from.path(), &from.asset("style.css"));
        let expected = match from.namespace {
            None => "page/style.css",
            Some(_) => "namespaces/prod/page/style.css",
        };
        assert_eq!(style, expected);
    }
}

/// Updates are those of the same page.
#[test]
fn events_are_those_of_the_page() {
    for address in addresses() {
        let Some(events) = address.events() else {
            let unchanging = matches!(address.view, View::Explanation { .. } | View::Hpa { .. });
            assert!(unchanging, "{address:?}");
            continue;
        };
        let path = resolve(&address.path(), &events);
        assert!(path.contains("page/events?view="), "{path}");
        assert_eq!(parse(&path), Ok(address));
    }
}

/// A namespace that cannot be one does not lead out of its folder.
#[test]
fn dots_are_no_steps() {
    for namespace in ["..", ".", ""] {
        let address = Address::new(Some(namespace), View::Overview(Listing::default()));
        assert_eq!(address.path(), "namespaces/-/page");
    }
}

/// What is wrong is said, by the parameter's name.
#[test]
fn wrong_ones_are_refused() {
    for (path, message) in [
        ("page/nothing", "there is no page \"nothing\""),
        (
            "page/workload?kind=a&name=b",
            "there is no page \"workload\"",
        ),
        ("namespaces/a/page/system", "there is no page \"system\""),
        (
            "namespaces/a/page/workload?kind=a",
            "needs the parameter name",
        ),
        ("namespaces/a/page/hpa", "needs the parameter name"),
        ("namespaces/a/page/hpa?name=b&at=x", "at cannot be \"x\""),
        (
            "namespaces/a/page/hpa?name=b&range=2h",
            "range cannot be \"2h\"",
        ),
        ("page?sort=colour", "sort cannot be \"colour\""),
        ("page/events", "needs the parameter view"),
    ] {
        let error = parse(path).unwrap_err().to_string();
        assert!(error.contains(message), "{path}: {error}");
    }
    let long = "x".repeat(QUERY_BYTES_MAX + 1);
    assert_eq!(Address::parse(None, "", &long), Err(AddressError::TooLong));
}
