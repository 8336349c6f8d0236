//! Handles one request without I/O. Checks the limits that have a status code.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aggregator_core::store::Store;
use aggregator_directory::Directory;
use aggregator_ledger::Ledger;
use bytes::Bytes;
use common_time::{Clock, Now};
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::accept;
use crate::asked::Asked;
use crate::authentication::certificate::PeerCertificates;
use crate::body::{Body, Streams};
use crate::cluster_names::ClusterNames;
use crate::discovery::{AGGREGATED, Document, Documents};
use crate::external;
use crate::form::Parameters;
use crate::guard::Guard;
use crate::metric_name::{MetricNames, MetricPrefix};
use crate::metrics::{self, Outcome, ReadContext, Served};
use crate::page::Pages;
use crate::path::{HealthPath, MetricPath, Object, PagePath, PathError, Route, ViewPath};
use crate::recording::Recorder;
use crate::status::{Kind, Reason, Refusal};
use crate::telemetry::Observations;
use crate::view::{ViewSettings, Views};
use checks::{check_limits, check_view, path_refusal, refuse_watch};
use common_http::health::{self, Check, HealthQuery, ReadinessChecks};

mod checks;

/// Bytes of a URL, path and query together. The longest valid one, with a percent-encoded selector
/// of 4 KiB, fits.
pub(crate) const URL_BYTES_MAX: usize = 8 * 1024;

/// Bytes of all header names and values. kube-apiserver sends about 1 KiB and the user's groups.
pub(crate) const HEADER_BYTES_MAX: usize = 32 * 1024;

pub(crate) const HEADERS_MAX: usize = 200;

/// Age of the oldest value in a response, in milliseconds: the JSON has whole seconds only.
const SIGNAL_AGE: HeaderName = HeaderName::from_static("meshmeter-signal-age-ms");

/// Who counted the values in a response: the object's own `pods` or its `callers`.
const SOURCE: HeaderName = HeaderName::from_static("meshmeter-source");

/// Settings of the served metrics.
#[derive(Clone, Debug, Default)]
pub struct MetricSettings {
    pub prefix: MetricPrefix,
    pub clusters: ClusterNames,
}

/// The API over the store and the directory.
pub struct Api {
    store: Arc<Store>,
    directory: Arc<Directory>,
    clock: Clock,
    readiness: ReadinessChecks,
    observations: Observations,
    names: MetricNames,
    clusters: ClusterNames,
    recorder: Recorder,
    documents: Documents,
    views: Arc<Views>,
    pages: Pages,
    streams: Streams,
    stop: CancellationToken,
    /// `None` serves everyone.
    guard: Option<Guard>,
}

pub(crate) type HttpResponse = Response<Body>;

// === impl Api ===

impl Api {
    pub fn new(
        store: Arc<Store>,
        directory: Arc<Directory>,
        clock: Clock,
        readiness: ReadinessChecks,
        observations: Observations,
        ledger: Arc<Ledger>,
    ) -> Self {
        let recorder = Recorder::new(
            ledger,
            Arc::clone(&directory),
            observations.hpa_reads.clone(),
        );
        let names = MetricNames::new(&MetricPrefix::default());
        let documents = Documents::new(&names);
        let stop = CancellationToken::new();
        let views = Views::new(
            Arc::clone(&store),
            Arc::clone(&directory),
            clock.clone(),
            names.clone(),
            Arc::clone(recorder.ledger()),
            ViewSettings::alone(),
        );
        let views = Arc::new(views);
        let streams = Streams::new(stop.clone());
        Self {
            store,
            directory,
            clock,
            readiness,
            observations,
            pages: Pages::new(Arc::clone(&views), streams.clone()),
            views,
            names,
            clusters: ClusterNames::default(),
            recorder,
            documents,
            streams,
            stop,
            guard: None,
        }
    }

    /// Authenticates and authorises by `guard`. Without one, everyone is served.
    #[must_use]
    pub fn with_guard(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// The ledger of reads.
    pub fn ledger(&self) -> &Arc<Ledger> {
        self.recorder.ledger()
    }

    /// Replaces the settings of metrics.
    #[must_use]
    pub fn with_metrics(mut self, settings: MetricSettings) -> Self {
        self.names = MetricNames::new(&settings.prefix);
        self.documents = Documents::new(&self.names);
        self.clusters = settings.clusters;
        let views = self.views.settings.clone();
        self.with_views(views)
    }

    /// Replaces what the views of people are made from.
    #[must_use]
    pub fn with_views(mut self, settings: ViewSettings) -> Self {
        self.views = Arc::new(Views::new(
            Arc::clone(&self.store),
            Arc::clone(&self.directory),
            self.clock.clone(),
            self.names.clone(),
            Arc::clone(self.recorder.ledger()),
            settings,
        ));
        self.pages = Pages::new(Arc::clone(&self.views), self.streams.clone());
        self
    }

    /// Ends all streams of events, and lets no new one last.
    pub(crate) fn stop_streams(&self) {
        self.stop.cancel();
    }

    /// True if these certificates are those of a front proxy.
    pub(crate) fn trusts(&self, certificates: &[CertificateDer<'static>]) -> bool {
        let peer = PeerCertificates::new(certificates.to_vec());
        self.guard.as_ref().is_some_and(|guard| guard.trusts(&peer))
    }

    /// Handles a request of `peer` after the guard. `has_body` is true if more than the head was
    /// sent.
    pub(crate) async fn respond_to(
        &self,
        mut request: Parts,
        has_body: bool,
        peer: &PeerCertificates,
    ) -> HttpResponse {
        if let Some(guard) = &self.guard
            && let Err(refusal) = guard.admit(&mut request, peer).await
        {
            let route = Route::parse(request.uri.path());
            let response = self.refuse(&request, refusal);
            let resource = route.as_ref().map_or("other", resource_of);
            self.observations.request(resource, response.status());
            return response;
        }
        match Route::parse(request.uri.path()) {
            Ok(Route::View(path)) => self.show(&request, has_body, path).await,
            Ok(Route::Page(path)) => self.show_page(&request, has_body, &path).await,
            _ => self.respond(&request, has_body),
        }
    }

    /// Handles an authorised request of a browser.
    async fn show_page(&self, request: &Parts, has_body: bool, path: &PagePath) -> HttpResponse {
        let shown = match check_limits(request, has_body) {
            Ok(()) => {
                let query = request.uri.query().unwrap_or_default();
                let namespace = path.namespace.as_deref();
                self.pages.serve(namespace, &path.name, query).await
            }
            Err(refusal) => Err(refusal),
        };
        let response = shown.unwrap_or_else(|refusal| self.refuse(request, refusal));
        self.observations
            .request(path.info().resource, response.status());
        response
    }

    /// Handles an authorised request for what people see.
    async fn show(&self, request: &Parts, has_body: bool, path: ViewPath) -> HttpResponse {
        let resource = path.resource();
        let shown = match check_view(request, has_body, &path) {
            Ok(()) => {
                let query = request.uri.query().unwrap_or_default();
                self.views.serve(path, query).await
            }
            Err(refusal) => Err(refusal),
        };
        let response = match shown {
            Ok(body) => body_response(StatusCode::OK, body, "application/json"),
            Err(refusal) => self.refuse(request, refusal),
        };
        self.observations.request(resource, response.status());
        response
    }

    /// Handles an authorised request. `has_body` is true if more than the head was sent.
    pub fn respond(&self, request: &Parts, has_body: bool) -> HttpResponse {
        let mut resource = "other";
        let response = match self.route(request, has_body, &mut resource) {
            Ok(response) => response,
            Err(refusal) => self.refuse(request, refusal),
        };
        self.observations.request(resource, response.status());
        response
    }

    fn refuse(&self, request: &Parts, refusal: Refusal) -> HttpResponse {
        self.observations.refused(refusal.reason);
        tracing::debug!(
            http.path = request.uri.path(),
            refused.reason = refusal.reason.as_str(),
            refused.message = refusal.message,
            "request refused"
        );
        refusal.into_response(request.version)
    }

    fn route(
        &self,
        request: &Parts,
        has_body: bool,
        resource: &mut &'static str,
    ) -> Result<HttpResponse, Refusal> {
        check_limits(request, has_body)?;
        let route = Route::parse(request.uri.path()).map_err(|error| path_refusal(&error))?;
        *resource = resource_of(&route);
        let parameters = Parameters::parse(request.uri.query().unwrap_or_default())
            .map_err(|error| Refusal::bad_request(Reason::Query, error.to_string()))?;
        if let Route::Health(path) = route {
            return self.health(path, parameters, request);
        }
        let aggregated = accept::takes_aggregated_discovery(&request.headers);
        if !aggregated && !accept::takes_json(&request.headers) {
            let message = "only the following media types are accepted: application/json";
            return Err(Refusal::new(Kind::NotAcceptable, Reason::Accept, message));
        }
        if parameters.watch {
            refuse_watch(&route)?;
        }
        let documents = &self.documents;
        let document = match &route {
            Route::Metric(path) => {
                let context = self.read_context();
                let outcome = metrics::serve(context, path, &parameters);
                let asked = Asked::of_object(path, &parameters);
                return self.values(context.now, request, &asked, outcome);
            }
            Route::External(path) => {
                let context = self.read_context();
                let outcome = external::serve(context, path, &parameters);
                let asked = Asked::of_external(path, &parameters);
                return self.values(context.now, request, &asked, outcome);
            }
            Route::LegacyGroups if aggregated => &documents.legacy_groups_aggregated,
            Route::Groups if aggregated => &documents.groups_aggregated,
            Route::LegacyGroups => &documents.legacy_groups,
            Route::Groups => &documents.groups,
            Route::Group => &documents.group,
            Route::Resources(version) => documents.resources(*version),
            Route::ExternalGroup => &documents.external_group,
            Route::ExternalResources => &documents.external_resources,
            Route::ViewGroup => &documents.view_group,
            Route::ViewResources => &documents.view_resources,
            Route::Version => &documents.version,
            Route::OpenApi => &documents.openapi,
            Route::OpenApiOf(index) => documents
                .openapi_of(*index)
                .ok_or_else(|| path_refusal(&PathError::Unknown(request.uri.path().to_owned())))?,
            Route::Root | Route::Health(_) | Route::View(_) | Route::Page(_) => &documents.root,
        };
        let aggregated = aggregated && matches!(route, Route::LegacyGroups | Route::Groups);
        let media_type = if aggregated {
            AGGREGATED
        } else {
            "application/json"
        };
        Ok(document_response(document, media_type, &request.headers))
    }

    fn read_context(&self) -> ReadContext<'_> {
        ReadContext {
            store: &self.store,
            directory: &self.directory,
            names: &self.names,
            clusters: &self.clusters,
            now: self.clock.both(),
        }
    }

    fn values(
        &self,
        now: Now,
        request: &Parts,
        asked: &Asked<'_>,
        outcome: Outcome<Served>,
    ) -> Result<HttpResponse, Refusal> {
        let Outcome { result, pods } = outcome;
        for (_, why) in &pods.missing {
            self.observations.missing(*why);
        }
        let summary = result.as_ref().map(|served| served.summary);
        if !pods.missing.is_empty() {
            tracing::debug!(
                http.path = request.uri.path(),
                pods.missing = pods.missing.len(),
                served = summary.is_ok(),
                "some pods have no value"
            );
        }
        // Refusals are recorded, too: an autoscaler that does not scale is explained by them.
        self.recorder.record(now, asked, request, summary, &pods);
        let Served { body, summary } = result?;
        self.observations.signal_age(asked.namespace, summary.age);
        let mut response = body_response(StatusCode::OK, body, "application/json");
        let headers = response.headers_mut();
        headers.insert(SIGNAL_AGE, millis(summary.age.total()));
        headers.insert(SOURCE, HeaderValue::from_static(summary.source.as_str()));
        Ok(response)
    }

    fn health(
        &self,
        path: HealthPath,
        parameters: Parameters,
        request: &Parts,
    ) -> Result<HttpResponse, Refusal> {
        let checks = match path.endpoint {
            "readyz" => (self.readiness)(),
            _ => vec![Check {
                name: "ping",
                failure: None,
            }],
        };
        let query = HealthQuery {
            only: path.check,
            verbose: parameters.verbose,
            exclude: parameters.exclude,
        };
        let (status, text) = health::report(path.endpoint, &checks, &query)
            .ok_or_else(|| path_refusal(&PathError::Unknown(request.uri.path().to_owned())))?;
        Ok(body_response(
            status,
            text.into(),
            "text/plain; charset=utf-8",
        ))
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// Label `resource` of `meshmeter_api_requests_total`.
fn resource_of(route: &Route) -> &'static str {
    match route {
        Route::Metric(MetricPath { object, .. }) => match object {
            Object::Pods | Object::Pod(_) => "pods",
            Object::Namespace => "namespaces",
            Object::Service(_) => "services",
            Object::Workload(kind, _) => kind.resource(),
        },
        Route::External(_) => "external",
        Route::View(path) => path.resource(),
        Route::Page(path) => path.info().resource,
        Route::Health(_) => "health",
        Route::Root
        | Route::LegacyGroups
        | Route::Groups
        | Route::Group
        | Route::Resources(_)
        | Route::ViewGroup
        | Route::ViewResources
        | Route::ExternalGroup
        | Route::ExternalResources
        | Route::OpenApi
        | Route::OpenApiOf(_)
        | Route::Version => "discovery",
    }
}

fn document_response(
    document: &Document,
    media_type: &'static str,
    headers: &HeaderMap,
) -> HttpResponse {
    let is_cached = headers.get_all(IF_NONE_MATCH).into_iter().any(|value| {
        let tags = value.to_str().unwrap_or_default();
        tags.split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == document.etag || tag == "*")
    });
    let mut response = if is_cached {
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        body_response(StatusCode::OK, document.body.clone(), media_type)
    };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        headers.insert(ETAG, etag);
    }
    response
}

fn body_response(status: StatusCode, body: Bytes, media_type: &'static str) -> HttpResponse {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn millis(duration: Duration) -> HeaderValue {
    HeaderValue::from(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
