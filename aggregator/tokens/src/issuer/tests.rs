//! Tokens that are not what they seem: each part broken once, and nothing else.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use common_time::UnixMillis;
use proptest::prelude::*;
use ring::hmac;
use serde_json::{Value, json};
use tests_support::kubernetes::{PodToken, SigningKey};

use crate::{BoundPod, Issuer, Rejection, ServiceAccount, Undecided, Unverified};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const AUDIENCE: &str = "meshmeter";
/// When the tokens are issued, in seconds.
const ISSUED: u64 = 1_790_000_000;
const LEEWAY: u64 = 60;

fn token() -> PodToken {
    PodToken {
        issued: ISSUED,
        expires: ISSUED + 3600,
        ..PodToken::new(ISSUER, AUDIENCE, "prod", "jazz-1", "u1")
    }
}

fn keys() -> [SigningKey; 2] {
    [SigningKey::rs256().unwrap(), SigningKey::es256().unwrap()]
}

fn issuer(keys: &[Value]) -> Issuer {
    let discovery = json!({"issuer": ISSUER, "jwks_uri": "https://elsewhere"});
    let set = json!({"keys": keys});
    Issuer::parse(discovery.to_string().as_bytes(), set.to_string().as_bytes()).unwrap()
}

fn of(keys: &[SigningKey]) -> Issuer {
    issuer(&keys.iter().map(SigningKey::jwk).collect::<Vec<_>>())
}

fn verify_at(issuer: &Issuer, token: &str, seconds: u64) -> Result<ServiceAccount, Unverified> {
    issuer.verify(token, AUDIENCE, UnixMillis(seconds * 1000))
}

fn verify(issuer: &Issuer, token: &str) -> Result<ServiceAccount, Unverified> {
    verify_at(issuer, token, ISSUED + 10)
}

/// The label of what became of a token.
fn outcome(verified: &Result<ServiceAccount, Unverified>) -> &'static str {
    match verified {
        Ok(_) => "verified",
        Err(Unverified::Rejected(Rejection { reason, .. })) => reason.as_str(),
        Err(Unverified::Undecided(why)) => why.as_str(),
    }
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

/// `claims` with `value` at `pointer`, or without it.
fn changed(claims: &Value, pointer: &str, value: Option<Value>) -> Value {
    let mut claims = claims.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = claims.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(name.to_owned(), value),
        None => parent.remove(name),
    };
    claims
}

/// By either algorithm, bound to a pod or not.
#[test]
fn a_token_says_whose_it_is() {
    let keys = keys();
    let issuer = of(&keys);
    let pod = BoundPod {
        name: "jazz-1".to_owned(),
        uid: "u1".to_owned(),
    };
    for key in &keys {
        for pod in [Some(pod.clone()), None] {
            let token = PodToken {
                pod: pod.clone().map(|pod| (pod.name, pod.uid)),
                ..token()
            };
            let expected = ServiceAccount {
                namespace: "prod".to_owned(),
                name: "default".to_owned(),
                pod,
            };
            assert_eq!(verify(&issuer, &token.sign(key).unwrap()), Ok(expected));
        }
    }
}

/// Each claim broken once, the signature right.
#[test]
fn each_claim_counts() {
    let keys = keys();
    let issuer = of(&keys);
    let claims = token().claims();
    let broken = [
        ("/iss", None, "malformed"),
        ("/iss", Some(json!("")), "other_issuer"),
        ("/iss", Some(json!(format!("{ISSUER}/"))), "other_issuer"),
        ("/iss", Some(json!(ISSUER.to_uppercase())), "other_issuer"),
        ("/aud", None, "audience"),
        ("/aud", Some(json!([])), "audience"),
        ("/aud", Some(json!("meshmeter")), "verified"),
        ("/aud", Some(json!(["other", "meshmeter"])), "verified"),
        ("/aud", Some(json!(["meshmeter2"])), "audience"),
        ("/aud", Some(json!(["Meshmeter"])), "audience"),
        ("/aud", Some(json!({"meshmeter": 1})), "malformed"),
        ("/exp", None, "malformed"),
        ("/exp", Some(json!("never")), "malformed"),
        ("/exp", Some(json!(-1)), "malformed"),
        ("/exp", Some(json!(0)), "expired"),
        ("/exp", Some(json!(u64::MAX)), "verified"),
        ("/nbf", None, "verified"),
        ("/nbf", Some(json!(ISSUED + 3000)), "not_yet_valid"),
        ("/nbf", Some(json!(u64::MAX)), "not_yet_valid"),
        ("/sub", None, "malformed"),
        ("/sub", Some(json!("")), "subject"),
        (
            "/sub",
            Some(json!("system:serviceaccount:prod:other")),
            "subject",
        ),
        (
            "/sub",
            Some(json!("system:serviceaccount:test:default")),
            "subject",
        ),
        ("/kubernetes.io", None, "malformed"),
        ("/kubernetes.io/namespace", Some(json!("test")), "subject"),
        (
            "/kubernetes.io/serviceaccount/name",
            Some(json!("other")),
            "subject",
        ),
        (
            "/kubernetes.io/serviceaccount/uid",
            Some(json!("")),
            "subject",
        ),
        ("/kubernetes.io/serviceaccount", None, "malformed"),
        ("/kubernetes.io/pod/name", None, "malformed"),
        ("/kubernetes.io/pod/name", Some(json!("")), "malformed"),
        ("/kubernetes.io/pod/uid", None, "malformed"),
        ("/kubernetes.io/pod/uid", Some(json!("")), "malformed"),
        ("/kubernetes.io/pod", Some(json!("jazz-1")), "malformed"),
        ("/unknown", Some(json!({"is": ["ignored"]})), "verified"),
    ];
    for key in &keys {
        for (pointer, value, expected) in &broken {
            let claims = changed(&claims, pointer, value.clone());
            let token = key.sign(&claims).unwrap();
            let context = format!("{pointer} {value:?} {key:?}");
            assert_eq!(outcome(&verify(&issuer, &token)), *expected, "{context}");
        }
    }
}

/// One text names one account, and one name has one value.
#[test]
fn names_are_unambiguous() {
    let keys = keys();
    let issuer = of(&keys);
    // A colon must not move the border between namespace and name.
    let moved = PodToken {
        namespace: "prod:a".to_owned(),
        account: "b".to_owned(),
        ..token()
    };
    let moved = moved.sign(&keys[0]).unwrap();
    assert_eq!(outcome(&verify(&issuer, &moved)), "subject");
    // One name twice has no meaning.
    let text = token().claims().to_string();
    let twice = text.replacen('{', "{\"exp\":99999999999,", 1);
    let twice = keys[0].sign_as(&json!({"alg": "RS256", "kid": keys[0].id()}), &twice);
    assert_eq!(outcome(&verify(&issuer, &twice.unwrap())), "malformed");
}

/// The clocks of issuer and verifier may be a minute apart, as kube-apiserver has it too.
#[test]
fn clocks_may_differ_a_little() {
    let keys = keys();
    let issuer = of(&keys);
    let token = token().sign(&keys[1]).unwrap();
    let end = ISSUED + 3600;
    for (now, expected) in [
        (0, "not_yet_valid"),
        (ISSUED - LEEWAY - 1, "not_yet_valid"),
        (ISSUED - LEEWAY, "verified"),
        (ISSUED, "verified"),
        (end, "verified"),
        (end + LEEWAY - 1, "verified"),
        (end + LEEWAY, "expired"),
        (u64::MAX / 1000, "expired"),
    ] {
        assert_eq!(outcome(&verify_at(&issuer, &token, now)), expected, "{now}");
    }
}

/// The key decides the algorithm: none, those of secrets, those of other keys and of other curves
/// are refused, whatever the signature is.
#[test]
fn the_key_decides_the_algorithm() {
    let keys = keys();
    let issuer = of(&keys);
    for key in &keys {
        let good = token().sign(key).unwrap();
        let [_, claims, signature] = parts(&good);
        for alg in [
            "none", "None", "", "HS256", "HS384", "HS512", "PS256", "RS384", "RS512", "ES384",
            "ES512", "EdDSA", "rs256", "es256",
        ] {
            let header = json!({"alg": alg, "kid": key.id()});
            let signed = key.sign_as(&header, &token().claims().to_string()).unwrap();
            assert_eq!(outcome(&verify(&issuer, &signed)), "algorithm", "{alg}");
            let header = encoded(header.to_string());
            for signature in ["", signature] {
                let forged = format!("{header}.{claims}.{signature}");
                assert_eq!(outcome(&verify(&issuer, &forged)), "algorithm", "{alg}");
            }
        }
        // The public key as the secret of a message code, in each form that a library might take.
        let jwk = key.jwk();
        let public = ["n", "x"].iter().find_map(|name| jwk[name].as_str());
        let public = BASE64_URL_SAFE_NO_PAD.decode(public.unwrap()).unwrap();
        for secret in [public, jwk.to_string().into_bytes()] {
            for alg in ["HS256", key.algorithm()] {
                let header = encoded(json!({"alg": alg, "kid": key.id()}).to_string());
                let signed = format!("{header}.{claims}");
                let code = hmac::sign(
                    &hmac::Key::new(hmac::HMAC_SHA256, &secret),
                    signed.as_bytes(),
                );
                let outcome = outcome(&verify(&issuer, &format!("{signed}.{}", encoded(code))));
                assert!(["algorithm", "signature"].contains(&outcome), "{alg}");
            }
        }
    }
    // Each key under the other's id and algorithm.
    for (signer, other) in [(&keys[0], &keys[1]), (&keys[1], &keys[0])] {
        for alg in [signer.algorithm(), other.algorithm()] {
            let header = json!({"alg": alg, "kid": other.id()});
            let token = signer.sign_as(&header, &token().claims().to_string());
            let outcome = outcome(&verify(&issuer, &token.unwrap()));
            assert!(["algorithm", "signature"].contains(&outcome), "{alg}");
        }
    }
}

/// Keys come and go with the set. A key of nobody is unknown, whatever it says of itself.
#[test]
fn only_the_keys_of_the_set_count() {
    let (old, new) = (SigningKey::es256().unwrap(), SigningKey::es256().unwrap());
    let tokens = [&old, &new].map(|key| token().sign(key).unwrap());
    for (set, expected) in [
        (vec![old.jwk()], ["verified", "unknown_key"]),
        (vec![old.jwk(), new.jwk()], ["verified", "verified"]),
        (vec![new.jwk()], ["unknown_key", "verified"]),
    ] {
        let issuer = issuer(&set);
        let outcomes = [0, 1].map(|nth: usize| outcome(&verify(&issuer, &tokens[nth])));
        assert_eq!(outcomes, expected, "{set:?}");
    }
    let issuer = issuer(&[old.jwk()]);
    let claims = token().claims().to_string();
    for (header, expected) in [
        // A key that the token brings along is none.
        (
            json!({"alg": "ES256", "kid": new.id(), "jwk": new.jwk()}),
            "unknown_key",
        ),
        (
            json!({"alg": "ES256", "kid": new.id(), "jku": "https://evil"}),
            "unknown_key",
        ),
        (
            json!({"alg": "ES256", "kid": old.id(), "jwk": new.jwk()}),
            "signature",
        ),
        (json!({"alg": "ES256", "kid": ""}), "unknown_key"),
        (json!({"alg": "none", "kid": "x"}), "algorithm"),
        (json!({"alg": "HS256", "kid": "x"}), "algorithm"),
        (json!({"alg": "ES256"}), "malformed"),
        (json!({"kid": old.id()}), "malformed"),
        (json!({"alg": "ES256", "kid": ["x"]}), "malformed"),
        (
            json!({"alg": "ES256", "kid": old.id(), "crit": ["b64"], "b64": false}),
            "malformed",
        ),
        (
            json!({"alg": "ES256", "kid": "x".repeat(2000)}),
            "malformed",
        ),
    ] {
        let token = new.sign_as(&header, &claims).unwrap();
        assert_eq!(outcome(&verify(&issuer, &token)), expected, "{header}");
    }
}

/// Keys that are too weak, of another kind or for another purpose verify nothing: their tokens are
/// for kube-apiserver to review. Those beside them are used.
#[test]
fn weak_and_foreign_keys_verify_nothing() {
    let [rsa, ec] = keys();
    let modulus = BASE64_URL_SAFE_NO_PAD.decode(rsa.jwk()["n"].as_str().unwrap());
    let modulus = modulus.unwrap();
    let with = |key: &SigningKey, name: &str, value: Value| {
        let mut jwk = key.jwk();
        jwk[name] = value;
        jwk
    };
    let short = encoded(&modulus[..modulus.len() - 1]);
    let long = encoded(vec![0xff; 1025]);
    let zeros = encoded([&[0, 0][..], &modulus].concat());
    for (signer, jwk, expected) in [
        (&rsa, with(&rsa, "n", json!(short)), "unsupported_key"),
        (&rsa, with(&rsa, "n", json!(long)), "unsupported_key"),
        (&rsa, with(&rsa, "n", json!("AQAB")), "unsupported_key"),
        (&rsa, with(&rsa, "n", json!("!")), "unsupported_key"),
        (&rsa, with(&rsa, "n", json!(zeros)), "verified"),
        (&rsa, with(&rsa, "e", json!("AQ")), "unsupported_key"),
        (&rsa, with(&rsa, "e", json!("Ag")), "unsupported_key"),
        (&rsa, with(&rsa, "e", json!("")), "unsupported_key"),
        (&rsa, with(&rsa, "use", json!("enc")), "unsupported_key"),
        (&rsa, with(&rsa, "kty", json!("oct")), "unsupported_key"),
        (&rsa, with(&rsa, "kty", json!("EC")), "unsupported_key"),
        (&rsa, with(&rsa, "alg", json!("PS256")), "algorithm"),
        (&rsa, with(&rsa, "alg", json!("HS256")), "algorithm"),
        (&rsa, with(&rsa, "alg", Value::Null), "verified"),
        (&ec, with(&ec, "crv", json!("P-384")), "unsupported_key"),
        (&ec, with(&ec, "crv", json!("secp256k1")), "unsupported_key"),
        (&ec, with(&ec, "x", json!("AAAA")), "unsupported_key"),
        (
            &ec,
            with(&ec, "y", json!(encoded([7; 33]))),
            "unsupported_key",
        ),
        // Not on the curve.
        (&ec, with(&ec, "y", json!(encoded([7; 32]))), "signature"),
    ] {
        let good = [&rsa, &ec].into_iter().find(|key| key.id() != signer.id());
        let good = good.unwrap();
        let issuer = issuer(&[jwk.clone(), json!({"kid": 7}), json!({}), good.jwk()]);
        let token = |key| token().sign(key).unwrap();
        assert_eq!(outcome(&verify(&issuer, &token(signer))), expected, "{jwk}");
        assert_eq!(outcome(&verify(&issuer, &token(good))), "verified", "{jwk}");
        let listed = issuer.keys().unusable().len();
        let is_listed = ["unsupported_key", "algorithm"].contains(&expected);
        assert_eq!(listed, 2 + usize::from(is_listed), "{jwk}");
    }
    // A review costs more than this: only tokens of its own algorithm get one.
    let odd = with(&ec, "crv", json!("P-384"));
    let issuer = issuer(&[with_alg(odd, "ES384")]);
    let header = json!({"alg": "none", "kid": ec.id()});
    let token = ec.sign_as(&header, "{}").unwrap();
    assert_eq!(outcome(&verify(&issuer, &token)), "algorithm");
}

fn with_alg(mut jwk: Value, alg: &str) -> Value {
    jwk["alg"] = alg.into();
    jwk
}

/// Documents that are no key set, or more than one, are refused whole.
#[test]
fn documents_are_bounded() {
    let key = SigningKey::es256().unwrap();
    let discovery = json!({"issuer": ISSUER}).to_string();
    let keys = |count: usize| vec![key.jwk(); count];
    let set = |keys: Vec<Value>| json!({"keys": keys}).to_string();
    let nested = format!("{{\"keys\": {}", "[".repeat(100_000));
    for (discovery, keys, expected) in [
        (discovery.clone(), set(keys(100)), ""),
        (discovery.clone(), set(keys(101)), "101 keys"),
        (discovery.clone(), set(vec![]), "no key"),
        (discovery.clone(), set(vec![json!({"kid": ""})]), "no key"),
        (discovery.clone(), "{}".to_owned(), "not a JSON Web Key Set"),
        (discovery.clone(), nested, "not a JSON Web Key Set"),
        (discovery.clone(), " ".repeat(300_000), "300000 bytes"),
        ("{}".to_owned(), set(keys(1)), "not one of OpenID Connect"),
        ("{\"issuer\":\"\"}".to_owned(), set(keys(1)), "no issuer"),
        (" ".repeat(70_000), set(keys(1)), "70000 bytes"),
    ] {
        let read = Issuer::parse(discovery.as_bytes(), keys.as_bytes());
        let error = read
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert_eq!(error.is_empty(), expected.is_empty(), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

/// Deep and long texts are refused, not followed.
#[test]
fn texts_are_bounded() {
    let key = SigningKey::es256().unwrap();
    let issuer = of(&[SigningKey::rs256().unwrap()]);
    let header = json!({"alg": "ES256", "kid": key.id()});
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let own = self::issuer(&[key.jwk()]);
    let claims = token().claims().to_string();
    // What is not read is skipped without a call for each level.
    for (name, levels, expected) in [
        ("deep", 2500, "verified"),
        ("nbf", 2500, "malformed"),
        ("nbf", 1, "malformed"),
    ] {
        let claims = claims.replacen("\"nbf\":", "\"was\":", 1);
        let deep = claims.replacen('{', &format!("{{\"{name}\":{},", deep(levels)), 1);
        let token = key.sign_as(&header, &deep).unwrap();
        assert_eq!(outcome(&verify(&own, &token)), expected, "{name} {levels}");
    }
    for text in [
        String::new(),
        "a".to_owned(),
        "..".to_owned(),
        "a.b.c.d".to_owned(),
        "a".repeat(9000),
        format!("{}..", "e".repeat(8000)),
        format!("{}.e30.AA", encoded("[".repeat(300))),
    ] {
        assert_eq!(outcome(&verify(&issuer, &text)), "malformed", "{text:.40}");
    }
}

proptest! {
    /// A token in which one character differs is not verified, whichever it is.
    #[test]
    fn every_character_counts(at in 0_usize..10_000, other in 0x20_u8..0x7f, which in 0_usize..2) {
        let keys = keys();
        let issuer = of(&keys);
        let good = token().sign(&keys[which]).unwrap();
        let at = at % good.len();
        let mut bytes = good.clone().into_bytes();
        bytes[at] = other;
        let forged = String::from_utf8(bytes).unwrap();
        let verified = verify(&issuer, &forged).is_ok();
        prop_assert_eq!(verified, forged == good, "{} at {}", other as char, at);
    }

    /// Whatever text comes, there is a verdict, and it is none of a token.
    #[test]
    fn any_text_has_a_verdict(header in ".{0,80}", claims in ".{0,80}", signature in proptest::collection::vec(any::<u8>(), 0..80)) {
        let issuer = of(&keys());
        let text = format!("{}.{}.{}", encoded(header), encoded(claims), encoded(signature));
        prop_assert!(verify(&issuer, &text).is_err());
    }
}

/// A question to kube-apiserver is for what its own keys signed.
#[test]
fn only_signed_tokens_are_undecided() {
    let keys = keys();
    let issuer = of(&keys);
    let other = PodToken {
        issuer: "https://old".to_owned(),
        ..token()
    };
    let signed = other.sign(&keys[0]).unwrap();
    let undecided = Err(Unverified::Undecided(Undecided::OtherIssuer));
    assert_eq!(verify(&issuer, &signed), undecided);
    let [header, claims, _] = parts(&signed);
    let forged = format!("{header}.{claims}.{}", encoded([1; 256]));
    assert_eq!(outcome(&verify(&issuer, &forged)), "signature");
    // Over in any case.
    let at = ISSUED + 3600 + LEEWAY;
    assert_eq!(outcome(&verify_at(&issuer, &signed, at)), "expired");
}
