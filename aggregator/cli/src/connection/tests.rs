use super::*;
use crate::args::ConnectionArgs;

type Change = fn(&mut ConnectionArgs);

fn place(path: &str) -> error::Place {
    error::Place::new("https://c:6443", "GET", path, Program::Plugin)
}

/// Each refusal says what to do, and what is missing.
#[test]
fn refusals_say_what_to_do() {
    let view = "/apis/view.meshmeter.io/v1";
    for (code, path, message, expected) in [
        (
            401,
            "/version".to_owned(),
            "Unauthorized",
            "https://c:6443 does not accept who you are (401): log in again, or choose another --context",
        ),
        (
            403,
            format!("{view}/namespaces/prod/pods"),
            "pods.view.meshmeter.io is forbidden: User \"u\" cannot list",
            "you may not: pods.view.meshmeter.io is forbidden: User \"u\" cannot list; what is missing is list pods.view.meshmeter.io in namespace prod",
        ),
        (
            403,
            format!("{view}/namespaces/prod/explanations/jazz"),
            "no",
            "you may not: no; what is missing is get explanations.view.meshmeter.io in namespace prod",
        ),
        (
            403,
            format!("{view}/pods"),
            "no",
            "you may not: no; what is missing is list pods.view.meshmeter.io in the whole cluster (or ask for one by -n)",
        ),
        (
            403,
            format!("{view}/health"),
            "no",
            "you may not: no; what is missing is list health.view.meshmeter.io in the whole cluster",
        ),
        (
            404,
            format!("{view}/pods"),
            "404 page not found\n",
            "meshmeter is not installed here, or its API view.meshmeter.io is not registered: run `kubectl meshmeter check`",
        ),
        (
            404,
            format!("{view}/namespaces/prod/timelines/jazz"),
            "HPA prod/jazz does not exist",
            "HPA prod/jazz does not exist",
        ),
        (
            503,
            format!("{view}/pods"),
            "service unavailable",
            "kube-apiserver does not reach the API server behind /apis/view.meshmeter.io/v1/pods (service unavailable): run `kubectl meshmeter check`",
        ),
        (
            400,
            format!("{view}/pods"),
            "labelSelector: unable to parse",
            "/apis/view.meshmeter.io/v1/pods: labelSelector: unable to parse (400)",
        ),
    ] {
        let error = ConnectionError::refused(code, message, place(&path));
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.status(), Some(code));
    }
}

/// What is no address, no name, no file is said before anything is asked.
#[tokio::test]
async fn wrong_flags_are_refused() {
    let with = |change: fn(&mut ConnectionArgs)| {
        let mut args = ConnectionArgs {
            server: Some("https://127.0.0.1:1".to_owned()),
            ..ConnectionArgs::default()
        };
        change(&mut args);
        args
    };
    let refusals: [(Change, &str); 4] = [
        (
            |args| args.server = Some("localhost".to_owned()),
            "--server localhost: not an address",
        ),
        (
            |args| args.namespace = Some("a/../b".to_owned()),
            "is no name of a namespace",
        ),
        (
            |args| args.impersonate = Some("a\nb".to_owned()),
            "cannot be acted as",
        ),
        (
            |args| args.kubeconfig = Some("/nowhere".into()),
            "the kubeconfig cannot be used: ",
        ),
    ];
    for (change, expected) in refusals {
        let outcome = Connection::open(&with(change), Program::Meshmeter).await;
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let connection = Connection::open(&with(|_| {}), Program::Meshmeter)
        .await
        .unwrap();
    let error = connection
        .get("/version", &[])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("https://127.0.0.1:1/ does not answer: "),
        "{error}"
    );
}

#[test]
fn queries_are_encoded() {
    let uri = with_query(
        "/pods",
        &[("labelSelector", "a in (b,c)&x"), ("limit", "5")],
    );
    assert_eq!(uri, "/pods?labelSelector=a%20in%20%28b%2Cc%29%26x&limit=5");
}
