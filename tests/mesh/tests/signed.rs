//! Streams to a control plane that wants TLS and a signature: botocore, which knows nothing of our
//! code, makes the same one.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use prost::Message as _;
use serde_json::json;
use tests_mesh::grpc::{self, ControlPlane};
use tests_mesh::{Modules, XdsProxy};
use tests_support::artifacts;
use tests_support::kubernetes::CertificateAuthority;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const TYPE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "session/token==";
const REGION: &str = "eu-central-1";
/// SHA-256 of nothing.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers[name].to_str().unwrap()
}

/// The signature that botocore makes of a stream with these headers.
async fn by_botocore(authority: &str, service: &str, headers: &HeaderMap) -> String {
    let time = time::PrimitiveDateTime::parse(
        text(headers, "x-amz-date"),
        time::macros::format_description!("[year][month][day]T[hour][minute][second]Z"),
    );
    let asked = json!({
        "url": format!("https://{authority}{}", grpc::STREAM),
        "body": "",
        "headers": {"X-Amz-Content-SHA256": text(headers, "x-amz-content-sha256")},
        "key": KEY, "secret": SECRET, "token": TOKEN, "region": REGION, "service": service,
        "time": time.unwrap().assume_utc().unix_timestamp(),
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../remote-write/sigv4.py");
    let mut python = Command::new(artifacts::python().unwrap())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(asked.to_string().as_bytes()).await.unwrap();
    drop(stdin);
    let output = python.wait_with_output().await.unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn botocore_agrees() {
    let authority = CertificateAuthority::new("control-plane").unwrap();
    let identity = authority.server(&["localhost"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    let sent = grpc::response(TYPE, "1", &[b"routes".to_vec()]);
    let answer = sent.clone();
    let control_plane =
        ControlPlane::start(Some(&identity), Arc::new(move |_| vec![answer.clone()]))
            .await
            .unwrap();
    let name = format!("localhost:{}", control_plane.address.port());
    for service in ["appmesh", "other"] {
        let mut flags = vec![
            format!("--upstream=https://{name}"),
            format!("--upstream-ca-file={}", file.display()),
            "--upstream-auth=sigv4".to_owned(),
            format!("--upstream-region={REGION}"),
            format!(
                "--filter-wasm={}",
                Modules::built().unwrap().filter.display()
            ),
            "--aggregator=127.0.0.1:9".to_owned(),
        ];
        if service != "appmesh" {
            flags.push(format!("--upstream-signing-name={service}"));
        }
        let environment = [
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_SESSION_TOKEN", TOKEN),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let xds_proxy = XdsProxy::spawn(flags, &environment).await.unwrap();
        let (requests, mut responses) = grpc::open(xds_proxy.xds).await.unwrap();
        let request = Bytes::from(grpc::request(TYPE).encode_to_vec());
        requests.send(request.clone()).await.unwrap();
        assert_eq!(grpc::next(&mut responses).await.unwrap(), sent);
        assert_eq!(control_plane.requests().last(), Some(&request));
        // A second message on the stream has no signature of its own.
        requests.send(request).await.unwrap();
        assert_eq!(grpc::next(&mut responses).await.unwrap(), sent);

        let (asked, headers) = control_plane.streams().pop().unwrap();
        assert_eq!(asked, name, "the host is that of the control plane");
        assert_eq!(text(&headers, "x-amz-content-sha256"), NOTHING);
        assert_eq!(text(&headers, "x-amz-security-token"), TOKEN);
        let authorization = text(&headers, "authorization");
        let scope = format!("/{REGION}/{service}/aws4_request, ");
        assert!(authorization.contains(&scope), "{authorization}");
        let signed = "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, ";
        assert!(authorization.contains(signed), "{authorization}");
        let (_, signature) = authorization.rsplit_once("Signature=").unwrap();
        assert_eq!(signature, by_botocore(&name, service, &headers).await);
    }
    assert_eq!(control_plane.streams().len(), 2, "one signature a stream");
}

/// A certificate of nobody we trust, or for another name, is no control plane of ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_nothing() {
    let (ours, theirs) = (
        CertificateAuthority::new("ours").unwrap(),
        CertificateAuthority::new("theirs").unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &ours.pem).unwrap();
    for identity in [
        theirs.server(&["localhost"]).unwrap(),
        ours.server(&["other.example"]).unwrap(),
    ] {
        let control_plane = ControlPlane::start(Some(&identity), Arc::new(|_| vec![]))
            .await
            .unwrap();
        let flags = vec![
            format!(
                "--upstream=https://localhost:{}",
                control_plane.address.port()
            ),
            format!("--upstream-ca-file={}", file.display()),
            format!(
                "--filter-wasm={}",
                Modules::built().unwrap().filter.display()
            ),
            "--aggregator=127.0.0.1:9".to_owned(),
        ];
        let xds_proxy = XdsProxy::spawn(flags, &[]).await.unwrap();
        let (requests, mut responses) = grpc::open(xds_proxy.xds).await.unwrap();
        let request = grpc::request(TYPE).encode_to_vec();
        // The stream may have ended before it is asked anything.
        let _ = requests.send(request.into()).await;
        let status = responses.message().await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
        assert!(control_plane.streams().is_empty());
    }
}
