//! The other replicas: what each of them alone knows.

use std::pin::Pin;

use bytes::Bytes;

/// What one of the other replicas answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerAnswer {
    /// Its address, until its answer says its name.
    pub name: String,
    /// The document, or why there is none.
    pub answer: Result<Bytes, String>,
}

/// A future of what all other replicas answered.
pub type PeerAnswers<'a> = Pin<Box<dyn Future<Output = Vec<PeerAnswer>> + Send + 'a>>;

/// Asks the other replicas, each for its own part.
pub trait Peers: Send + Sync {
    /// Sends each of them a GET of `path`, with its query. An error of one, or no answer in time,
    /// is its answer.
    fn ask<'a>(&'a self, path: &'a str) -> PeerAnswers<'a>;
}
