//! The API server: TLS on loopback, bearer tokens, lists, watches, reviews, patches.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::{Mutex, MutexGuard};
use rustls::ServerConfig;
use rustls::crypto::ring;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ca::CertificateAuthority;
use super::objects::{CONFIG_MAP, Objects, Resource};
use super::proxy::FrontProxy;
use issuer::IssuerState;
use replies::{Answer, already_exists, failure, not_found, page_not_found, reply};
use target::{Target, target};

mod collections;
pub mod issuer;
mod pages;
mod patches;
mod replies;
mod reviews;
mod subresources;
mod target;
mod watching;

/// Longest body of a request, in bytes.
const BODY_MAX: usize = 1 << 20;
/// The token of the aggregator under test.
const CLIENT_TOKEN: &str = "the-aggregators-own-token";

/// A running API server; ends when dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    ca: CertificateAuthority,
    front_proxy: FrontProxy,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// The user of a bearer token.
#[derive(Clone, Debug, Default)]
pub struct KnownUser {
    pub username: String,
    pub groups: Vec<String>,
    /// Extra fields, such as the pod that a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
    /// Audiences the token is for.
    pub audiences: Vec<String>,
}

/// How the server says what it says: all of it right, none of it what one is used to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a habit of its own")]
pub struct Manner {
    /// Bytes in each part of an answer; as they come for 0.
    pub chunk: usize,
    pub pause: Duration,
    /// Several events of a watch in one part, an empty line between them.
    pub joined: bool,
    /// Null in all places where an object has an empty list or map.
    pub nulls: bool,
    /// That a watch begins too early is said by the status of the answer, not by an event.
    pub gone_as_status: bool,
    /// No version is young enough for a watch.
    pub forgetful: bool,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) objects: Objects,
    tuning: Mutex<Tuning>,
    /// Cancelled and replaced to break all watches at once.
    watches: Mutex<CancellationToken>,
    stop: CancellationToken,
}

/// Settings and records of a test.
#[derive(Debug, Default)]
struct Tuning {
    tokens: BTreeMap<String, KnownUser>,
    issuer: IssuerState,
    allowed: BTreeSet<String>,
    outage: Option<StatusCode>,
    manner: Manner,
    /// Continue tokens that are still refused as too old.
    expired_tokens: u32,
    /// Plural names of kinds that nobody may list or watch.
    forbidden: BTreeSet<&'static str>,
    /// Plural names of kinds that are not installed.
    absent: BTreeSet<&'static str>,
    /// Answers of a test's own, by path with or without its query.
    pages: BTreeMap<String, (StatusCode, Value)>,
    /// What whoever asks may not, as `VERB RESOURCE`, and users, as `USER VERB RESOURCE`.
    denied: BTreeSet<String>,
    requests: BTreeMap<String, u64>,
    seen: BTreeSet<(String, String)>,
}

// === impl ApiServer ===

impl ApiServer {
    /// Starts an empty cluster whose aggregation layer says who its clients are.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("listen for the API server")?;
        let address = listener.local_addr().context("read the port")?;
        let ca = CertificateAuthority::new("test-cluster-ca")?;
        let (certificates, key) = ca.server(&["127.0.0.1", "localhost"])?.to_rustls()?;
        let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("choose TLS versions")?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .context("use the server's certificate")?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stop = CancellationToken::new();
        let tuning = Tuning {
            issuer: IssuerState::new()?,
            ..Tuning::default()
        };
        let shared = Arc::new(Shared {
            objects: Objects::default(),
            tuning: Mutex::new(tuning),
            watches: Mutex::new(stop.child_token()),
            stop: stop.clone(),
        });
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let serving = serve(listener, acceptor, Arc::clone(&shared));
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        let front_proxy = FrontProxy::new()?;
        let config = front_proxy.config_map(&ca.pem);
        shared.objects.apply(CONFIG_MAP, config);
        Ok(Self {
            address,
            ca,
            front_proxy,
            shared,
            _stop: stop.drop_guard(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The objects of the Kubernetes cluster.
    pub fn objects(&self) -> &Objects {
        &self.shared.objects
    }

    /// How kube-apiserver reaches aggregated API servers.
    pub fn front_proxy(&self) -> &FrontProxy {
        &self.front_proxy
    }

    /// The CA of the cluster: of this server, and of certificates of its users.
    pub fn ca(&self) -> &CertificateAuthority {
        &self.ca
    }

    /// Writes a kubeconfig for the aggregator under test.
    pub fn write_kubeconfig(&self, file: &Path) -> Result<()> {
        let ca = file.with_extension("ca.pem");
        fs::write(&ca, &self.ca.pem).context("write the CA")?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://{}", self.address),
                "certificate-authority": ca.display().to_string(),
            }}],
            "users": [{"name": "meshmeter", "user": {"token": CLIENT_TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "meshmeter"}}],
        });
        fs::write(file, config.to_string()).context("write the kubeconfig")
    }

    /// From now on `token` belongs to `user`.
    pub fn add_token(&self, token: &str, user: KnownUser) {
        self.tuning().tokens.insert(token.to_owned(), user);
    }

    /// Revokes `token`.
    pub fn revoke_token(&self, token: &str) {
        self.tuning().tokens.remove(token);
    }

    /// From now on `user` may do everything.
    pub fn allow(&self, user: &str) {
        self.tuning().allowed.insert(user.to_owned());
    }

    /// Answers everything with `status` and breaks all watches, until set to `None`.
    pub fn set_outage(&self, status: Option<StatusCode>) {
        self.tuning().outage = status;
        self.break_watches();
    }

    /// From now on answers lists and watches in this manner.
    pub fn set_manner(&self, manner: Manner) {
        self.tuning().manner = manner;
        self.break_watches();
    }

    /// Refuses the next `count` continue tokens of lists as too old.
    pub fn expire_tokens(&self, count: u32) {
        self.tuning().expired_tokens = count;
    }

    /// From now on the kind is not installed, or is again.
    pub fn set_absent(&self, resource: Resource, absent: bool) {
        let mut tuning = self.tuning();
        if absent {
            tuning.absent.insert(resource.plural);
        } else {
            tuning.absent.remove(resource.plural);
        }
    }

    /// From now on nobody may list or watch the kind, or everyone may again.
    pub fn set_forbidden(&self, resource: Resource, forbidden: bool) {
        let mut tuning = self.tuning();
        if forbidden {
            tuning.forbidden.insert(resource.plural);
        } else {
            tuning.forbidden.remove(resource.plural);
        }
    }

    pub fn break_watches(&self) {
        let mut watches = self.shared.watches.lock();
        watches.cancel();
        *watches = self.shared.stop.child_token();
    }

    /// Requests so far by kind: `list pods`, `watch pods`, `tokenreviews`.
    pub fn requests(&self, kind: &str) -> u64 {
        self.tuning().requests.get(kind).copied().unwrap_or(0)
    }

    /// Every request so far that was let in, as method and path with query; each once. For what a
    /// client may do.
    pub fn seen(&self) -> BTreeSet<(String, String)> {
        self.tuning().seen.clone()
    }

    fn tuning(&self) -> MutexGuard<'_, Tuning> {
        self.shared.tuning()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        let stop = shared.stop.clone();
        tokio::spawn(stop.run_until_cancelled_owned(connection(stream, acceptor, shared)));
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
    // The client may go at any time: nothing to do about it here.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

// === impl Shared ===

impl Shared {
    fn tuning(&self) -> MutexGuard<'_, Tuning> {
        self.tuning.lock()
    }

    pub(super) fn watches(&self) -> CancellationToken {
        self.watches.lock().clone()
    }

    fn note(&self, head: &http::request::Parts) {
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        let asked = (head.method.to_string(), path.to_owned());
        self.tuning().seen.insert(asked);
    }

    fn count(&self, kind: &str) {
        *self.tuning().requests.entry(kind.to_owned()).or_default() += 1;
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answer {
        if let Some(outage) = self.tuning().outage {
            return replies::outage(outage);
        }
        let (head, body) = request.into_parts();
        let authorization = head.headers.get(header::AUTHORIZATION);
        if authorization.is_none_or(|value| value != format!("Bearer {CLIENT_TOKEN}").as_str()) {
            return failure(StatusCode::UNAUTHORIZED, "Unauthorized");
        }
        self.note(&head);
        let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
            return failure(StatusCode::PAYLOAD_TOO_LARGE, "limit exceeded");
        };
        let body = serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null);
        if let Some(page) = self.page(&head.uri) {
            return page;
        }
        let of_custom = self.of_custom(&head.method, head.uri.path(), &body);
        of_custom.unwrap_or_else(|| self.dispatch(&head, body))
    }

    fn dispatch(self: &Arc<Self>, head: &http::request::Parts, body: Value) -> Answer {
        let path = head.uri.path();
        match (head.method.clone(), path) {
            (Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews") => {
                self.token_review(body)
            }
            (Method::POST, "/apis/authorization.k8s.io/v1/subjectaccessreviews") => {
                self.access_review(body)
            }
            (Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews") => {
                self.own_access_review(body)
            }
            (Method::GET, issuer::DISCOVERY | issuer::KEYS) => self.issuer_document(path),
            (Method::GET, _) => match target(path) {
                Some(Target {
                    resource,
                    namespace,
                    name: Some(name),
                }) => self.read(resource, &namespace, &name),
                Some(target) => self.collection(&target, head),
                None => page_not_found(),
            },
            (Method::POST, _) => match target(path) {
                Some(Target {
                    resource,
                    namespace,
                    name: None,
                }) => self.create(resource, &namespace, &body),
                _ => not_found(path),
            },
            (Method::DELETE, _) => match target(path) {
                Some(Target {
                    resource,
                    namespace,
                    name: Some(name),
                }) => self.delete(resource, &namespace, &name, &body),
                _ => not_found(path),
            },
            (Method::PATCH, _) => match target(path) {
                Some(Target {
                    resource,
                    namespace,
                    name: Some(name),
                }) => self.patch(resource, &namespace, &name, &head.headers, &body),
                _ => not_found(path),
            },
            (Method::PUT, _) => match target(path) {
                Some(Target {
                    resource,
                    namespace,
                    name: Some(name),
                }) => self.replace(resource, &namespace, &name, &body),
                _ => not_found(path),
            },
            _ => failure(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
        }
    }

    fn read(&self, resource: Resource, namespace: &str, name: &str) -> Answer {
        match self.objects.get(resource, namespace, name) {
            Some(object) => reply(StatusCode::OK, &object),
            None => not_found(name),
        }
    }

    fn create(&self, resource: Resource, namespace: &str, object: &Value) -> Answer {
        self.count(&format!("create {}", resource.plural));
        let mut object = object.clone();
        let given = object["metadata"]["name"].as_str();
        let name = match (given, object["metadata"]["generateName"].as_str()) {
            (Some(name), _) => name.to_owned(),
            (None, Some(base)) => format!("{base}{}", self.objects.list(resource, "").0),
            (None, None) => {
                let message = "name or generateName is required";
                return failure(StatusCode::UNPROCESSABLE_ENTITY, message);
            }
        };
        object["metadata"]["name"] = name.clone().into();
        let made = self.objects.update(resource, namespace, &name, |held| {
            held.map_or(Ok(object), |_| Err(Box::new(already_exists(&name))))
        });
        made.map_or_else(|refused| *refused, |made| reply(StatusCode::CREATED, &made))
    }

    fn patch(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        headers: &header::HeaderMap,
        patch: &Value,
    ) -> Answer {
        self.count(&format!("patch {}", resource.plural));
        let content_type = headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let patched = self.objects.update(resource, namespace, name, |held| {
            let mut object = held.cloned().ok_or_else(|| Box::new(not_found(name)))?;
            let known = &patch["metadata"]["resourceVersion"];
            if !known.is_null() && *known != object["metadata"]["resourceVersion"] {
                let message = "the object has been modified";
                return Err(Box::new(failure(StatusCode::CONFLICT, message)));
            }
            match patches::apply(&mut object, content_type, patch) {
                Ok(()) => Ok(object),
                Err(message) => {
                    let status = StatusCode::UNPROCESSABLE_ENTITY;
                    Err(Box::new(failure(status, &message)))
                }
            }
        });
        patched.map_or_else(|refused| *refused, |object| reply(StatusCode::OK, &object))
    }

    /// As a real server: an update needs the newest resourceVersion.
    fn replace(&self, resource: Resource, namespace: &str, name: &str, object: &Value) -> Answer {
        self.count(&format!("update {}", resource.plural));
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        let replaced = self.objects.update(resource, namespace, name, |held| {
            let held = held.ok_or_else(|| Box::new(not_found(name)))?;
            if version(held) == version(object) {
                Ok(object.clone())
            } else {
                let message = "the object has been modified";
                Err(Box::new(failure(StatusCode::CONFLICT, message)))
            }
        });
        replaced.map_or_else(|refused| *refused, |object| reply(StatusCode::OK, &object))
    }

    /// As a real server: deletes only if the `preconditions` hold.
    fn delete(&self, resource: Resource, namespace: &str, name: &str, options: &Value) -> Answer {
        self.count(&format!("delete {}", resource.plural));
        let wanted = &options["preconditions"];
        let holds = |held: &Value| {
            let mut fields = ["uid", "resourceVersion"].into_iter();
            fields.all(|field| wanted[field].is_null() || wanted[field] == held["metadata"][field])
        };
        match self.objects.delete_if(resource, namespace, name, holds) {
            None => not_found(name),
            Some(false) => failure(StatusCode::CONFLICT, "the object has been modified"),
            Some(true) => {
                let success = json!({"kind": "Status", "status": "Success"});
                reply(StatusCode::OK, &success)
            }
        }
    }
}
