//! Pages as they are committed in `tests/golden`: a change of a page is seen in its change's diff.
//! `WRITE_GOLDEN=1` writes them anew.

use std::fs;
use std::path::Path;

use crate::documents::Documents;
use crate::parsed::Parsed;

#[test]
fn pages_are_as_committed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, page) in Documents::new().pages() {
        let html = lines(&page.to_html());
        let file = folder.join(format!("{name}.html"));
        if std::env::var_os("WRITE_GOLDEN").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, &html).unwrap();
        }
        let committed = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == html,
            "{name} differs: run this test with WRITE_GOLDEN=1 and read the difference"
        );
    }
}

/// An element a line, for a readable difference; without the versions of assets.
fn lines(html: &str) -> String {
    let mut lines = String::new();
    for line in html.replace("><", ">\n<").lines() {
        let line = match line.split_once("?v=") {
            Some((before, version)) => format!("{before}?v=…{}", &version[8..]),
            None => line.to_owned(),
        };
        lines.push_str(&line);
        lines.push('\n');
    }
    lines
}

/// Ids are there once, and what refers to one refers to one that is there.
#[test]
fn ids_are_unique_and_found() {
    for (name, page) in Documents::new().pages() {
        let parsed = Parsed::new(&page.to_html());
        let ids: Vec<&str> = parsed
            .elements
            .iter()
            .filter_map(|element| element.attribute("id"))
            .collect();
        for id in &ids {
            assert_eq!(
                ids.iter().filter(|other| other == &id).count(),
                1,
                "{name}: {id}"
            );
        }
        for element in &parsed.elements {
            for reference in ["aria-labelledby", "aria-describedby"] {
                let Some(id) = element.attribute(reference) else {
                    continue;
                };
                assert!(ids.contains(&id), "{name}: nothing has the id {id}");
            }
            if let Some(id) = element
                .attribute("href")
                .and_then(|href| href.strip_prefix('#'))
            {
                assert!(ids.contains(&id), "{name}: nothing has the id {id}");
            }
        }
    }
}

/// A page of full lists and its files stay below the promised weight; so does the longest chart.
#[test]
fn pages_are_light() {
    let mut documents = Documents::new();
    let workload = documents.workloads.items[0].clone();
    documents.workloads.items = vec![workload.clone(); aggregator_page::ROWS_MAX];
    documents.namespaces.items = vec![documents.namespaces.items[0].clone(); 50];
    let pod = documents.pods.items[0].clone();
    documents.pods.items = vec![pod; aggregator_page::ROWS_MAX];
    let read = documents.timeline.entries[2].clone();
    documents.timeline.entries = (0..5_760)
        .map(|index| {
            let mut read = read.clone();
            read.at_unix_ms = crate::documents::NOW - (5_760 - index) * 15_000;
            read
        })
        .collect();
    let files = [
        aggregator_page::assets::STYLE,
        aggregator_page::assets::SCRIPT,
        aggregator_page::assets::ICON,
    ];
    let files: usize = files.iter().map(|file| file.content.len()).sum();
    for (name, page) in documents.pages() {
        let bytes = page.to_html().len() + files;
        assert!(bytes <= 150 * 1_024, "{name} takes {bytes} bytes");
    }
}
