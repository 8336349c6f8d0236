//! The public keys of an issuer, from its JSON Web Key Set (RFC 7517).
//!
//! The key decides the algorithm, never the token: RSA of 2048 to 8192 bits is RS256, P-256 is
//! ES256. Other keys stay in the set by their id, so that a token of theirs is known to be the
//! cluster's.

use std::collections::BTreeMap;

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::compact::decode;

/// Bytes of a key set: [`KEYS_MAX`] RSA keys of 8192 bits have some 150 KiB.
pub const KEY_SET_BYTES_MAX: usize = 256 * 1024;

/// Keys of a set. A cluster has one, and two while it is rotated.
pub const KEYS_MAX: usize = 100;

/// Bits of an RSA key: fewer are forged by whoever can pay for it, more cost too much.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Bytes of an RSA exponent, which is 65537 in practice.
const EXPONENT_BYTES_MAX: usize = 4;

/// Bytes of a coordinate of P-256.
const COORDINATE_BYTES: usize = 32;

/// The first byte of a point that is written in full.
const UNCOMPRESSED: u8 = 4;

/// Public keys by their id.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: BTreeMap<String, Key>,
    /// Keys that cannot be used, as sentences.
    unusable: Vec<String>,
}

/// Why a key set cannot be read.
#[derive(Debug, Error)]
pub enum KeySetError {
    #[error("the key set has {bytes} bytes, at most {KEY_SET_BYTES_MAX} are taken")]
    TooLong { bytes: usize },
    #[error("the key set has {keys} keys, at most {KEYS_MAX} are taken")]
    TooMany { keys: usize },
    #[error("the key set is not a JSON Web Key Set: {0}")]
    Malformed(#[source] serde_json::Error),
    #[error("the key set has no key with an id")]
    Empty,
}

#[derive(Debug)]
pub(crate) enum Key {
    Rs256(RsaPublicKeyComponents<Vec<u8>>),
    Es256(UnparsedPublicKey<Vec<u8>>),
    /// The algorithm that it is for, if it says so.
    Unsupported(Option<String>),
}

#[derive(Debug, Deserialize)]
struct JsonKeySet {
    keys: Vec<Value>,
}

/// A key as it is written; members for other kinds are left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JsonKey {
    kid: Option<String>,
    kty: String,
    r#use: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

// === impl KeySet ===

impl KeySet {
    /// Reads a JSON Web Key Set. A key that cannot be used does not keep others from being so.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        if json.len() > KEY_SET_BYTES_MAX {
            return Err(KeySetError::TooLong { bytes: json.len() });
        }
        let set: JsonKeySet = serde_json::from_slice(json).map_err(KeySetError::Malformed)?;
        if set.keys.len() > KEYS_MAX {
            let keys = set.keys.len();
            return Err(KeySetError::TooMany { keys });
        }
        let mut read = Self::default();
        for key in set.keys {
            match serde_json::from_value(key) {
                Ok(key) => read.add(&key),
                Err(error) => read.unusable.push(format!("a key is unreadable: {error}")),
            }
        }
        if read.keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(read)
    }

    fn add(&mut self, key: &JsonKey) {
        let Some(id) = key.kid.clone().filter(|id| !id.is_empty()) else {
            return self.unusable.push("a key has no id".to_owned());
        };
        if self.keys.contains_key(&id) {
            return self.unusable.push(format!("the key {id:?} is there twice"));
        }
        let read = key.read().unwrap_or_else(|why| {
            self.unusable.push(format!("the key {id:?} {why}"));
            Key::Unsupported(key.alg.clone())
        });
        self.keys.insert(id, read);
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }

    /// Ids of the keys, sorted.
    pub fn ids(&self) -> Vec<&str> {
        self.keys.keys().map(String::as_str).collect()
    }

    /// What is wrong with keys that cannot be used, as sentences.
    pub fn unusable(&self) -> &[String] {
        &self.unusable
    }
}

// === impl JsonKey ===

impl JsonKey {
    /// An error says what is wrong with it.
    fn read(&self) -> Result<Key, String> {
        if self
            .r#use
            .as_deref()
            .is_some_and(|purpose| purpose != "sig")
        {
            return Err("is not for signatures".to_owned());
        }
        let is_for = |algorithm: &str| self.alg.as_deref().is_none_or(|own| own == algorithm);
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) if is_for("RS256") => self.rsa(),
            ("EC", Some("P-256")) if is_for("ES256") => self.p256(),
            (kind, curve) => Err(format!(
                "is of the kind {kind:?} (curve {:?}, algorithm {:?}), which only kube-apiserver verifies",
                curve.unwrap_or_default(),
                self.alg.as_deref().unwrap_or_default()
            )),
        }
    }

    fn rsa(&self) -> Result<Key, String> {
        let n = number(self.n.as_deref()).ok_or("has no modulus")?;
        let e = number(self.e.as_deref()).ok_or("has no exponent")?;
        let bits = bits(&n);
        if !RSA_BITS.contains(&bits) {
            let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
            return Err(format!("has {bits} bits, {least} to {most} are taken"));
        }
        let is_odd = e.last().is_some_and(|byte| byte % 2 == 1);
        if e.len() > EXPONENT_BYTES_MAX || !is_odd || e == [1] {
            return Err("has an exponent that nobody uses".to_owned());
        }
        Ok(Key::Rs256(RsaPublicKeyComponents { n, e }))
    }

    fn p256(&self) -> Result<Key, String> {
        let mut point = vec![UNCOMPRESSED];
        for coordinate in [&self.x, &self.y] {
            let coordinate = coordinate.as_deref().and_then(decode);
            let coordinate = coordinate.filter(|bytes| bytes.len() == COORDINATE_BYTES);
            point.extend(coordinate.ok_or("has no two coordinates of 32 bytes")?);
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        Ok(Key::Es256(key))
    }
}

// === impl Key ===

impl Key {
    /// The algorithm of tokens that this key signed; `None` if any may be.
    pub(crate) fn algorithm(&self) -> Option<&str> {
        match self {
            Self::Rs256(_) => Some("RS256"),
            Self::Es256(_) => Some("ES256"),
            Self::Unsupported(algorithm) => algorithm.as_deref(),
        }
    }

    /// `None` if the kind is not supported.
    pub(crate) fn verifies(&self, signed: &str, signature: &[u8]) -> Option<bool> {
        let signed = signed.as_bytes();
        match self {
            Self::Rs256(key) => {
                let verified = key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature);
                Some(verified.is_ok())
            }
            Self::Es256(key) => Some(key.verify(signed, signature).is_ok()),
            Self::Unsupported(_) => None,
        }
    }
}

/// A big-endian number in base64url, without leading zeros.
fn number(text: Option<&str>) -> Option<Vec<u8>> {
    let bytes = decode(text?)?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[first..].to_vec())
}

fn bits(number: &[u8]) -> usize {
    let zeros = number.first().map_or(0, |byte| byte.leading_zeros());
    8 * number.len() - zeros as usize
}
