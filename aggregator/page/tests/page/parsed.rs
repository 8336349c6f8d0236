//! HTML as a browser reads it: by html5ever.

use html5ever::tendril::TendrilSink as _;
use html5ever::{ParseOpts, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};

/// An element: its name and its attributes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
}

impl Element {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let mut found = self.attributes.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// What a document holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parsed {
    /// In the order of the document.
    pub(crate) elements: Vec<Element>,
    /// All text, script and style included, a space after each piece.
    pub(crate) text: String,
    pub(crate) comments: usize,
    /// Text of each table cell, in the order of the document.
    pub(crate) cells: Vec<String>,
}

impl Parsed {
    pub(crate) fn new(html: &str) -> Self {
        let dom = parse_document(RcDom::default(), ParseOpts::default()).one(html);
        let mut parsed = Self::default();
        parsed.add(&dom.document);
        parsed
    }

    fn add(&mut self, node: &Handle) {
        let (begin, is_cell) = (self.text.len(), is_cell(node));
        match &node.data {
            NodeData::Element { name, attrs, .. } => self.elements.push(Element {
                name: name.local.to_string(),
                attributes: attrs
                    .borrow()
                    .iter()
                    .map(|attribute| {
                        (
                            attribute.name.local.to_string(),
                            attribute.value.to_string(),
                        )
                    })
                    .collect(),
            }),
            NodeData::Text { contents } => {
                self.text.push_str(&contents.borrow());
                self.text.push(' ');
            }
            NodeData::Comment { .. } => self.comments += 1,
            _ => {}
        }
        for child in node.children.borrow().iter() {
            self.add(child);
        }
        if is_cell {
            self.cells.push(self.text[begin..].to_owned());
        }
    }
}

fn is_cell(node: &Handle) -> bool {
    let NodeData::Element { name, .. } = &node.data else {
        return false;
    };
    matches!(&*name.local, "td" | "th")
}
