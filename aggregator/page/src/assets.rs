//! What a page loads, and the headers of every answer.

/// A file beside the page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asset {
    /// Behind `page/`.
    pub name: &'static str,
    pub content_type: &'static str,
    pub content: &'static str,
    /// Hash of the content: another one has another URL.
    version: u32,
}

pub const STYLE: Asset = Asset::new(
    "style.css",
    "text/css; charset=utf-8",
    include_str!("../assets/style.css"),
);

pub const SCRIPT: Asset = Asset::new(
    "live.js",
    "text/javascript; charset=utf-8",
    include_str!("../assets/live.js"),
);

pub const ICON: Asset = Asset::new(
    "icon.svg",
    "image/svg+xml",
    include_str!("../assets/icon.svg"),
);

const ALL: [Asset; 3] = [STYLE, SCRIPT, ICON];

/// Headers of every answer, assets and events included. The page needs no more than its own files,
/// and nothing else may show it, send it anywhere or run in it.
pub const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// `cache-control` of a page and of its updates: they hold what one person may see, now.
pub const UNCACHED: &str = "no-store";

/// `cache-control` of assets, whose URLs hold their version.
pub const CACHED: &str = "public, max-age=31536000, immutable";

pub const HTML: &str = "text/html; charset=utf-8";

pub const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

// === impl Asset ===

impl Asset {
    const fn new(name: &'static str, content_type: &'static str, content: &'static str) -> Self {
        Self {
            name,
            content_type,
            content,
            version: fnv1a(content.as_bytes()),
        }
    }

    /// The one of that name.
    pub fn find(name: &str) -> Option<Self> {
        ALL.into_iter().find(|asset| asset.name == name)
    }

    /// Its name in a link, with its version.
    pub(crate) fn versioned(self) -> String {
        format!("{}?v={:08x}", self.name, self.version)
    }
}

/// <http://www.isthe.com/chongo/tech/comp/fnv/>
const fn fnv1a(bytes: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u32).wrapping_mul(0x0100_0193);
        index += 1;
    }
    hash
}
