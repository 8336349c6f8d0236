//! Keys and tokens of service accounts, as kube-apiserver issues them for pods.

use std::fmt;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey,
};
use serde_json::{Value, json};

use crate::clock;

/// A key of 2048 bits that signs nothing but tokens of tests, since ring makes none (PKCS #8).
const RSA: &[u8] = include_bytes!("signing/rsa-2048.der");
/// The first byte of a point that is written in full.
const UNCOMPRESSED: u8 = 4;

/// A key that signs tokens.
pub struct SigningKey {
    id: String,
    kind: Kind,
}

enum Kind {
    Es256(EcdsaKeyPair),
    Rs256(rsa::KeyPair),
}

/// What a token says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodToken {
    pub issuer: String,
    pub audience: String,
    pub namespace: String,
    pub account: String,
    /// Name and uid; `None` for a token that is bound to no pod.
    pub pod: Option<(String, String)>,
    /// Seconds of Unix time.
    pub issued: u64,
    /// The same.
    pub expires: u64,
}

// === impl SigningKey ===

impl SigningKey {
    /// A new key of the curve P-256.
    pub fn es256() -> Result<Self> {
        let (random, form) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(form, &random);
        let document = document.map_err(|_| anyhow!("generate a key"))?;
        let pair = EcdsaKeyPair::from_pkcs8(form, document.as_ref(), &random);
        let pair = pair.map_err(|error| anyhow!("read the key: {error}"))?;
        Ok(Self::of(Kind::Es256(pair)))
    }

    /// The RSA key of tests, always the same.
    pub fn rs256() -> Result<Self> {
        let pair = rsa::KeyPair::from_pkcs8(RSA);
        let pair = pair.map_err(|error| anyhow!("read the key: {error}"))?;
        Ok(Self::of(Kind::Rs256(pair)))
    }

    /// Its id is made of its public half, as kube-apiserver does it.
    fn of(kind: Kind) -> Self {
        let public = match &kind {
            Kind::Es256(pair) => pair.public_key().as_ref(),
            Kind::Rs256(pair) => pair.public().as_ref(),
        };
        let id = encoded(digest(&SHA256, public).as_ref());
        Self { id, kind }
    }

    /// What `kid` says.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `ES256` or `RS256`.
    pub fn algorithm(&self) -> &'static str {
        match &self.kind {
            Kind::Es256(_) => "ES256",
            Kind::Rs256(_) => "RS256",
        }
    }

    /// Its public half, as `/openid/v1/jwks` has it.
    pub fn jwk(&self) -> Value {
        let (id, algorithm) = (&self.id, self.algorithm());
        match &self.kind {
            Kind::Es256(pair) => {
                let point = pair.public_key().as_ref();
                let point = point.strip_prefix(&[UNCOMPRESSED]).unwrap_or(point);
                let (x, y) = point.split_at(point.len() / 2);
                json!({"use": "sig", "kty": "EC", "kid": id, "alg": algorithm, "crv": "P-256",
                    "x": encoded(x), "y": encoded(y)})
            }
            Kind::Rs256(pair) => {
                let public: rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
                json!({"use": "sig", "kty": "RSA", "kid": id, "alg": algorithm,
                    "n": encoded(&public.n), "e": encoded(&public.e)})
            }
        }
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        self.sign_as(
            &json!({"alg": self.algorithm(), "kid": self.id}),
            &claims.to_string(),
        )
    }

    /// A token with this header and these claims, whatever they say; its signature is right.
    pub fn sign_as(&self, header: &Value, claims: &str) -> Result<String> {
        let signed = format!(
            "{}.{}",
            encoded(header.to_string().as_bytes()),
            encoded(claims.as_bytes())
        );
        let (random, message) = (SystemRandom::new(), signed.as_bytes());
        let signature = match &self.kind {
            Kind::Es256(pair) => {
                let signature = pair.sign(&random, message);
                signature.map(|signature| signature.as_ref().to_vec())
            }
            Kind::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let done = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                done.map(|()| signature)
            }
        };
        let signature = signature.map_err(|_| anyhow!("sign a token"))?;
        Ok(format!("{signed}.{}", encoded(&signature)))
    }

    /// The claims of `token`, if this key signed it.
    pub(super) fn claims(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&decoded(header)?).ok()?;
        if header["kid"] != self.id.as_str() {
            return None;
        }
        let (signature, message) = (decoded(signature)?, signed.as_bytes());
        let verified = match &self.kind {
            Kind::Es256(pair) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
                    .verify(message, &signature)
            }
            Kind::Rs256(pair) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public().as_ref())
                    .verify(message, &signature)
            }
        };
        verified.ok()?;
        serde_json::from_slice(&decoded(claims)?).ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} {})", self.algorithm(), self.id)
    }
}

// === impl PodToken ===

impl PodToken {
    /// A token as the kubelet asks for it: for an hour from now.
    pub fn new(issuer: &str, audience: &str, namespace: &str, pod: &str, uid: &str) -> Self {
        let now = clock::unix().0 / 1000;
        Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            namespace: namespace.to_owned(),
            account: "default".to_owned(),
            pod: Some((pod.to_owned(), uid.to_owned())),
            issued: now,
            expires: now + 3600,
        }
    }

    /// The claims as kube-apiserver writes them.
    pub fn claims(&self) -> Value {
        let (namespace, account) = (&self.namespace, &self.account);
        let mut kubernetes = json!({
            "namespace": namespace,
            "serviceaccount": {"name": account, "uid": format!("uid-{account}")},
        });
        if let Some((name, uid)) = &self.pod {
            kubernetes["pod"] = json!({"name": name, "uid": uid});
            kubernetes["node"] = json!({"name": "node-1", "uid": "uid-node-1"});
        }
        json!({
            "aud": [self.audience],
            "exp": self.expires,
            "iat": self.issued,
            "iss": self.issuer,
            "jti": format!("{namespace}-{account}-{}", self.issued),
            "kubernetes.io": kubernetes,
            "nbf": self.issued,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
        })
    }

    /// The token, signed by `key`.
    pub fn sign(&self, key: &SigningKey) -> Result<String> {
        key.sign(&self.claims()).context("a token of a pod")
    }
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each key knows its own tokens, whole, and nobody else's.
    #[test]
    fn a_key_knows_its_tokens() {
        let token = PodToken::new("https://issuer", "meshmeter", "prod", "jazz-1", "u1");
        let keys = [SigningKey::es256().unwrap(), SigningKey::rs256().unwrap()];
        for (nth, key) in keys.iter().enumerate() {
            let text = token.sign(key).unwrap();
            assert_eq!(key.claims(&text), Some(token.claims()), "{key:?}");
            assert_eq!(keys[1 - nth].claims(&text), None, "{key:?}");
            let (signed, signature) = text.rsplit_once('.').unwrap();
            let (header, _) = signed.split_once('.').unwrap();
            let other = PodToken {
                expires: token.expires + 1,
                ..token.clone()
            };
            let claims = encoded(other.claims().to_string().as_bytes());
            let forged = format!("{header}.{claims}.{signature}");
            assert_eq!(key.claims(&forged), None, "{key:?}");
        }
    }
}
