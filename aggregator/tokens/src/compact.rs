//! The three parts of a token in its compact form (RFC 7515, section 7.1): header, claims and
//! signature, each in base64url.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::rejection::{Rejection, RejectionReason};

/// Bytes of a token. Those of service accounts have about 1 KiB; 8 KiB hold the longest names.
pub(crate) const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a header in base64url: an algorithm and the id of a key.
const HEADER_BYTES_MAX: usize = 512;

/// A token, its claims not read yet.
#[derive(Debug)]
pub(crate) struct Compact<'a> {
    pub(crate) header: Header,
    claims: &'a str,
    /// What the signature is of.
    pub(crate) signed: &'a str,
    pub(crate) signature: Vec<u8>,
}

/// What is needed of a header. Keys and addresses in it are never used.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) kid: String,
    /// Extensions that must be understood (RFC 7515, section 4.1.11); we know none.
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

// === impl Compact ===

impl<'a> Compact<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, Rejection> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let parts = token.rsplit_once('.').and_then(|(signed, signature)| {
            let (header, claims) = signed.split_once('.')?;
            (!claims.contains('.')).then_some((signed, header, claims, signature))
        });
        let (signed, header, claims, signature) =
            parts.ok_or_else(|| malformed("it does not have three parts"))?;
        if header.len() > HEADER_BYTES_MAX {
            return Err(malformed("its header is too long"));
        }
        let header = decode(header).and_then(|json| serde_json::from_slice(&json).ok());
        let header: Header =
            header.ok_or_else(|| malformed("its header has no algorithm and key"))?;
        if header.crit.is_some() {
            return Err(malformed("its header demands an extension"));
        }
        let signature = decode(signature).ok_or_else(|| malformed("its signature is garbled"))?;
        Ok(Self {
            header,
            claims,
            signed,
            signature,
        })
    }

    /// The claims as JSON, once the signature was verified.
    pub(crate) fn claims(&self) -> Result<Vec<u8>, Rejection> {
        decode(self.claims).ok_or_else(|| malformed("its claims are garbled"))
    }
}

pub(crate) fn malformed(what: &str) -> Rejection {
    let sentence = format!("the bearer token is not one of a service account: {what}");
    Rejection::new(RejectionReason::Malformed, sentence)
}

/// Without padding and without bits to spare, so that one text has one form.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}
