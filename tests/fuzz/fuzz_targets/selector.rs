//! Any text as a label selector: it is refused or read, and what was read is asked of a few labels.
//! Never a panic.
#![no_main]

use aggregator_api::selector::Selector;
use aggregator_core::pod::Labels;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(selector) = Selector::parse(text) else {
        return;
    };
    let labels = [("app", "jazz"), ("tier", "5"), ("a.b/c", "")];
    let labels: Labels = labels
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let by_map = selector.matches(&labels);
    let by_key = selector.holds_for(|key| labels.get(key).map(String::as_str));
    assert_eq!(by_map, by_key);
    // A selector says nothing else when it is read again.
    assert_eq!(Selector::parse(text).as_ref(), Ok(&selector));
});
