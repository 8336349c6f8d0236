//! The page in a browser, of the documents that the command line asks for, and its live updates.
//!
//! ```text
//! GET page…        -> Address -> documents (shared by viewers) -> HTML, whole
//! GET page/events… -> Address -> the same each second           -> what changed, for 45 s
//! ```

mod cache;
mod documents;

use std::sync::Arc;
use std::time::Duration;

use aggregator_page::assets::{Asset, CACHED, EVENT_STREAM, HEADERS, HTML, UNCACHED};
use aggregator_page::{Address, AddressError, Depth, Page, RECONNECT, Updates, problem};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::body::{Body, Streams};
use crate::status::{Kind, Reason, Refusal};
use crate::view::Views;
use cache::Cache;

/// Pages and documents that viewers share: each of the streams may show a page of its own.
const SHARED_MAX: usize = 64;

/// Bytes of shared pages, and as many of shared documents: 64 of 128 KiB.
const SHARED_BYTES_MAX: usize = 8 << 20;

/// A page is made this often, however many look at it.
const PAGE_AGE_MAX: Duration = Duration::from_millis(400);

/// From one event to the next; four times as long as a page took to make, if that is longer, so
/// that a large cluster's pages do not take all of a processor.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// The longest pause: before a browser says that nothing comes.
const EVENT_EVERY_MAX: Duration = Duration::from_secs(4);

/// The last segment of live updates.
const EVENTS: &str = "events";

type HttpResponse = Response<Body>;

/// Serves pages; clones share what they made.
#[derive(Clone)]
pub(crate) struct Pages {
    views: Arc<Views>,
    streams: Streams,
    made: Arc<Cache<Arc<Page>>>,
    documents: Arc<Cache<Bytes>>,
}

// === impl Pages ===

impl Pages {
    pub(crate) fn new(views: Arc<Views>, streams: Streams) -> Self {
        Self {
            views,
            streams,
            made: Arc::new(Cache::new(SHARED_MAX, SHARED_BYTES_MAX, |page| {
                page.bytes()
            })),
            documents: Arc::new(Cache::new(3 * SHARED_MAX, SHARED_BYTES_MAX, Bytes::len)),
        }
    }

    /// Answers a request for `page` (an empty `name`) or `page/NAME`.
    pub(crate) async fn serve(
        &self,
        namespace: Option<&str>,
        name: &str,
        query: &str,
    ) -> Result<HttpResponse, Refusal> {
        let mut response = if let Some(asset) = Asset::find(name) {
            answer(
                StatusCode::OK,
                asset.content.into(),
                asset.content_type,
                CACHED,
            )
        } else {
            self.serve_page(namespace, name, query).await?
        };
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        Ok(response)
    }

    async fn serve_page(
        &self,
        namespace: Option<&str>,
        name: &str,
        query: &str,
    ) -> Result<HttpResponse, Refusal> {
        let address = Address::parse(namespace, name, query).map_err(|error| refusal(&error));
        if name == EVENTS {
            return self.events(address?);
        }
        let page = match address {
            Ok(address) => self.page(&address).await,
            Err(refusal) => Err(refusal),
        };
        let (status, html) = match page {
            Ok(page) => (StatusCode::OK, page.to_html()),
            Err(refusal) => {
                let depth = if name.is_empty() {
                    Depth::Page
                } else {
                    Depth::Below
                };
                let now = self.views.clock.wall().0;
                let page = problem(namespace, depth, now, &refusal.message);
                (refusal.code(), page.to_html())
            }
        };
        Ok(answer(status, html.into(), HTML, UNCACHED))
    }

    /// Its updates, one a second until the stream is closed.
    fn events(&self, address: Address) -> Result<HttpResponse, Refusal> {
        let events = self.streams.events(updates(self.clone(), address));
        let mut response = events
            .map_err(|error| Refusal::new(Kind::Unavailable, Reason::Streams, error.to_string()))?;
        let media_type = HeaderValue::from_static(EVENT_STREAM);
        response.headers_mut().insert(CONTENT_TYPE, media_type);
        Ok(response)
    }

    /// The page at `address`, as it was less than [`PAGE_AGE_MAX`] ago.
    async fn page(&self, address: &Address) -> Result<Arc<Page>, Refusal> {
        let name = address.path();
        let now = self.views.clock.now();
        // Boxed: it is large, and most requests are for metrics.
        let make = async { Ok(Arc::new(Box::pin(self.make(address)).await?)) };
        self.made.get(&name, now, PAGE_AGE_MAX, make).await
    }
}

/// The events of a stream: first all of the page, then what changes of it.
fn updates(pages: Pages, address: Address) -> impl Stream<Item = Bytes> + Send + 'static {
    let first = (Updates::default(), RECONNECT, Duration::ZERO);
    stream::unfold(first, move |(mut sent, begin, pause)| {
        let (pages, address) = (pages.clone(), address.clone());
        async move {
            tokio::time::sleep(pause).await;
            let began = pages.views.clock.now();
            let event = match pages.page(&address).await {
                Ok(page) => sent.event(&page),
                Err(refusal) => Updates::failure(&refusal.message),
            };
            let took = pages.views.clock.now().since(began);
            let pause = (4 * took).clamp(EVENT_EVERY, EVENT_EVERY_MAX);
            Some((Bytes::from(begin.to_owned() + &event), (sent, "", pause)))
        }
    })
}

fn answer(
    status: StatusCode,
    body: Bytes,
    media_type: &'static str,
    cache_control: &'static str,
) -> HttpResponse {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
    response
}

fn refusal(error: &AddressError) -> Refusal {
    match error {
        AddressError::Unknown(_) => Refusal::not_found(Reason::Path, error.to_string()),
        AddressError::Missing(_) | AddressError::Invalid { .. } | AddressError::TooLong => {
            Refusal::bad_request(Reason::Query, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
