//! Live updates: what changed, and nothing else.

use aggregator_page::Updates;
use serde_json::Value;

use crate::documents::Documents;
use crate::hostile::poisoned;
use crate::parsed::Parsed;

fn fragments(event: &str) -> Vec<(String, String)> {
    let data = event.trim_end().strip_prefix("data: ").unwrap();
    let value: Value = serde_json::from_str(data).unwrap();
    let map = value["fragments"].as_object().unwrap();
    map.iter()
        .map(|(id, html)| (id.clone(), html.as_str().unwrap().to_owned()))
        .collect()
}

fn cells(event: &str) -> Vec<(String, usize, String)> {
    let data = event.trim_end().strip_prefix("data: ").unwrap();
    let value: Value = serde_json::from_str(data).unwrap();
    let mut all = Vec::new();
    for (id, changed) in value["cells"].as_object().unwrap() {
        for pair in changed.as_array().unwrap() {
            let index = usize::try_from(pair[0].as_u64().unwrap()).unwrap();
            all.push((id.clone(), index, pair[1].as_str().unwrap().to_owned()));
        }
    }
    all
}

/// The first event has all of the page, the next only what changed; each fragment is an element
/// that the whole page has under that id.
#[test]
fn hold_what_changed() {
    let documents = Documents::new();
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
}

/// The second event has the cells that changed, by number, and no fragment if nothing else did.
#[test]
fn hold_cells_that_changed() {
    let mut documents = Documents::new();
    let overview = |documents: &Documents| documents.pages().swap_remove(0).1;
    let mut updates = Updates::default();
    updates.event(&overview(&documents));
    documents.workloads.items[0].rates.requests_per_second = Some(77.7);
    let event = updates.event(&overview(&documents));
    assert_eq!(fragments(&event), []);
    let changed = cells(&event);
    let [(id, _, html)] = &changed[..] else {
        panic!("{changed:?}");
    };
    assert_eq!((id.as_str(), html.as_str()), ("workloads", "77.7"));
    documents.workloads.items.pop();
    let event = updates.event(&overview(&documents));
    assert_eq!(fragments(&event).len(), 1, "a row less");
}

/// A browser that puts the cells of an event in place has what the page has now, whatever is in
/// the texts.
#[test]
fn cells_are_those_that_a_browser_counts() {
    let mut count = 0;
    for text in ["<td>x</td>", "</th><th>", "plain"] {
        let (before, after) = (Documents::new(), poisoned(text));
        for ((name, before), (_, after)) in before.pages().into_iter().zip(after.pages()) {
            let mut updates = Updates::default();
            updates.event(&before);
            let event = updates.event(&after);
            let whole = fragments(&event);
            for fragment in after.fragments() {
                if whole.iter().any(|(id, _)| id == fragment.id) {
                    continue;
                }
                let old = before.fragments().iter().find(|old| old.id == fragment.id);
                let mut shown = Parsed::new(&old.unwrap().html.0).cells;
                for (_, index, html) in cells(&event)
                    .into_iter()
                    .filter(|(id, ..)| id == fragment.id)
                {
                    shown[index] = Parsed::new(&html).text;
                    count += 1;
                }
                let expected = Parsed::new(&fragment.html.0).cells;
                assert_eq!(shown, expected, "{name}: {}", fragment.id);
            }
        }
    }
    assert!(count > 20, "only {count} cells were compared");
}
