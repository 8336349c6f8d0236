//! Pages of lists: where one begins, and the list around it.

use aggregator_view::documents::{List, ListMeta};

use crate::status::{Reason, Refusal};

/// The last item of a page: namespace, name, and the kind of a workload, as in
/// `metadata.continue`. Names have no `/`.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) kind: String,
}

// === impl Key ===

impl Key {
    /// Reads a token; `None` for the first page.
    pub(super) fn parse(token: &str) -> Result<Option<Self>, Refusal> {
        if token.is_empty() {
            return Ok(None);
        }
        let mut parts = token.splitn(3, '/').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(namespace), Some(name), kind) => Ok(Some(Self {
                namespace,
                name,
                kind: kind.unwrap_or_default(),
            })),
            _ => Err(Refusal::bad_request(
                Reason::Query,
                "continue: not what metadata.continue of the page before says",
            )),
        }
    }

    fn token(&self) -> String {
        let Self {
            namespace,
            name,
            kind,
        } = self;
        if kind.is_empty() {
            format!("{namespace}/{name}")
        } else {
            format!("{namespace}/{name}/{kind}")
        }
    }
}

/// A list of one page, of which `last` is the key of the last item.
pub(super) fn list<T>(kind: &str, items: Vec<T>, remaining: usize, last: Option<&Key>) -> List<T> {
    let mut page = List::new(kind, items);
    page.metadata = ListMeta {
        continue_token: last
            .filter(|_| remaining > 0)
            .map(Key::token)
            .unwrap_or_default(),
        remaining_item_count: Some(remaining as u64),
    };
    page
}
