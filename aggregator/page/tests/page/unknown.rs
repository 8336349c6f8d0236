//! Unknown is a word on every page.

use aggregator_view::documents::Rates;

use crate::documents::Documents;
use crate::parsed::Parsed;

/// With every figure taken away, no page makes one up: no `NaN`, and not one 0 in a table of rates.
#[test]
fn nothing_is_made_up() {
    let mut documents = Documents::new();
    let groups = [&mut documents.namespaces, &mut documents.workloads];
    for group in groups.into_iter().flat_map(|list| &mut list.items) {
        group.rates = Rates::default();
        group.skew = None;
        group.history = vec![None; 60];
        group.pods.clear();
        for hpa in &mut group.hpas {
            hpa.current_replicas = None;
            hpa.desired_replicas = None;
        }
    }
    for pod in &mut documents.pods.items {
        pod.rates = Rates::default();
        pod.history = vec![None; 60];
    }
    for (name, page) in documents.pages() {
        if !matches!(name, "overview" | "namespace" | "pods" | "workload") {
            continue;
        }
        let html = page.to_html();
        let figures = html.matches(r#"<td class="number">"#).count()
            + html.matches(r#"<td class="number wide">"#).count();
        let unknown = html
            .matches(r#"number"><span class="unknown">unknown</span></td>"#)
            .count()
            + html
                .matches(r#"number wide"><span class="unknown">unknown</span></td>"#)
                .count();
        // Reads keep what was read.
        let reads = if name == "workload" { 6 * 5 } else { 0 };
        assert_eq!(figures - reads, unknown, "{name}");
        let text = Parsed::new(&html).text;
        assert!(!text.contains("NaN") && !text.contains("inf"), "{name}");
    }
}
