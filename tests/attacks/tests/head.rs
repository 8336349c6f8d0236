//! HEAD over HTTP/2, whose answer must have no body: a body is a protocol error that ends the
//! connection for all its requests.

use std::fs;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use tempfile::TempDir;
use tests_attacks::caged::Caged;
use tests_attacks::target::{HTTP2, Target};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::kubernetes::CertificateAuthority;

const LIMIT: u64 = 256 << 20;
const PATHS: [&str; 7] = [
    "/",
    "/version/",
    "/apis/",
    "/livez",
    "/metrics",
    "/mutate",
    "/nothing",
];

type Answer = (StatusCode, HeaderMap, Bytes);

/// Both methods on one connection, which serves on: status, headers but for the date, and body.
async fn ask(target: &Target, path: &str) -> Result<[Answer; 2]> {
    let socket = target.connect(HTTP2).await?;
    let (mut sender, connection) = h2::client::handshake(socket).await?;
    let connection = tokio::spawn(connection);
    let mut answers = Vec::new();
    for method in [Method::HEAD, Method::GET] {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", target.address))
            .body(())?;
        sender = sender.ready().await?;
        let (response, _) = sender.send_request(request, true)?;
        let (mut head, mut body) = response.await?.into_parts();
        let mut text = Vec::new();
        while let Some(data) = body.data().await {
            text.extend_from_slice(&data?);
        }
        head.headers.remove("date");
        answers.push((head.status, head.headers, text.into()));
    }
    connection.abort();
    Ok(answers.try_into().expect("two were asked"))
}

/// On every listener that speaks HTTP/2, on paths that there are and that there are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_has_no_body_on_any_listener() -> Result<()> {
    let aggregator = Aggregator::start(&Options::default()).await?;
    let folder = TempDir::new()?;
    let manifests = format!("--manifests={}", folder.path().display());
    let arguments = ["control-plane".to_owned(), manifests];
    let control_plane = Caged::start(LIMIT, TempDir::new()?, "xds", &arguments).await?;
    let issued = CertificateAuthority::new("cluster")?.server(&["webhook"])?;
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
    fs::write(&certificate, &issued.certificate)?;
    fs::write(&key, &issued.key)?;
    let arguments = [
        "injector".to_owned(),
        "--image=registry/mesh:1".to_owned(),
        "--upstream=http://control-plane:18000".to_owned(),
        "--aggregator=meshmeter:7470".to_owned(),
        format!("--cert-file={}", certificate.display()),
        format!("--key-file={}", key.display()),
    ];
    let webhook = Caged::start(LIMIT, TempDir::new()?, "webhook", &arguments).await?;
    for (listener, target) in [
        ("ingest", Target::plain(aggregator.ingest())),
        ("API", Target::unverified(aggregator.api_address())?),
        ("control plane", Target::plain(control_plane.port)),
        ("webhook", Target::unverified(webhook.port)?),
    ] {
        for path in PATHS {
            let [head, get] = ask(&target, path).await?;
            ensure!(head.2.is_empty(), "{listener} {path}: {head:?}");
            let same = (head.0, &head.1) == (get.0, &get.1);
            ensure!(same, "{listener} {path}: {head:?}, GET: {get:?}");
        }
    }
    Ok(())
}
