//! Names that try to be markup, in every text of every document.

use aggregator_page::{Page, Updates};
use serde_json::Value;

use crate::documents::Documents;
use crate::parsed::{Element, Parsed};

/// Texts by which pages were broken into, and texts that would be shown as what they are not.
const HOSTILE: [&str; 14] = [
    "<script>alert(1)</script>",
    "</title></td></table></main><img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)\" x=\"",
    "' onfocus='alert(1)' autofocus x='",
    "javascript:alert(1)",
    "//evil.example/x",
    "../../../../evil",
    "..",
    "&lt;script&gt;&#x3c;img src=x&#x3e;",
    "<!-- --><![CDATA[ ]]>",
    "a\u{0}b\u{8}c\u{1b}[31md\re\nf\u{7f}\u{85}",
    "abc\u{202e}gpj.exe\u{2066}\u{200f}\u{feff}",
    "</svg></a><style>*{display:none}</style>",
    "data: x\n\ndata: {\"fragments\":{\"summary\":\"<script>\"}}\n\n",
];

/// A text without any meaning in HTML, and one of two parts, as `Deployment/jazz` is.
const HARMLESS: [&str; 2] = ["harmless", "harm/less"];

/// Elements that pages consist of.
const ELEMENTS: &[&str] = &[
    "a",
    "b",
    "body",
    "br",
    "caption",
    "circle",
    "code",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "footer",
    "g",
    "h1",
    "h2",
    "h3",
    "head",
    "header",
    "html",
    "li",
    "line",
    "link",
    "main",
    "meta",
    "nav",
    "ol",
    "p",
    "path",
    "script",
    "section",
    "span",
    "summary",
    "svg",
    "table",
    "tbody",
    "td",
    "text",
    "th",
    "thead",
    "time",
    "title",
    "tr",
    "ul",
];

/// Their attributes.
const ATTRIBUTES: &[&str] = &[
    "aria-current",
    "aria-hidden",
    "aria-label",
    "aria-labelledby",
    "aria-sort",
    "charset",
    "class",
    "colspan",
    "content",
    "cx",
    "cy",
    "d",
    "data-events",
    "data-state",
    "datetime",
    "defer",
    "height",
    "href",
    "id",
    "lang",
    "name",
    "overflow",
    "preserveAspectRatio",
    "r",
    "rel",
    "role",
    "scope",
    "src",
    "tabindex",
    "text-anchor",
    "viewBox",
    "width",
    "x",
    "x1",
    "x2",
    "y",
    "y1",
    "y2",
];

/// What can be one of few only, and so has no hostile value.
fn is_enum(path: &str) -> bool {
    let last = path.rsplit('/').find(|part| part.parse::<usize>().is_err());
    let kind_of_entry = path.contains("/entries/") && path.ends_with("/kind");
    kind_of_entry || matches!(last, Some("group" | "source"))
}

/// All texts of `value` (values, and keys of maps that others fill) become `text`.
fn poison(value: &mut Value, path: &str, text: &str) {
    const MAPS: [&str; 6] = [
        "pods",
        "refused",
        "dropped",
        "leftOut",
        "labels",
        "conditions",
    ];
    match value {
        Value::String(old) if !is_enum(path) => text.clone_into(old),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                poison(item, &format!("{path}/{index}"), text);
            }
        }
        Value::Object(map) => {
            let is_map =
                path != "/pods" && MAPS.iter().any(|name| path.ends_with(&format!("/{name}")));
            if is_map
                && let Some((_, first)) = map
                    .iter()
                    .next()
                    .map(|(key, value)| (key.clone(), value.clone()))
            {
                map.clear();
                map.insert(text.to_owned(), first);
            }
            for (key, item) in map {
                poison(item, &format!("{path}/{key}"), text);
            }
        }
        _ => {}
    }
}

pub(crate) fn poisoned(text: &str) -> Documents {
    let mut value = serde_json::to_value(Documents::new()).unwrap();
    poison(&mut value, "", text);
    serde_json::from_value(value).expect("only enums refuse a text")
}

/// Names of elements and of their attributes: what a document is made of.
fn skeleton(parsed: &Parsed) -> Vec<(String, Vec<String>)> {
    let names = |element: &Element| {
        let attributes = element.attributes.iter();
        attributes.map(|(name, _)| name.clone()).collect()
    };
    let elements = parsed.elements.iter();
    elements
        .map(|element| (element.name.clone(), names(element)))
        .collect()
}

fn check(name: &str, page: &Page, harmless: &Page, text: &str) {
    let html = page.to_html();
    let parsed = Parsed::new(&html);
    let place = format!("{name} with {text:?}");
    assert_eq!(
        skeleton(&parsed),
        skeleton(&Parsed::new(&harmless.to_html())),
        "{place}: another text made other elements"
    );
    assert_eq!(parsed.comments, 0, "{place}");
    for element in &parsed.elements {
        assert!(
            ELEMENTS.contains(&element.name.as_str()),
            "{place}: {element:?}"
        );
        for (attribute, value) in &element.attributes {
            assert!(
                ATTRIBUTES.contains(&attribute.as_str()),
                "{place}: {element:?}"
            );
            if matches!(attribute.as_str(), "href" | "src" | "data-events") {
                assert!(is_own_link(value), "{place}: {value}");
            }
        }
    }
    let shown = parsed.text + &html;
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    assert!(
        !shown.contains(hidden),
        "{place}: holds a character that hides"
    );
}

/// Only links of the shapes that the page writes: below the API group, or into this page.
fn is_own_link(link: &str) -> bool {
    let (path, query) = link.split_once('?').unwrap_or((link, ""));
    let mut steps = path.split('/').skip_while(|step| *step == "..").peekable();
    let below = match steps.next() {
        Some("page") => true,
        Some("namespaces") => {
            let is_name = steps
                .next()
                .is_some_and(|name| !matches!(name, "" | "." | ".."));
            is_name && steps.next() == Some("page")
        }
        Some(anchor) => return link == "#main" && anchor == "#main",
        None => false,
    };
    let rest: Vec<&str> = steps.collect();
    let known = [
        "pods",
        "system",
        "workload",
        "hpa",
        "events",
        "style.css",
        "live.js",
        "icon.svg",
    ];
    let known_page = rest.is_empty() || (rest.len() == 1 && known.contains(&rest[0]));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~%=&".contains(c);
    below
        && known_page
        && path.split('/').filter(|step| *step == "..").count() <= 3
        && query.chars().all(is_plain)
}

/// No text makes an element, an attribute, a comment or a link of its own, and none hides.
#[test]
fn no_text_becomes_markup() {
    let harmless = HARMLESS.map(poisoned);
    let long = "x".repeat(100_000);
    for text in HOSTILE.into_iter().chain([long.as_str()]) {
        let pages = poisoned(text).pages();
        let harmless = &harmless[usize::from(text.contains('/'))];
        for ((name, page), (_, harmless)) in pages.iter().zip(harmless.pages()) {
            check(name, page, &harmless, text);
        }
    }
}

/// What is shown of a very long text is cut.
#[test]
fn long_texts_are_cut() {
    let long = "x".repeat(100_000);
    for (name, page) in poisoned(&long).pages() {
        let text = Parsed::new(&page.to_html()).text;
        assert!(!text.contains(&"x".repeat(1_025)), "{name}");
    }
}

/// A text does not end an event or begin another one.
#[test]
fn no_text_becomes_an_event() {
    for text in HOSTILE {
        for (name, page) in poisoned(text).pages() {
            let event = Updates::default().event(&page);
            let data = event
                .strip_prefix("data: ")
                .and_then(|rest| rest.strip_suffix("\n\n"));
            let data = data.unwrap_or_else(|| panic!("{name}: {event}"));
            assert!(!data.contains(['\n', '\r']), "{name}: {data}");
            serde_json::from_str::<Value>(data).unwrap();
        }
    }
    let failure = Updates::failure("a\n\ndata: b\r");
    assert_eq!(failure, "data: {\"error\":\"a\\n\\ndata: b\\r\"}\n\n");
}
