//! What of a registry a push and a pull need (OCI distribution specification 1.1), and stricter
//! than one: bytes are held against their digest, and a manifest may name only what is there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tools_images::digest::Digest;

/// Runs until it is dropped.
pub(crate) struct StandIn {
    host: String,
    contents: Arc<Mutex<Contents>>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Contents {
    /// What is served, by its path below `/v2/`, and its media type.
    served: BTreeMap<String, (Vec<u8>, String)>,
    /// Uploads that have begun.
    uploads: BTreeMap<String, Vec<u8>>,
    /// The header of who may do all of that; nothing where anybody may.
    login: Option<String>,
}

type Answer = Response<Full<Bytes>>;

// === impl StandIn ===

impl StandIn {
    pub(crate) fn start(login: Option<&str>) -> Self {
        let contents = Contents {
            login: login.map(str::to_owned),
            ..Contents::default()
        };
        let contents = Arc::new(Mutex::new(contents));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        runtime.spawn(serve(listener, Arc::clone(&contents)));
        Self {
            host,
            contents,
            _runtime: runtime,
        }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// What is under a path below `/v2/`.
    pub(crate) fn get(&self, path: &str) -> Option<Vec<u8>> {
        let contents = self.contents.lock().unwrap();
        let (bytes, _) = contents.served.get(path)?;
        Some(bytes.clone())
    }
}

async fn serve(listener: TcpListener, contents: Arc<Mutex<Contents>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let contents = Arc::clone(&contents);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&contents), request));
            let server = auto::Builder::new(TokioExecutor::new());
            // A client may close its connection whenever it wants to.
            let _closed = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    contents: Arc<Mutex<Contents>>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut contents = contents.lock().unwrap();
    let query = head.uri.query().unwrap_or_default();
    let path = head.uri.path().trim_start_matches("/v2/");
    if !contents.lets_in(&head.headers) {
        let mut answer = status(StatusCode::UNAUTHORIZED);
        let challenge = "Basic realm=\"stand-in\"".parse().unwrap();
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        return Ok(answer);
    }
    Ok(match head.method {
        Method::GET | Method::HEAD => contents.read(path, head.method == Method::HEAD),
        Method::POST => contents.begin(path),
        Method::PATCH => contents.go_on(path, &body),
        Method::PUT if path.contains("/uploads/") => contents.end(path, query, &body),
        Method::PUT => contents.name(path, &head.headers, &body),
        _ => status(StatusCode::METHOD_NOT_ALLOWED),
    })
}

fn status(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

fn refusal(code: &str, message: &str) -> Answer {
    let errors = serde_json::json!({"errors": [{"code": code, "message": message}]});
    let mut answer = Response::new(Full::from(errors.to_string()));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer
}

// === impl Contents ===

impl Contents {
    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let Some(login) = &self.login else {
            return true;
        };
        headers.get(AUTHORIZATION).is_some_and(|said| said == login)
    }

    fn read(&self, path: &str, head_only: bool) -> Answer {
        if path.trim_matches('/').is_empty() || path == "/v2" {
            return status(StatusCode::OK);
        }
        let Some((bytes, kind)) = self.served.get(path) else {
            return status(StatusCode::NOT_FOUND);
        };
        let body = if head_only { Vec::new() } else { bytes.clone() };
        let answer = Response::builder()
            .header(CONTENT_TYPE, kind)
            .header("Content-Length", bytes.len())
            .header("Docker-Content-Digest", Digest::of(bytes).to_string());
        answer.body(Full::from(body)).unwrap()
    }

    fn begin(&mut self, path: &str) -> Answer {
        let repository = path.trim_end_matches('/').trim_end_matches("/uploads");
        let upload = format!("{repository}/uploads/{}", self.uploads.len());
        self.uploads.insert(upload.clone(), Vec::new());
        located(StatusCode::ACCEPTED, &upload)
    }

    fn go_on(&mut self, upload: &str, body: &[u8]) -> Answer {
        let Some(bytes) = self.uploads.get_mut(upload) else {
            return status(StatusCode::NOT_FOUND);
        };
        bytes.extend_from_slice(body);
        let mut answer = located(StatusCode::ACCEPTED, upload);
        let range = format!("0-{}", bytes.len().saturating_sub(1));
        answer.headers_mut().insert("Range", range.parse().unwrap());
        answer
    }

    fn end(&mut self, upload: &str, query: &str, body: &[u8]) -> Answer {
        let Some(mut bytes) = self.uploads.remove(upload) else {
            return status(StatusCode::NOT_FOUND);
        };
        // The number of the next one is their count.
        self.uploads.insert(format!("ended {upload}"), Vec::new());
        bytes.extend_from_slice(body);
        let digest = Digest::of(&bytes).to_string();
        let said = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("digest="));
        if said.map(|said| said.replace("%3A", ":")) != Some(digest.clone()) {
            return refusal("DIGEST_INVALID", &digest);
        }
        let (repository, _) = upload.split_once("/uploads/").unwrap();
        let path = format!("{repository}/{digest}");
        let kind = "application/octet-stream".to_owned();
        self.served.insert(path.clone(), (bytes, kind));
        located(StatusCode::CREATED, &path)
    }

    /// A manifest, under a tag or its digest.
    fn name(&mut self, path: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
        let (repository, reference) = path.rsplit_once("/manifests/").unwrap();
        let digest = Digest::of(body).to_string();
        if reference.starts_with("sha256:") && reference != digest {
            return refusal("DIGEST_INVALID", &digest);
        }
        let manifest: Value = serde_json::from_slice(body).unwrap();
        let list = |field: &str| manifest[field].as_array().cloned().unwrap_or_default();
        let config = manifest.get("config").cloned();
        let blobs = list("layers").into_iter().chain(config);
        let blobs = blobs.map(|blob| ("blobs", blob));
        let manifests = list("manifests").into_iter();
        let manifests = manifests.map(|manifest| ("manifests", manifest));
        for (kind, descriptor) in blobs.chain(manifests) {
            let named = descriptor["digest"].as_str().unwrap();
            let found = self.served.get(&format!("{repository}/{kind}/{named}"));
            if found.is_none_or(|(bytes, _)| descriptor["size"] != bytes.len()) {
                return refusal("MANIFEST_BLOB_UNKNOWN", named);
            }
        }
        let kind = headers[CONTENT_TYPE].to_str().unwrap().to_owned();
        for reference in [reference, &digest] {
            let path = format!("{repository}/manifests/{reference}");
            self.served.insert(path, (body.to_vec(), kind.clone()));
        }
        let mut answer = located(StatusCode::CREATED, path);
        let digest = digest.parse().unwrap();
        answer.headers_mut().insert("Docker-Content-Digest", digest);
        answer
    }
}

fn located(code: StatusCode, path: &str) -> Answer {
    let mut answer = status(code);
    let location = format!("/v2/{path}").parse().unwrap();
    answer.headers_mut().insert(LOCATION, location);
    answer
}
