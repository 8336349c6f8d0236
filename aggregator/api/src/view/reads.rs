//! Reads of metrics and changes of autoscalers, of this replica and of all together.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use aggregator_ledger::Query;
use aggregator_view::documents::{Change, List, Read, ReplicaAnswer};
use bytes::Bytes;
use common_time::UnixMillis;
use tokio::sync::OwnedSemaphorePermit;

use super::peers::PeerAnswer;
use super::{Views, json};
use crate::form::view::ViewParameters;
use crate::status::{Reason, Refusal};
use aggregator_view::{GROUP, VERSION};

/// Reads of one replica in a document: a day of one autoscaler, each 15 s, is 5,760.
const READS_MAX: usize = 6_000;

/// Pods of these reads. Of older reads only what they summed up is told.
const EACH_MAX: usize = 24_000;

/// Changes of one replica in a document.
const CHANGES_MAX: usize = 6_000;

/// What all replicas know of the reads of a namespace, the oldest first.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) reads: Vec<Read>,
    pub(super) changes: Vec<Change>,
    pub(super) replicas: Vec<ReplicaAnswer>,
    /// Nothing else is gathered while this is in memory.
    _room: Option<OwnedSemaphorePermit>,
}

/// The newest of some reads.
#[derive(Debug, Default)]
struct Newest {
    reads: VecDeque<Read>,
    /// Pods in all of them.
    each: usize,
    /// Of these, the oldest, the pods were dropped.
    shortened: usize,
}

/// Which reads are asked for.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) namespace: String,
    pub(super) hpa: Option<String>,
    /// First and last Unix millisecond.
    pub(super) from: u64,
    pub(super) to: u64,
}

// === impl Views ===

impl Views {
    /// The newest first, page by page.
    pub(super) async fn reads(
        self: &Arc<Self>,
        namespace: &str,
        parameters: ViewParameters,
    ) -> Result<Bytes, Refusal> {
        let place = Place::parse(&parameters.token)?;
        let before = place.as_ref().map(|place| place.at);
        let to = parameters.to.unwrap_or(u64::MAX);
        let span = Span {
            namespace: namespace.to_owned(),
            hpa: parameters.hpa.clone(),
            from: parameters.from.unwrap_or_default(),
            to: before.map_or(to, |before| before.min(to)),
        };
        if parameters.only_self {
            let part = self.build(move |views| json(&views.own_part(&span)));
            return part.await;
        }
        let mut gathered = self.gather(span).await?;
        let page = move |_: &Self| {
            let mut reads = std::mem::take(&mut gathered.reads);
            reads.reverse();
            let skipped = place.map_or(0, |place| place.skip(&reads));
            let limit = parameters.limit;
            let remaining = reads.len().saturating_sub(skipped + limit);
            let page: Vec<_> = reads.into_iter().skip(skipped).take(limit).collect();
            let next = Place::after(&page, skipped);
            let mut list = List::new("ReadList", page);
            list.metadata.remaining_item_count = Some(remaining as u64);
            list.metadata.continue_token = next.filter(|_| remaining > 0).unwrap_or_default();
            list.replicas = std::mem::take(&mut gathered.replicas);
            json(&list)
        };
        self.build(page).await
    }

    /// The newest [`READS_MAX`] reads and [`CHANGES_MAX`] changes of this replica, the oldest
    /// first, with the newest [`EACH_MAX`] pods.
    pub(super) fn own_part(&self, span: &Span) -> List<Read> {
        let query = Query {
            namespace: &span.namespace,
            hpa: span.hpa.as_deref(),
            from: span.from,
            to: span.to,
        };
        let ledger = &self.ledger;
        let name = (self.settings.replica)().name;
        let mut newest = Newest::default();
        for mut read in ledger.reads(&query) {
            read.replica.clone_from(&name);
            newest.push(read);
        }
        let mut changes = ledger.changes(&query);
        changes.drain(..changes.len().saturating_sub(CHANGES_MAX));
        let mut list = List::new("ReadList", newest.reads.into());
        list.changes = changes;
        list.replicas = vec![ReplicaAnswer {
            name,
            error: String::new(),
            since_unix_ms: ledger.oldest().map(|UnixMillis(at)| at),
        }];
        list
    }

    /// What this replica and all others know.
    pub(super) async fn gather(self: &Arc<Self>, span: Span) -> Result<Gathered, Refusal> {
        let room = self.gatherer().await?;
        let path = span.path();
        let own = self.build(move |views| Ok(views.own_part(&span)));
        let others = async {
            match &self.settings.peers {
                Some(peers) => peers.ask(&path).await,
                None => Vec::new(),
            }
        };
        let (own, others) = tokio::join!(own, others);
        let own = own?;
        let merge = move |_: &Self| {
            let others = others.into_iter().map(part_of).collect();
            Ok(Gathered {
                _room: Some(room),
                ..merge(own, others)
            })
        };
        self.build(merge).await
    }
}

// === impl Newest ===

impl Newest {
    fn push(&mut self, read: Read) {
        let pods = |read: &Read| read.each.as_ref().map_or(0, Vec::len);
        self.each += pods(&read);
        self.reads.push_back(read);
        if self.reads.len() > READS_MAX
            && let Some(oldest) = self.reads.pop_front()
        {
            self.each -= pods(&oldest);
            self.shortened = self.shortened.saturating_sub(1);
        }
        while self.each > EACH_MAX
            && let Some(oldest) = self.reads.get_mut(self.shortened)
        {
            self.each -= pods(oldest);
            oldest.each = None;
            self.shortened += 1;
        }
    }
}

// === impl Span ===

impl Span {
    /// Path and query by which another replica is asked for its part.
    fn path(&self) -> String {
        let mut path = format!(
            "/apis/{GROUP}/{VERSION}/namespaces/{}/reads?replica=self&from={}&to={}",
            self.namespace, self.from, self.to
        );
        if let Some(hpa) = &self.hpa {
            // Names of autoscalers need no encoding; others name none.
            let plain = hpa
                .chars()
                .filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c));
            let plain: String = plain.collect();
            // Writing to a string does not fail.
            let _ = write!(path, "&hpa={plain}");
        }
        path
    }
}

/// One replica's part, or why it gave none.
fn part_of(answer: PeerAnswer) -> Result<List<Read>, ReplicaAnswer> {
    let PeerAnswer { name, answer } = answer;
    let part = answer.and_then(|body| {
        serde_json::from_slice::<List<Read>>(&body)
            .map_err(|error| format!("its answer cannot be read: {error}"))
    });
    let mut part = part.map_err(|error| ReplicaAnswer {
        name: name.clone(),
        error,
        since_unix_ms: None,
    })?;
    if part.replicas.is_empty() {
        part.replicas.push(ReplicaAnswer {
            name,
            ..ReplicaAnswer::default()
        });
    }
    Ok(part)
}

/// All parts together, by time. Each read was answered by one replica; a change was seen by each of
/// them, so those of the others count only for the time before this one saw any.
fn merge(own: List<Read>, others: Vec<Result<List<Read>, ReplicaAnswer>>) -> Gathered {
    let mut gathered = Gathered {
        reads: own.items,
        changes: own.changes,
        replicas: own.replicas,
        _room: None,
    };
    let mut earlier: Vec<Change> = Vec::new();
    for other in others {
        match other {
            Ok(part) => {
                gathered.reads.extend(part.items);
                gathered.replicas.extend(part.replicas);
                let first = |changes: &[Change]| changes.first().map(|change| change.at_unix_ms);
                let is_longer = match (first(&part.changes), first(&earlier)) {
                    (Some(theirs), Some(known)) => theirs < known,
                    (theirs, _) => theirs.is_some(),
                };
                if is_longer {
                    earlier = part.changes;
                }
            }
            Err(answer) => gathered.replicas.push(answer),
        }
    }
    gathered.reads.sort_by_key(|read| read.at_unix_ms);
    let seen_since = gathered.changes.first().map(|change| change.at_unix_ms);
    earlier.retain(|change| seen_since.is_none_or(|since| change.at_unix_ms < since));
    earlier.append(&mut gathered.changes);
    gathered.changes = earlier;
    gathered
}

/// Where a page of reads begins: at a time, after some of the same millisecond.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    at: u64,
    given: usize,
}

// === impl Place ===

impl Place {
    fn parse(token: &str) -> Result<Option<Self>, Refusal> {
        if token.is_empty() {
            return Ok(None);
        }
        let place = token.split_once('/').and_then(|(at, given)| {
            Some(Self {
                at: at.parse().ok()?,
                given: given.parse().ok()?,
            })
        });
        place.map(Some).ok_or_else(|| {
            Refusal::bad_request(
                Reason::Query,
                "continue: not what metadata.continue of the page before says",
            )
        })
    }

    /// How many of `reads`, the newest first, were on pages before.
    fn skip(self, reads: &[Read]) -> usize {
        let same = reads.iter().filter(|read| read.at_unix_ms == self.at);
        same.count().min(self.given)
    }

    /// The token of the page after `page`, of which `skipped` reads of the first millisecond were
    /// on pages before.
    fn after(page: &[Read], skipped: usize) -> Option<String> {
        let at = page.last()?.at_unix_ms;
        let given = page.iter().filter(|read| read.at_unix_ms == at).count();
        let is_one = page.first().is_some_and(|first| first.at_unix_ms == at);
        let given = if is_one { given + skipped } else { given };
        Some(format!("{at}/{given}"))
    }
}

#[cfg(test)]
mod tests {
    use aggregator_view::documents::PodRead;

    use super::*;

    fn read(at: u64, replica: &str) -> Read {
        Read {
            at_unix_ms: at,
            replica: replica.to_owned(),
            ..Read::default()
        }
    }

    fn change(at: u64) -> Change {
        Change {
            at_unix_ms: at,
            ..Change::default()
        }
    }

    fn part(name: &str, reads: &[u64], changes: &[u64]) -> List<Read> {
        let reads = reads.iter().map(|at| read(*at, name));
        let mut list = List::new("ReadList", reads.collect());
        list.changes = changes.iter().map(|at| change(*at)).collect();
        list.replicas.push(ReplicaAnswer {
            name: name.to_owned(),
            ..ReplicaAnswer::default()
        });
        list
    }

    /// Reads by time, each once; changes as this replica saw them, and before it as the one that
    /// looks back the longest did; who gave none is named.
    #[test]
    fn merges_by_time() {
        let lost = ReplicaAnswer {
            name: "10.0.0.3".to_owned(),
            error: "no answer within 2 s".to_owned(),
            since_unix_ms: None,
        };
        let others = vec![
            Ok(part("b", &[2, 4], &[8, 21, 31])),
            Err(lost.clone()),
            Ok(part("c", &[3], &[22])),
        ];
        let merged = merge(part("a", &[1, 5], &[20, 30]), others);
        let reads: Vec<_> = merged.reads.iter().map(|read| read.at_unix_ms).collect();
        assert_eq!(reads, [1, 2, 3, 4, 5]);
        let changes = merged.changes.iter().map(|change| change.at_unix_ms);
        assert_eq!(changes.collect::<Vec<_>>(), [8, 20, 30]);
        let names: Vec<_> = merged.replicas.iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["a", "b", "10.0.0.3", "c"]);
        assert_eq!(merged.replicas[2], lost);
    }

    /// Reads and their pods are bounded; the newest ones have their pods.
    #[test]
    fn the_newest_are_kept() {
        let mut newest = Newest::default();
        let pods = 10;
        // As long as names of pods of a Deployment get.
        let pod = PodRead {
            name: "recommendations-v2-6f7c9d5b48-x2x9k".to_owned(),
            value_milli: Some(123_456),
            window_ms: 15_000,
            age_ms: 1_000,
            state: "live".to_owned(),
            ..PodRead::default()
        };
        for at in 0..7_000 {
            newest.push(Read {
                each: Some(vec![pod.clone(); pods]),
                ..read(at, "")
            });
            let each = newest.reads.iter().filter_map(|read| read.each.as_ref());
            if at % 500 == 0 {
                assert_eq!(each.map(Vec::len).sum::<usize>(), newest.each);
            }
        }
        assert_eq!(newest.reads.len(), READS_MAX);
        assert_eq!(newest.reads[0].at_unix_ms, 1_000);
        let has_pods = newest.reads.iter().map(|read| read.each.is_some());
        let (without, with) = (READS_MAX - EACH_MAX / pods, EACH_MAX / pods);
        let expected = [vec![false; without], vec![true; with]].concat();
        assert_eq!(has_pods.collect::<Vec<_>>(), expected);
        let list = List::new("ReadList", newest.reads.into());
        let bytes = json(&list).unwrap().len();
        assert!(
            bytes < 8 << 20,
            "{bytes}: what answers of replicas may have"
        );
    }

    /// Pages have each read once, also where many are of one millisecond.
    #[test]
    fn pages_within_a_millisecond() {
        let all = [9, 5, 5, 5, 5, 1].map(|at| read(at, ""));
        let mut token = String::new();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let place = Place::parse(&token).unwrap();
            let to = place.map_or(u64::MAX, |place| place.at);
            let reads: Vec<_> = all
                .iter()
                .filter(|read| read.at_unix_ms <= to)
                .cloned()
                .collect();
            let skipped = place.map_or(0, |place| place.skip(&reads));
            let page: Vec<_> = reads.into_iter().skip(skipped).take(2).collect();
            seen.extend(page.iter().map(|read| read.at_unix_ms));
            token = Place::after(&page, skipped).unwrap();
        }
        assert_eq!(seen, [9, 5, 5, 5, 5, 1]);
        assert!(Place::parse("x").is_err());
    }

    /// What is not an answer is said to be none.
    #[test]
    fn names_what_it_cannot_read() {
        let answer = |answer| PeerAnswer {
            name: "10.0.0.2".to_owned(),
            answer,
        };
        let unreadable = part_of(answer(Ok(Bytes::from_static(b"<html>")))).unwrap_err();
        assert!(unreadable.error.starts_with("its answer cannot be read"));
        let dead = part_of(answer(Err("connection refused".to_owned()))).unwrap_err();
        assert_eq!(dead.error, "connection refused");
        let body = serde_json::to_vec(&List::<Read>::new("ReadList", Vec::new())).unwrap();
        let part = part_of(answer(Ok(body.into()))).unwrap();
        assert_eq!(part.replicas[0].name, "10.0.0.2");
    }
}
