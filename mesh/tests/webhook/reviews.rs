//! Reviews in, patches out.

use futures_util::future::join_all;
use tests_support::clock::wait_for;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::program::{PATIENCE, Program, admitted, pod, review_of};

/// A pod of a `ReplicaSet` gets what it needs, the rest of it stays, and another time nothing is
/// added.
#[tokio::test(flavor = "multi_thread")]
async fn a_review_is_answered_with_a_patch() {
    let (program, files) = Program::with_files().await;
    program.wait_ready().await;
    let client = program.client(&files.ca.pem);
    let review = review_of(None);
    let reply = client.review(&review).await.unwrap();
    let (injected, response) = admitted(&review, &reply);
    assert!(response["warnings"].is_null());
    let init = injected["spec"]["initContainers"].as_array().unwrap();
    assert!(init.iter().any(|one| one["name"] == "meshmeter-xds-proxy"));
    assert_eq!(injected["spec"]["containers"], pod()["spec"]["containers"]);
    let again = review_of(Some(&injected));
    let reply = client.http2().await.unwrap().review(&again).await.unwrap();
    let (same, _) = admitted(&again, &reply);
    assert_eq!(same, injected);
    program
        .wait_metric("reviews_total{result=\"injected\",reason=\"\"}", 1.0)
        .await;
    program
        .wait_metric("reviews_total{result=\"skipped\",reason=\"done\"}", 1.0)
        .await;
    assert!(program.metric("review_duration_seconds_count").await > 1.0);
}

/// 200 reviews at once, each of a pod of its own, over one connection and over one each: each gets
/// its own answer.
#[tokio::test(flavor = "multi_thread")]
async fn many_reviews_at_once() {
    let (program, files) = Program::with_files().await;
    let client = program.client(&files.ca.pem);
    let shared = client.http2().await.unwrap();
    let ask = async |number: usize| {
        let mut review = review_of(None);
        review["request"]["uid"] = format!("uid-{number}").into();
        review["request"]["object"]["metadata"]["generateName"] = format!("p{number}-").into();
        let reply = if number.is_multiple_of(2) {
            shared.clone().review(&review).await
        } else {
            client.review(&review).await
        };
        let (pod, response) = admitted(&review, &reply.unwrap());
        assert!(response["patch"].is_string());
        assert_eq!(pod["metadata"]["generateName"], format!("p{number}-"));
    };
    join_all((0..200).map(ask)).await;
    let series = "reviews_total{result=\"injected\",reason=\"\"}";
    program.wait_metric(series, 200.0).await;
}

/// SIGTERM: not ready at once, still answering meanwhile, and the end is a clean one.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_is_answered() {
    let (mut program, files) = Program::with_files().await;
    program.wait_ready().await;
    let client = program.client(&files.ca.pem);
    let mut open = client.http2().await.unwrap();
    let review = review_of(None);
    let addresses = program.addresses;
    let ending = tokio::spawn(async move {
        let status = program.process.terminate(PATIENCE).await;
        status.unwrap()
    });
    let mut while_it_ends = 0;
    loop {
        let page = tests_support::http::get(addresses.admin, "/readyz").await;
        let Ok(page) = page else { break };
        if page.status.is_success() {
            continue;
        }
        // It has three seconds left; whoever comes now is served, on an open connection and on a
        // new one.
        if while_it_ends == 0 {
            admitted(&review, &open.review(&review).await.unwrap());
            admitted(&review, &client.review(&review).await.unwrap());
        }
        while_it_ends += 1;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(while_it_ends > 0, "it never said that it ends");
    assert!(ending.await.unwrap().success());
}

/// A request that is under way when nothing more is accepted is read to its end and answered.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_at_the_end_is_answered() {
    let (mut program, files) = Program::with_files().await;
    program.wait_ready().await;
    let client = program.client(&files.ca.pem);
    let body = review_of(None).to_string();
    let (first, rest) = body.split_at(100);
    let mut stream = client.connect(b"http/1.1").await.unwrap();
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(first.as_bytes()).await.unwrap();
    let address = program.addresses.webhook;
    let ending = tokio::spawn(async move { program.process.terminate(PATIENCE).await.unwrap() });
    wait_for("nobody to be accepted", PATIENCE, async || {
        let refused = TcpStream::connect(address).await.is_err();
        Ok(refused.then_some(()))
    })
    .await
    .unwrap();
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    drop(stream);
    assert!(ending.await.unwrap().success());
}
