//! A stand-in for a cluster in which all is good, and each piece of it broken once.

use clap::Parser as _;
use serde_json::json;
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::objects::{API_SERVICE, AUTOSCALER, WEBHOOK_CONFIGURATION};

use super::*;
use crate::Operator;
use crate::args::examples::PluginArgs;
use crate::testing::{clock, hold, texts};
use cluster::Cluster;

mod broken;
mod cluster;

fn args(words: &str) -> CheckArgs {
    let words = format!("x check {words}");
    let parsed = PluginArgs::try_parse_from(words.split_whitespace()).unwrap();
    match parsed.command {
        Operator::Check(args) => *args,
        other => panic!("{other:?}"),
    }
}

async fn report(cluster: &Cluster, words: &str) -> Report {
    let args = args(&format!("{words} --kubeconfig {}", cluster.kubeconfig()));
    let connection = Connection::open(&args.connection, Program::Meshmeter).await;
    let connection = connection.unwrap();
    let probe = Probe {
        connection: &connection,
        pre: args.pre,
        install_namespace: args.install_namespace.as_deref(),
        read_clock: clock,
    };
    let mut report = once(&probe, &args.group).await;
    // Its port is another one each time.
    for item in &mut report.items {
        let address = cluster.server.address().to_string();
        item.message = item.message.replace(&address, "kube:6443");
    }
    report
}

/// What is good is listed in order, before the installation and after it.
#[tokio::test]
async fn a_good_cluster_passes() {
    let cluster = Cluster::start().await;
    for (name, words) in [
        ("good", ""),
        ("good-pre", "--pre"),
        ("good-namespace", "-n prod"),
    ] {
        let report = report(&cluster, words).await;
        hold(&format!("check/{name}"), &texts(report.lines()));
        assert_eq!(report.exit_code(), 0, "{name}");
    }
    let report = report(&cluster, "--pre").await;
    let text = texts(json(&report).unwrap());
    hold("check/json", &text);
}

/// Each failure provoked once: the report says what it did not say before, and the code follows.
#[tokio::test]
async fn each_failure_is_found() {
    let good = [
        report(&Cluster::start().await, "").await,
        report(&Cluster::start().await, "--pre").await,
    ];
    let mut found = std::collections::BTreeSet::new();
    for case in broken::CASES {
        let cluster = Cluster::start().await;
        (case.broken)(&cluster.server);
        let mut report = report(&cluster, case.words).await;
        let code = report.exit_code();
        let good = &good[usize::from(case.words.contains("--pre"))];
        report.items.retain(|item| !good.items.contains(item));
        for item in &report.items {
            let needs_fix = matches!(item.outcome, Outcome::Failure | Outcome::Warning);
            assert!(
                !needs_fix || !item.fix.is_empty(),
                "{}: {item:?}",
                case.name
            );
            if item.outcome == Outcome::Failure {
                found.insert(item.check);
            }
        }
        hold(
            &format!("check/broken/{}", case.name),
            &texts(report.lines()),
        );
        assert_eq!(code, case.code, "{}", case.name);
    }
    // Whoever adds a check that can fail breaks it here too.
    let can_fail = [
        "aggregator",
        "apis",
        "apiservice",
        "app-mesh-crds",
        "ca-bundle",
        "certificates",
        "injector",
        "installer",
        "max-replicas",
        "metric",
        "remote-write",
        "replicas",
        "uncounted",
        "version",
        "webhook",
    ];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), can_fail);
}

/// `--group` asks for APIs alone, as `helm test` does.
#[tokio::test]
async fn apis_are_asked_for() {
    let cluster = Cluster::start().await;
    let wrong = json!({"groupVersion": "b/v1", "resources": []});
    cluster
        .server
        .set_page("/apis/a/v1", http::StatusCode::OK, wrong);
    let words =
        "--group external.metrics.k8s.io/v1beta1,custom.metrics.k8s.io/v1,a/v1 --wait-seconds 0";
    let report = report(&cluster, words).await;
    hold("check/apis", &texts(report.lines()));
    assert_eq!(report.exit_code(), 1);
}

/// Without kube-apiserver nothing is known, which is not a failure of anything.
#[tokio::test]
async fn no_cluster_is_no_failure() {
    let args = args("--server https://127.0.0.1:1");
    let connection = Connection::open(&args.connection, Program::Meshmeter).await;
    let probe = Probe {
        connection: &connection.unwrap(),
        pre: false,
        install_namespace: None,
        read_clock: clock,
    };
    let report = once(&probe, &[]).await;
    assert_eq!(report.items.len(), 1, "{report:?}");
    assert_eq!(report.exit_code(), 2);
}
