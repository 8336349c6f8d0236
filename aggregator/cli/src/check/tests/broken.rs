//! What may be broken, one by one.

use http::StatusCode;
use serde_json::Value;
use tests_support::kubernetes::objects::{API_SERVICE, WEBHOOK_CONFIGURATION};

use super::cluster::*;
use super::*;
use crate::testing::NOW;

/// A cluster with one thing broken.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) words: &'static str,
    pub(super) code: u8,
    pub(super) broken: fn(&ApiServer),
}

const fn case(name: &'static str, code: u8, broken: fn(&ApiServer)) -> Case {
    Case {
        name,
        words: "",
        code,
        broken,
    }
}

const fn before(name: &'static str, code: u8, broken: fn(&ApiServer)) -> Case {
    Case {
        words: "--pre",
        ..case(name, code, broken)
    }
}

const VIEW: &str = "v1.view.meshmeter.io";
const CUSTOM: &str = "v1beta2.custom.metrics.k8s.io";

pub(super) const CASES: &[Case] = &[
    case("old-version", 1, |server| {
        set_version(server, "v1.28.9-eks-1");
    }),
    case("odd-version", 0, |server| set_version(server, "devel")),
    case("no-autoscaling-v2", 1, |server| {
        set_apis_without(server, "autoscaling/v2");
    }),
    case("no-app-mesh", 1, |server| {
        set_apis_without(server, "appmesh.k8s.aws/v1beta2");
    }),
    case("part-of-app-mesh", 1, |server| {
        set_resources(
            server,
            "appmesh.k8s.aws/v1beta2",
            &["meshes", "virtualnodes"],
        );
    }),
    before("not-an-installer", 1, |server| {
        server.deny("create clusterroles");
    }),
    before("another-adapter-before", 0, other_adapter),
    case("not-permitted", 0, |server| server.deny("get explanations")),
    case("aggregator-without-role", 1, |server| {
        set_api_service(server, VIEW, |object| {
            object["spec"]["service"]["namespace"] = "elsewhere".into();
        });
    }),
    case("no-autoscalers", 0, |server| {
        let user = "system:serviceaccount:meshmeter:meshmeter";
        server.deny(&format!("{user} list horizontalpodautoscalers"));
    }),
    case("no-issuer", 0, |server| {
        let user = "system:serviceaccount:meshmeter:meshmeter";
        for path in ["/.well-known/openid-configuration", "/openid/v1/jwks"] {
            server.deny(&format!("{user} get {path}"));
        }
    }),
    case("reviews-forbidden", 0, |server| {
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        server.set_page(path, StatusCode::FORBIDDEN, forbidden());
    }),
    case("not-installed", 1, |server| {
        server.objects().delete(API_SERVICE, "", VIEW);
        let gone = json!("404 page not found");
        server.set_page(HEALTH, StatusCode::NOT_FOUND, gone.clone());
        server.set_page(READS, StatusCode::NOT_FOUND, gone);
    }),
    case("nothing-registered", 1, |server| {
        for name in [
            VIEW,
            CUSTOM,
            "v1beta1.custom.metrics.k8s.io",
            "v1beta1.external.metrics.k8s.io",
        ] {
            server.objects().delete(API_SERVICE, "", name);
        }
        let gone = json!("404 page not found");
        server.set_page(HEALTH, StatusCode::NOT_FOUND, gone);
    }),
    case("apiservices-forbidden", 2, |server| {
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{VIEW}");
        server.set_page(&path, StatusCode::FORBIDDEN, forbidden());
    }),
    case("another-adapter", 1, other_adapter),
    case("another-view", 1, |server| {
        set_api_service(server, VIEW, |object| {
            object["spec"]["service"]["name"] = "other".into();
        });
    }),
    case("no-ca-bundle", 1, |server| {
        set_api_service(server, VIEW, |object| {
            object["spec"]["caBundle"] = Value::Null;
        });
    }),
    case("port-blocked", 1, |server| {
        set_api_service(server, CUSTOM, |object| {
            unavailable(
                object,
                "FailedDiscoveryCheck",
                "failing or missing response from https://10.0.3.7:10250/apis/custom.metrics.k8s.io/v1beta2: dial tcp 10.0.3.7:10250: i/o timeout",
            );
        });
    }),
    case("certificate-unknown", 1, |server| {
        set_api_service(server, VIEW, |object| {
            unavailable(
                object,
                "FailedDiscoveryCheck",
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            );
        });
    }),
    case("no-endpoints", 1, |server| {
        set_api_service(server, VIEW, |object| {
            unavailable(
                object,
                "MissingEndpoints",
                "endpoints for service/meshmeter-api in \"meshmeter\" have no addresses with port name \"\"",
            );
        });
    }),
    case("no-service", 1, |server| {
        set_api_service(server, VIEW, |object| {
            unavailable(
                object,
                "ServiceNotFound",
                "service/meshmeter-api is not present",
            );
        });
    }),
    case("not-said", 1, |server| {
        set_api_service(server, VIEW, |object| object["status"] = json!({}));
    }),
    case("available-and-silent", 1, |server| {
        let refusal = json!({"kind": "Status", "message": "service unavailable", "code": 503});
        server.set_page(
            "/apis/custom.metrics.k8s.io/v1beta2",
            StatusCode::SERVICE_UNAVAILABLE,
            refusal,
        );
    }),
    case("no-webhook", 0, |server| {
        server
            .objects()
            .delete(WEBHOOK_CONFIGURATION, "", "aa-meshmeter-injector");
    }),
    case("webhook-without-ca", 1, |server| set_webhook(server, "")),
    case("injector-without-role", 1, |server| {
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let denied = json!({"status": {"allowed": false}});
        server.set_page(path, StatusCode::CREATED, denied);
    }),
    case("health-forbidden", 2, |server| {
        server.set_page(HEALTH, StatusCode::FORBIDDEN, forbidden());
    }),
    case("replica-silent", 1, |server| {
        with_health(server, |health| {
            health["replicas"][1] = json!({"name": "meshmeter-1", "error": "no answer within 2 s"});
        });
    }),
    case("replica-not-ready", 1, |server| {
        with_health(server, |health| {
            health["replicas"][1]["notReady"] = json!(["pods: the watch is silent for 40 s"]);
        });
    }),
    case("no-replica", 1, |server| {
        with_health(server, |health| health["replicas"] = json!([]));
    }),
    case("replica-versions", 0, |server| {
        with_health(server, |health| {
            health["replicas"][1]["version"] = "0.1.9".into();
        });
    }),
    case("certificate-ended", 1, |server| {
        with_health(server, |health| {
            health["replicas"][0]["certificates"][0]["notAfterUnixMs"] = json!(NOW - 3_600_000);
        });
    }),
    case("certificate-ends", 0, |server| {
        with_health(server, |health| {
            health["replicas"][0]["certificates"][0]["notAfterUnixMs"] = json!(NOW + 3_600_000);
        });
    }),
    case("clocks-apart", 0, |server| {
        with_health(server, |health| {
            health["replicas"][1]["atUnixMs"] = json!(NOW - 90_000);
        });
    }),
    case("replicas-disagree-on-pods", 0, |server| {
        with_health(server, |health| {
            health["replicas"][1]["pods"] = json!({"live": 2});
        });
    }),
    case("replicas-disagree-on-rates", 0, |server| {
        with_health(server, |health| {
            health["replicas"][1]["requestsPerSecond"] = json!(60.0);
        });
    }),
    case("refused", 0, |server| {
        with_health(server, |health| {
            health["replicas"][1]["refused"] = json!({"store: pods": 7});
        });
    }),
    case("remote-write-behind", 1, |server| {
        with_health(server, |health| {
            let write = &mut health["replicas"][0]["remoteWrite"];
            write["lagMs"] = json!(900_000);
            write["lastError"] = "403: the security token is expired".into();
            write["dropped"] = json!({"too_old": 12});
        });
    }),
    case("remote-write-fails", 0, |server| {
        with_health(server, |health| {
            health["replicas"][0]["remoteWrite"]["lastError"] = "429".into();
        });
    }),
    case("nobody-writes", 1, |server| {
        with_health(server, |health| {
            health["replicas"][0]["remoteWrite"]["writing"] = json!(false);
        });
    }),
    case("uncounted", 1, |server| {
        with_health(server, |health| {
            let reasons = [
                "no_sidecar",
                "never_reported",
                "tls_refused",
                "unauthenticated",
                "unreadable",
                "stream_refused",
                "refused",
                "vm_lost",
                "hot_restart",
                "gone",
                "new",
                "not_counted",
                "from_the_future",
            ];
            let uncounted = reasons.map(|reason| json!({
                "namespace": "prod", "workload": "Deployment/jazz-v1", "reason": reason, "message": "",
                "pods": 2, "example": "jazz-v1-7d4b9c5f6d-8mlkq",
            }));
            health["uncounted"] = json!(uncounted);
        });
    }),
    case("many-uncounted", 0, |server| {
        with_health(server, |health| {
            let one = json!({"namespace": "prod", "workload": "Deployment/a\u{1b}[2J", "reason": "no_sidecar",
                             "message": "", "pods": 1, "example": "a"});
            health["uncounted"] = json!(vec![one; 22]);
        });
    }),
    case("filter-versions", 0, |server| {
        with_health(server, |health| {
            health["sidecars"] = json!([{"version": "0.2.0", "state": "live", "pods": 3},
                                        {"version": "0.1.0", "state": "live", "pods": 1},
                                        {"version": "0.1.0", "state": "held", "pods": 1}]);
        });
    }),
    case("metric-misspelt", 1, |server| {
        set_hpa(server, |hpa| metric(hpa, "appmesh_request_per_second"));
    }),
    case("metric-unknown", 1, |server| {
        set_hpa(server, |hpa| metric(hpa, "appmesh_bytes_received_total"));
    }),
    case("metric-of-others", 0, |server| {
        set_hpa(server, |hpa| metric(hpa, "queue_length"));
    }),
    case("not-scaling", 0, |server| {
        set_hpa(server, |hpa| {
            hpa["status"]["conditions"][0] = json!({"type": "ScalingActive", "status": "False", "reason": "FailedGetPodsMetric", "message": "no sidecar of pods matching app=jazz has reported"});
        });
    }),
    case("peak-beyond-max", 1, |server| {
        set_reads(server, &[41_000, 250_500]);
    }),
];

fn forbidden() -> Value {
    json!({"kind": "Status", "message": "forbidden: User \"u\"", "reason": "Forbidden", "code": 403})
}

fn other_adapter(server: &ApiServer) {
    set_api_service(server, CUSTOM, |object| {
        object["spec"]["service"] =
            json!({"name": "prometheus-adapter", "namespace": "monitoring"});
    });
    set_api_service(server, "v1beta1.custom.metrics.k8s.io", |object| {
        object["spec"]["service"] =
            json!({"name": "prometheus-adapter", "namespace": "monitoring"});
    });
}

fn unavailable(object: &mut Value, reason: &str, message: &str) {
    let condition =
        json!({"type": "Available", "status": "False", "reason": reason, "message": message});
    object["status"]["conditions"] = json!([condition]);
}

fn metric(hpa: &mut Value, name: &str) {
    hpa["spec"]["metrics"][0]["pods"]["metric"]["name"] = name.into();
}

fn with_health(server: &ApiServer, change: fn(&mut Value)) {
    let mut health = health();
    change(&mut health);
    server.set_page(HEALTH, StatusCode::OK, health);
}
