//! Answers: reads of some subjects in the order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::vec;

use aggregator_view::documents;

use crate::blocks::Block;
use crate::detail::{self, Detail};
use crate::read::Object;
use crate::record::Record;
use crate::subject::{Details, Key, Records, Snapshot};

/// Which reads are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    pub namespace: &'a str,
    /// Only those of this HPA.
    pub hpa: Option<&'a str>,
    /// First and last millisecond since 1970, both included.
    pub from: u64,
    pub to: u64,
}

/// Iterates over reads, the oldest first, and builds each when it is asked for. It holds a copy of
/// its own, and no lock. The field `replica` is left empty.
#[derive(Debug)]
pub struct Reads {
    subjects: Vec<SubjectReads>,
    /// Time of the next read of each subject, with its position in `subjects`.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    from: u64,
    to: u64,
}

/// The reads of one subject.
#[derive(Debug)]
struct SubjectReads {
    key: Arc<Key>,
    blocks: vec::IntoIter<Block>,
    records: Option<Records<Arc<[u8]>>>,
    detail_blocks: vec::IntoIter<Block>,
    details: Option<Details<Arc<[u8]>>>,
    /// The next read of which there is a detail.
    detail: Option<Detail>,
    /// The next read.
    record: Option<(u64, Record)>,
}

// === impl Query ===

impl<'a> Query<'a> {
    /// All reads of a namespace.
    pub fn of(namespace: &'a str) -> Self {
        Self {
            namespace,
            hpa: None,
            from: 0,
            to: u64::MAX,
        }
    }

    pub(crate) fn wants(&self, key: &Key) -> bool {
        *key.namespace == *self.namespace && (self.hpa.is_none() || key.hpa.as_deref() == self.hpa)
    }
}

// === impl Reads ===

impl Reads {
    pub(crate) fn new(snapshots: Vec<Snapshot>, from: u64, to: u64) -> Self {
        let subjects: Vec<_> = snapshots.into_iter().map(SubjectReads::new).collect();
        let next = subjects.iter().enumerate();
        let next = next.filter_map(|(place, reads)| Some(Reverse((reads.next_at()?, place))));
        Self {
            next: next.collect(),
            subjects,
            from,
            to,
        }
    }
}

impl Iterator for Reads {
    type Item = documents::Read;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(Reverse((at, place))) = self.next.pop() {
            let Some(reads) = self.subjects.get_mut(place) else {
                continue;
            };
            let is_wanted = (self.from..=self.to).contains(&at);
            let read = reads.take(is_wanted);
            self.next
                .extend(reads.next_at().map(|at| Reverse((at, place))));
            if read.is_some() {
                return read;
            }
        }
        None
    }
}

// === impl SubjectReads ===

impl SubjectReads {
    fn new(snapshot: Snapshot) -> Self {
        let mut reads = Self {
            key: snapshot.key,
            blocks: snapshot.records.into_iter(),
            records: None,
            detail_blocks: snapshot.details.into_iter(),
            details: None,
            detail: None,
            record: None,
        };
        reads.detail = reads.next_detail();
        reads.record = reads.next_record();
        reads
    }

    fn next_at(&self) -> Option<u64> {
        self.record.map(|(_, record)| record.at)
    }

    /// Goes on to the read after the next one, which is returned if `is_wanted`.
    fn take(&mut self, is_wanted: bool) -> Option<documents::Read> {
        let (number, record) = self.record.take()?;
        self.record = self.next_record();
        let is_before = |detail: &Detail| detail.head.number < number;
        while self.detail.as_ref().is_some_and(is_before) {
            self.detail = self.next_detail();
        }
        let detail = self.detail.as_ref();
        let detail = detail.filter(|detail| detail.head.number == number);
        is_wanted.then(|| document(&self.key, &record, detail))
    }

    fn next_record(&mut self) -> Option<(u64, Record)> {
        loop {
            if let Some(record) = self.records.as_mut().and_then(Records::next) {
                return Some(record);
            }
            let block = self.blocks.next()?;
            self.records = Some(Records::of(block.bytes, block.span.first));
        }
    }

    fn next_detail(&mut self) -> Option<Detail> {
        loop {
            if let Some(detail) = self.details.as_mut().and_then(Details::next) {
                return Some(detail);
            }
            self.details = Some(Details::of(self.detail_blocks.next()?.bytes));
        }
    }
}

fn document(key: &Key, record: &Record, detail: Option<&Detail>) -> documents::Read {
    let object = Object {
        resource: &key.resource,
        name: &key.name,
    };
    let left_out = record.left_out.iter();
    let each = detail.and_then(|detail| detail.each.as_ref());
    let message = detail.and_then(|detail| detail.message.as_deref());
    documents::Read {
        at_unix_ms: record.at,
        replica: String::new(),
        user: key.user.to_string(),
        user_agent: key.user_agent.to_string(),
        hpa: key.hpa.as_deref().unwrap_or_default().to_owned(),
        metric: key.metric.to_string(),
        object: object.to_string(),
        selector: key.selector.to_string(),
        metric_selector: key.metric_selector.to_string(),
        code: record.code,
        sum_milli: record.sum,
        source: record.source,
        pods: record.pods,
        age_ms: record.age_ms.into(),
        window_ms: record.window_ms.into(),
        left_out: left_out
            .map(|(why, count)| (why.as_str().to_owned(), count))
            .collect(),
        message: message.unwrap_or_default().to_owned(),
        computed_replicas: record.computed,
        each: each.map(|pods| pods.iter().map(detail::Pod::document).collect()),
    }
}
