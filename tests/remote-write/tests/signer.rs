//! Our signatures are those of botocore, on requests that nobody thought of.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use common_aws::signer::Signer;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tests_support::artifacts;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const REQUESTS: usize = 1_000;

fn text(random: &mut StdRng, characters: &str, length: std::ops::Range<usize>) -> String {
    let all: Vec<char> = characters.chars().collect();
    let length = random.random_range(length);
    (0..length).filter_map(|_| all.choose(random)).collect()
}

/// What a URL may have in its path, escapes and what is escaped twice among it.
fn path(random: &mut StdRng) -> String {
    let parts = random.random_range(0..5);
    (0..parts).fold(String::new(), |mut path, _| {
        let part = text(random, "abcXYZ019-_.~+:@!$&'()*,;=", 1..12);
        // A dot alone would be another path.
        let escape = ["", "%20", "%2B", "%C3%A9", "%25"].choose(random).unwrap();
        let _ = write!(path, "/x{part}{escape}");
        path
    })
}

#[tokio::test]
async fn botocore_agrees() {
    const LETTERS: &str = "ABCDEFabcdef0123456789";
    let mut random = StdRng::seed_from_u64(0x0A95);
    let mut ours = Vec::new();
    let mut asked = String::new();
    for _ in 0..REQUESTS {
        let path = path(&mut random);
        let port = ["", ":8443"].choose(&mut random).unwrap();
        let url = format!(
            "https://{}.example{port}{path}",
            text(&mut random, "abc019", 1..9)
        );
        let mut body = vec![0; random.random_range(0..200)];
        random.fill(&mut body[..]);
        let (key, secret) = (
            text(&mut random, LETTERS, 16..21),
            text(&mut random, "abcXYZ019/+=", 20..41),
        );
        let token = text(&mut random, "abcXYZ019/+=", 0..60);
        let region = ["us-east-1", "eu-central-2", "cn-north-1"]
            .choose(&mut random)
            .unwrap();
        let service = ["aps", "appmesh", "s3x"].choose(&mut random).unwrap();
        let time = random.random_range(946_684_800_u64..4_102_444_800);
        let held = (!token.is_empty()).then(|| token.clone());
        let credentials = Credentials::from_keys(&key, &secret, held);
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
        let signed = Signer::new(region, service).sign(&url, &body, &credentials, at);
        let signed = signed.unwrap();
        let authorization = signed["authorization"].to_str().unwrap();
        let signature = authorization.rsplit_once("Signature=").unwrap().1;
        ours.push((signature.to_owned(), url.clone()));
        let hex: String = body.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let request = json!({
            "url": url, "body": hex, "key": key, "secret": secret, "token": token,
            "region": region, "service": service, "time": time,
        });
        let _ = writeln!(asked, "{request}");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sigv4.py");
    let mut python = Command::new(artifacts::python().unwrap())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(asked.as_bytes()).await });
    let output = python.wait_with_output().await.unwrap();
    writing.await.unwrap().unwrap();
    let theirs = String::from_utf8(output.stdout).unwrap();
    let theirs: Vec<_> = theirs.lines().collect();
    assert_eq!(theirs.len(), REQUESTS);
    for ((ours, url), theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours, theirs, "{url}");
    }
}
