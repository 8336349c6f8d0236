//! Every HTTP client behind remote write obeys the proxies of the environment, and AWS' settings of
//! endpoints: a proxy that answers 502 to everything notes what it was asked for.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tests_support::artifacts;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;

const AMP: &str =
    "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write";
const ROLE: &str = "arn:aws:iam::123456789012:role/writer";

/// Answers 502 to everything; notes the first two words of each request.
struct Refusing {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Refusing {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let notes = Arc::clone(&notes);
                tokio::spawn(async move {
                    let mut head = vec![0; 4096];
                    let read = stream.read(&mut head).await.unwrap_or(0);
                    let head = String::from_utf8_lossy(&head[..read]).into_owned();
                    let words: Vec<_> = head.split(' ').take(2).collect();
                    notes.lock().push(words.join(" "));
                    let refusal = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    let _ = stream.write_all(refusal).await;
                });
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked for, each once.
    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().clone();
        asked.dedup();
        asked
    }
}

/// What `remote-write check` prints, with nothing in the environment but `environment`.
async fn check(args: &[&str], environment: &[(&str, &str)]) -> String {
    let checking = Command::new(artifacts::meshmeter().unwrap())
        .args(["remote-write", "check"])
        .args(args)
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_MAX_ATTEMPTS", "1")
        .envs(environment.iter().copied())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_mins(1), checking).await;
    let output = output.expect("the check ends").unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A request that has to come to the proxy, by what is configured.
struct Case {
    what: &'static str,
    args: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    first: &'static str,
}

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "test-key"),
    ("AWS_SECRET_ACCESS_KEY", "test-secret"),
];

const CASES: [Case; 8] = [
    Case {
        what: "the receiver",
        args: &["--remote-write-url", AMP],
        environment: &KEYS,
        first: "CONNECT aps-workspaces.eu-west-1.amazonaws.com:443",
    },
    Case {
        what: "a service account's role (IRSA)",
        args: &["--remote-write-url", AMP],
        environment: &[("AWS_ROLE_ARN", ROLE)],
        first: "CONNECT sts.eu-west-1.amazonaws.com:443",
    },
    Case {
        what: "another role",
        args: &["--remote-write-url", AMP, "--remote-write-role-arn", ROLE],
        environment: &KEYS,
        first: "CONNECT sts.eu-west-1.amazonaws.com:443",
    },
    Case {
        what: "a region of China",
        args: &[
            "--remote-write-url",
            "https://aps-workspaces.cn-north-1.amazonaws.com.cn/workspaces/ws-1/api/v1/remote_write",
        ],
        environment: &[("AWS_ROLE_ARN", ROLE)],
        first: "CONNECT sts.cn-north-1.amazonaws.com.cn:443",
    },
    Case {
        what: "FIPS",
        args: &[
            "--remote-write-url",
            "https://aps-workspaces-fips.us-east-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write",
        ],
        environment: &[("AWS_ROLE_ARN", ROLE), ("AWS_USE_FIPS_ENDPOINT", "true")],
        first: "CONNECT sts-fips.us-east-1.amazonaws.com:443",
    },
    Case {
        what: "an endpoint of STS",
        args: &["--remote-write-url", AMP],
        environment: &[
            ("AWS_ROLE_ARN", ROLE),
            ("AWS_ENDPOINT_URL_STS", "https://sts.corp.example"),
        ],
        first: "CONNECT sts.corp.example:443",
    },
    Case {
        what: "an endpoint of every service",
        args: &["--remote-write-url", AMP, "--remote-write-role-arn", ROLE],
        environment: &[
            KEYS[0],
            KEYS[1],
            ("AWS_ENDPOINT_URL", "https://aws.corp.example"),
        ],
        first: "CONNECT aws.corp.example:443",
    },
    Case {
        what: "an agent that is not on this node",
        args: &["--remote-write-url", AMP],
        environment: &[(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "https://agent.corp.example/v1/credentials",
        )],
        first: "CONNECT agent.corp.example:443",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_of_the_environment_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "token").unwrap();
    for Case {
        what,
        args,
        environment,
        first,
    } in &CASES
    {
        let proxy = Refusing::start().await;
        let url = proxy.url();
        let mut environment = environment.to_vec();
        environment.push(("HTTPS_PROXY", &url));
        environment.push(("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()));
        let said = check(args, &environment).await;
        assert_eq!(proxy.asked(), [*first], "{what}: {said}");
        assert!(!said.contains("the receiver says"), "{what}: {said}");
        assert!(said.contains("cannot be reached"), "{what}: {said}");
    }
}

/// `NO_PROXY` leads past the proxy, to STS as to the receiver.
#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_is_obeyed() {
    for (host, no_proxy, by_proxy) in [
        ("127.0.0.1", "", true),
        ("127.0.0.1", "127.0.0.0/8", false),
        ("localhost", "localhost", false),
        ("localhost", "*", false),
    ] {
        let (proxy, direct) = (Refusing::start().await, Refusing::start().await);
        let proxy_url = proxy.url();
        let direct_url = format!("http://{host}:{}", direct.address.port());
        let environment = [
            ("HTTP_PROXY", proxy_url.as_str()),
            ("NO_PROXY", no_proxy),
            ("AWS_ENDPOINT_URL_STS", direct_url.as_str()),
            KEYS[0],
            KEYS[1],
        ];
        let to_a_role = ["--remote-write-url", AMP, "--remote-write-role-arn", ROLE];
        let said = check(&to_a_role, &environment).await;
        assert_eq!(proxy.asked().is_empty(), !by_proxy, "{no_proxy:?}: {said}");
        assert_eq!(direct.asked().is_empty(), by_proxy, "{no_proxy:?}: {said}");
        let receiver = format!("{direct_url}/api/v1/write");
        check(&["--remote-write-url", &receiver], &environment).await;
        let at = if by_proxy { &proxy } else { &direct };
        let last = at.asked().pop().unwrap();
        assert!(last.ends_with("/api/v1/write"), "{no_proxy:?}: {last}");
    }
}
