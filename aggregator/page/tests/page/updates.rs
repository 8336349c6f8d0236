//! Live updates: what changed, and nothing else.

use aggregator_page::Updates;
use serde_json::Value;

use crate::documents::Documents;

fn fragments(event: &str) -> Vec<(String, String)> {
    let data = event.trim_end().strip_prefix("data: ").unwrap();
    let value: Value = serde_json::from_str(data).unwrap();
    let map = value["fragments"].as_object().unwrap();
    map.iter()
        .map(|(id, html)| (id.clone(), html.as_str().unwrap().to_owned()))
        .collect()
}

/// The first event has all of the page, the next only what changed; each fragment is an element
/// that the whole page has under that id.
#[test]
fn hold_what_changed() {
    let mut documents = Documents::new();
    for index in 0..documents.pages().len() {
        let mut updates = Updates::default();
        let (name, page) = documents.pages().swap_remove(index);
        let html = page.to_html();
        let first = fragments(&updates.event(&page));
        assert!(!first.is_empty(), "{name}");
        for (id, fragment) in &first {
            assert!(html.contains(fragment), "{name}: {id}");
            assert!(
                fragment.starts_with(&format!("<section id=\"{id}\"")),
                "{name}: {fragment:.60}"
            );
        }
        assert_eq!(fragments(&updates.event(&page)), [], "{name}");
    }
    let mut updates = Updates::default();
    let overview = |documents: &Documents| documents.pages().swap_remove(0).1;
    updates.event(&overview(&documents));
    documents.workloads.items[0].rates.requests_per_second = Some(77.7);
    let changed = fragments(&updates.event(&overview(&documents)));
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].0, "workloads");
    assert!(changed[0].1.contains("77.7"));
}
