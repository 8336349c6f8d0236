use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use common_time::{Clock, Monotonic, UnixMillis};
use http::Request;

use super::*;
use crate::authentication::Trust;
use crate::review::Review;

const POD: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/a/m";

/// Knows the token "t" of jane in the group dev, and lets the group `system:authenticated` get
/// things of pods.
#[derive(Default)]
struct Answers {
    tokens: AtomicU64,
    accesses: AtomicU64,
    silent: bool,
}

impl Reviews for Answers {
    fn token<'a>(&'a self, token: &'a str, _: &'a [String]) -> Review<'a, Option<User>> {
        self.tokens.fetch_add(1, Ordering::Relaxed);
        let user = User {
            name: "jane".to_owned(),
            groups: vec!["dev".to_owned()],
            ..User::default()
        };
        Box::pin(async move { Ok((token == "t").then_some(user)) })
    }

    fn access<'a>(&'a self, user: &'a User, attributes: &'a Attributes) -> Review<'a, Decision> {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if self.silent {
                std::future::pending::<()>().await;
            }
            let of_pods = matches!(attributes, Attributes::Resource(it) if it.resource == "pods");
            let deny = || Decision::Deny("no rule".to_owned());
            let may = user.is_in("system:authenticated") && of_pods;
            Ok(if may { Decision::Allow } else { deny() })
        })
    }
}

fn guard(answers: &Arc<Answers>) -> Guard {
    let trust = TrustCell::new(Trust::from_config_map(&BTreeMap::new()).unwrap());
    let reviews = Arc::clone(answers) as Arc<dyn Reviews>;
    Guard::new(
        trust,
        reviews,
        ReviewTtl::default(),
        Clock::new(Monotonic::default, UnixMillis::default),
    )
}

async fn admit(guard: &Guard, path: &str, token: Option<&str>) -> Result<Parts, Refusal> {
    let mut request = Request::get(path);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("bearer {token}"));
    }
    let (mut request, ()) = request.body(()).unwrap().into_parts();
    guard
        .admit(&mut request, &PeerCertificates::default())
        .await?;
    Ok(request)
}

/// Whoever is let in is named, counts as authenticated, and their token goes no further.
#[tokio::test]
async fn lets_in_who_may() {
    let answers = Arc::new(Answers::default());
    let guard = guard(&answers);
    for _ in 0..3 {
        let request = admit(&guard, POD, Some("t")).await.unwrap();
        assert_eq!(request.extensions.get(), Some(&Reader("jane".to_owned())));
        assert!(request.headers.is_empty());
    }
    assert_eq!(answers.tokens.load(Ordering::Relaxed), 1);
    assert_eq!(answers.accesses.load(Ordering::Relaxed), 1);
}

/// No and nobody are different refusals, and the reason of a no is told.
#[tokio::test]
async fn tells_why_not() {
    let guard = guard(&Arc::default());
    let service = POD.replace("pods", "services");
    let refused = admit(&guard, &service, Some("t")).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Forbidden);
    assert!(
        refused.message.ends_with("\"prod\": no rule"),
        "{refused:?}"
    );
    for token in [None, Some("x"), Some("")] {
        let refused = admit(&guard, POD, token).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Unauthorized, "{token:?}");
    }
}

/// What everyone may needs no question, not even with a token.
#[tokio::test]
async fn leaves_the_open_open() {
    let answers = Arc::new(Answers::default());
    let guard = guard(&answers);
    for path in ["/apis", "/healthz", "/no/such/path"] {
        admit(&guard, path, Some("x")).await.unwrap();
    }
    assert_eq!(answers.tokens.load(Ordering::Relaxed), 0);
}

/// A review that does not come is not waited for without end, and is a doubt, not a no.
#[tokio::test(start_paused = true)]
async fn gives_up_on_silence() {
    let guard = guard(&Arc::new(Answers {
        silent: true,
        ..Answers::default()
    }));
    let refused = admit(&guard, POD, Some("t")).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Unavailable);
    assert!(
        refused
            .message
            .contains("did not answer the review in time"),
        "{refused:?}"
    );
}
