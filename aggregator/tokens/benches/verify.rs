//! What a token costs: one that is good, and those of whoever floods.
//!
//! `cargo bench -p aggregator-tokens`. Compare runs of one machine only.

use std::hint::black_box;

use aggregator_tokens::Issuer;
use common_time::UnixMillis;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use tests_support::kubernetes::{PodToken, SigningKey};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const AUDIENCE: &str = "meshmeter";

fn verify(criterion: &mut Criterion) {
    let keys = [SigningKey::rs256(), SigningKey::es256()];
    let keys = keys.map(|key| key.expect("a key"));
    let discovery = json!({"issuer": ISSUER}).to_string();
    let set: Vec<_> = keys.iter().map(SigningKey::jwk).collect();
    let set = json!({"keys": set}).to_string();
    let issuer = Issuer::parse(discovery.as_bytes(), set.as_bytes()).expect("an issuer");
    let token = PodToken::new(ISSUER, AUDIENCE, "prod", "jazz-v1-5d8c7b9f4-x2x7q", "u1");
    let now = UnixMillis(1000 * token.issued);
    for key in &keys {
        let good = token.sign(key).expect("a token");
        let (signed, signature) = good.rsplit_once('.').expect("a signature");
        let other = token.clone();
        let (wrong, _) = good.split_at(good.len() - signature.len());
        let of_other = PodToken {
            expires: other.expires + 1,
            ..other
        };
        let of_other = of_other.sign(key).expect("a token");
        let (_, foreign) = of_other.rsplit_once('.').expect("a signature");
        let wrong = format!("{wrong}{foreign}");
        assert!(issuer.verify(&good, AUDIENCE, now).is_ok(), "{signed}");
        assert!(issuer.verify(&wrong, AUDIENCE, now).is_err(), "{signed}");
        for (what, text) in [("good", &good), ("wrong signature", &wrong)] {
            criterion.bench_function(&format!("{} {what}", key.algorithm()), |bencher| {
                bencher.iter(|| black_box(issuer.verify(black_box(text), AUDIENCE, now).is_ok()));
            });
        }
    }
    let stranger = SigningKey::es256().expect("a key");
    let unknown = token.sign(&stranger).expect("a token");
    criterion.bench_function("unknown key", |bencher| {
        bencher.iter(|| black_box(issuer.verify(black_box(&unknown), AUDIENCE, now).is_ok()));
    });
}

criterion_group!(benches, verify);
criterion_main!(benches);
