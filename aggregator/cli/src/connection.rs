//! The way to kube-apiserver, as kubectl finds it, and what is said if it is not open.

use std::fmt;

use aggregator_view::documents::List;
use common_kubernetes::ClusterError;
use common_kubernetes::connection::ask_bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Program;
use crate::args::ConnectionArgs;

pub use error::ConnectionError;

mod error;

const JSON: &str = "application/json";
/// Items of one page.
const PAGE: &str = "500";
const PAGES_MAX: usize = 100;

/// kube-apiserver, as whoever asks. Clones share connections.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    /// Where it leads, for messages.
    server: Uri,
    namespace: String,
    has_namespace: bool,
    within: Option<std::time::Duration>,
    program: Program,
}

// === impl Connection ===

impl Connection {
    /// Reads the kubeconfig; asks nothing yet.
    pub async fn open(args: &ConnectionArgs, program: Program) -> Result<Self, ConnectionError> {
        // Fails if a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = configured(args).await?;
        if args.insecure_skip_tls_verify {
            config.accept_invalid_certs = true;
        }
        impersonate(&mut config, args)?;
        config.default_retry = false;
        let server = config.cluster_url.clone();
        let namespace = args.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        if namespace.is_empty() || namespace.contains(['/', '?', '#', '%']) {
            return Err(ConnectionError::Namespace(namespace));
        }
        let client = Client::try_from(config);
        let client = client.map_err(|error| ConnectionError::Client(Box::new(error)))?;
        Ok(Self {
            client,
            server,
            namespace,
            has_namespace: args.namespace.is_some(),
            within: (!args.request_timeout.is_zero()).then_some(args.request_timeout),
            program,
        })
    }

    /// Namespace that was given, or that of the context.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Namespace that was given by a flag.
    pub fn given_namespace(&self) -> Option<&str> {
        self.has_namespace.then_some(self.namespace.as_str())
    }

    /// Address that is asked.
    pub fn server(&self) -> &Uri {
        &self.server
    }

    /// The client below, for answers without an end.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How the program was called, for messages.
    pub fn program(&self) -> Program {
        self.program
    }

    /// GETs `path`, which begins with `/`, with the parameters `query`.
    pub async fn get(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<u8>, ConnectionError> {
        let uri = with_query(path, query);
        let request = Request::get(&uri).header(header::ACCEPT, JSON);
        self.send(request.body(Vec::new()), "GET", path).await
    }

    /// GETs a document, read as Kubernetes means it: null is absent.
    pub async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, ConnectionError> {
        let bytes = self.get(path, query).await?;
        parse(path, &bytes)
    }

    /// GETs all pages of a list as one list, 50,000 items at most.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<List<T>, ConnectionError> {
        let mut query = query.to_vec();
        query.push(("limit", PAGE));
        let mut list: List<T> = self.read(path, &query).await?;
        for _ in 1..PAGES_MAX {
            if list.metadata.continue_token.is_empty() {
                break;
            }
            let token = std::mem::take(&mut list.metadata.continue_token);
            let mut query = query.clone();
            query.push(("continue", &token));
            let page: List<T> = self.read(path, &query).await?;
            list.items.extend(page.items);
            list.metadata = page.metadata;
        }
        Ok(list)
    }

    /// POSTs `body`.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ConnectionError> {
        let malformed = |_| ConnectionError::Malformed(path.to_owned());
        let body = serde_json::to_vec(body).map_err(malformed)?;
        let request = Request::post(path)
            .header(header::ACCEPT, JSON)
            .header(header::CONTENT_TYPE, JSON);
        let bytes = self.send(request.body(body), "POST", path).await?;
        parse(path, &bytes)
    }

    async fn send(
        &self,
        request: http::Result<Request<Vec<u8>>>,
        method: &str,
        path: &str,
    ) -> Result<Vec<u8>, ConnectionError> {
        let malformed = |_| ConnectionError::Malformed(path.to_owned());
        let request = request.map_err(malformed)?;
        let what = format!("{method} {path}");
        let answer = ask_bytes(&self.client, request, what, self.within).await;
        answer.map_err(|error| self.failed(error, method, path))
    }

    fn failed(&self, error: ClusterError, method: &str, path: &str) -> ConnectionError {
        let place = error::Place::new(&self.server.to_string(), method, path, self.program);
        ConnectionError::of(error, place)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

fn parse<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, ConnectionError> {
    common_json::from_slice(bytes).map_err(|error| ConnectionError::Document {
        path: path.to_owned(),
        error,
    })
}

async fn configured(args: &ConnectionArgs) -> Result<Config, ConnectionError> {
    let server = args.server.as_deref().map(server).transpose()?;
    let options = KubeConfigOptions {
        context: args.context.clone(),
        ..KubeConfigOptions::default()
    };
    let read = match (&args.kubeconfig, &server) {
        (Some(path), _) => {
            Some(Kubeconfig::read_from(path).map_err(|error| ConnectionError::kubeconfig(&error))?)
        }
        // A server of its own: what may lie around is for another.
        (None, Some(_)) => None,
        (None, None) => found()?,
    };
    let config = match (read, server) {
        (Some(read), server) => {
            let config = Config::from_custom_kubeconfig(read, &options).await;
            let mut config = config.map_err(|error| ConnectionError::kubeconfig(&error))?;
            if let Some(server) = server {
                config.cluster_url = server;
            }
            config
        }
        (None, Some(server)) => Config::new(server),
        (None, None) => Config::incluster().map_err(|_| ConnectionError::NoKubeconfig)?,
    };
    Ok(config)
}

/// The kubeconfig that kubectl would take; `None` if there is none.
fn found() -> Result<Option<Kubeconfig>, ConnectionError> {
    match Kubeconfig::read() {
        Ok(config) => Ok(Some(config)),
        // KUBECONFIG was set to something that is not there: that is no default.
        Err(error) if std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty()) => {
            Err(ConnectionError::kubeconfig(&error))
        }
        Err(KubeconfigError::FindPath) => Ok(None),
        Err(KubeconfigError::ReadConfig(error, _))
            if error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(None)
        }
        Err(error) => Err(ConnectionError::kubeconfig(&error)),
    }
}

fn server(text: &str) -> Result<Uri, ConnectionError> {
    let uri: Option<Uri> = text.parse().ok();
    let uri = uri.filter(|uri| {
        let scheme = uri.scheme_str();
        uri.host().is_some() && (scheme == Some("https") || scheme == Some("http"))
    });
    uri.ok_or_else(|| ConnectionError::Server(text.to_owned()))
}

/// kube reads these settings and does not send them.
fn impersonate(config: &mut Config, args: &ConnectionArgs) -> Result<(), ConnectionError> {
    let user = args.impersonate.clone();
    let groups = args.impersonate_group.clone();
    let user = user.or_else(|| config.auth_info.impersonate.clone());
    let Some(user) = user else {
        return Ok(());
    };
    let groups = match (&args.impersonate, &config.auth_info.impersonate_groups) {
        (None, Some(configured)) => configured.clone(),
        _ => groups,
    };
    let users = std::iter::once(("impersonate-user", user));
    let groups = groups.into_iter().map(|group| ("impersonate-group", group));
    for (name, value) in users.chain(groups) {
        let refused = |_| ConnectionError::Impersonation(value.clone());
        let header = HeaderValue::from_str(&value).map_err(refused)?;
        config.headers.push((HeaderName::from_static(name), header));
    }
    Ok(())
}

/// `path` with its parameters, percent-encoded.
fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    let mut uri = path.to_owned();
    for (at, (name, value)) in query.iter().enumerate() {
        uri.push(if at == 0 { '?' } else { '&' });
        uri.push_str(name);
        uri.push('=');
        uri.extend(percent_encoding::utf8_percent_encode(
            value,
            percent_encoding::NON_ALPHANUMERIC,
        ));
    }
    uri
}

#[cfg(test)]
mod tests;
