//! One subject: who reads what, and all reads of it that are known.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::blocks::{Block, Blocks, Span};
use crate::detail::{self, ARC_BYTES, Detail, Head, Pod};
use crate::limits::{DETAILED, KEPT};
use crate::read::{Answer, Each, PodState, Read, cut, millis};
use crate::record::{self, LeftOut, OK, Record};

/// What is the same in all reads of a subject.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Key {
    pub(crate) namespace: Box<str>,
    pub(crate) user: Box<str>,
    pub(crate) user_agent: Box<str>,
    pub(crate) hpa: Option<Box<str>>,
    pub(crate) metric: Box<str>,
    pub(crate) resource: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) selector: Box<str>,
    pub(crate) metric_selector: Box<str>,
}

/// A subject with its reads. Each has a number; its record is in `records`, its detail, as long as
/// it is kept, in `around` or behind that in `recent`.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) key: Arc<Key>,
    key_bytes: usize,
    /// Number of the next read.
    next: u64,
    last: Option<Record>,
    records: Blocks,
    record_codec: record::Codec,
    /// Details of the last [`DETAILED`].
    recent: Blocks,
    recent_codec: detail::Codec,
    /// Older details, of the reads before and at each change.
    around: Blocks,
    around_codec: detail::Codec,
    /// Numbers of reads in `recent` whose computed replicas or code differ from the read before.
    changes: VecDeque<u64>,
}

/// A copy of the blocks that a query needs.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) key: Arc<Key>,
    pub(crate) records: Vec<Block>,
    /// Around changes, then recent ones.
    pub(crate) details: Vec<Block>,
}

// === impl Key ===

impl Key {
    pub(crate) fn of(read: &Read<'_>) -> Self {
        Self {
            namespace: read.namespace.into(),
            user: cut(read.reader.user).into(),
            user_agent: cut(read.reader.user_agent).into(),
            hpa: read.hpa.map(Into::into),
            metric: read.metric.into(),
            resource: read.object.resource.into(),
            name: read.object.name.into(),
            selector: read.selector.into(),
            metric_selector: read.metric_selector.into(),
        }
    }

    /// True if `read` is one of this subject.
    pub(crate) fn is_of(&self, read: &Read<'_>) -> bool {
        *self.selector == *read.selector
            && *self.namespace == *read.namespace
            && self.hpa.as_deref() == read.hpa
            && *self.metric == *read.metric
            && *self.name == *read.object.name
            && *self.resource == *read.object.resource
            && *self.metric_selector == *read.metric_selector
            && *self.user == *cut(read.reader.user)
            && *self.user_agent == *cut(read.reader.user_agent)
    }

    /// The texts that tell subjects apart, in one order.
    pub(crate) fn texts<'a>(read: &Read<'a>) -> [&'a str; 9] {
        [
            read.namespace,
            read.hpa.unwrap_or_default(),
            read.selector,
            read.metric,
            read.object.resource,
            read.object.name,
            read.metric_selector,
            cut(read.reader.user),
            cut(read.reader.user_agent),
        ]
    }

    /// As [`Self::texts`] has them.
    pub(crate) fn as_texts(&self) -> [&str; 9] {
        [
            &self.namespace,
            self.hpa.as_deref().unwrap_or_default(),
            &self.selector,
            &self.metric,
            &self.resource,
            &self.name,
            &self.metric_selector,
            &self.user,
            &self.user_agent,
        ]
    }

    fn heap(&self) -> usize {
        let Self {
            namespace,
            user,
            user_agent,
            hpa,
            metric,
            resource,
            name,
            selector,
            metric_selector,
        } = self;
        let texts = [
            namespace,
            user,
            user_agent,
            metric,
            resource,
            name,
            selector,
            metric_selector,
        ];
        let texts = texts.into_iter().chain(hpa);
        size_of::<Self>() + ARC_BYTES + texts.map(|text| text.len()).sum::<usize>()
    }
}

// === impl Subject ===

impl Subject {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key_bytes: key.heap(),
            key: Arc::new(key),
            next: 0,
            last: None,
            records: Blocks::default(),
            record_codec: record::Codec::default(),
            recent: Blocks::default(),
            recent_codec: detail::Codec::default(),
            around: Blocks::default(),
            around_codec: detail::Codec::default(),
            changes: VecDeque::new(),
        }
    }

    /// Adds a read of this subject.
    pub(crate) fn add(&mut self, read: &Read<'_>) {
        let record = record_of(read);
        let number = self.next;
        self.next += 1;
        let is_change = self
            .last
            .is_some_and(|last| (last.computed, last.code) != (record.computed, record.code));
        if is_change {
            self.changes.push_back(number);
        }
        self.last = Some(record);
        if self.records.is_fresh() {
            self.record_codec = record::Codec::default();
        }
        let codec = &mut self.record_codec;
        self.records
            .push(number, record.at, |out| codec.put(&record, out));
        let head = Head {
            number,
            at: record.at,
            window_ms: record.window_ms,
        };
        put_detail(
            &mut self.recent,
            &mut self.recent_codec,
            head,
            read.each,
            read.answer.message(),
        );
    }

    /// Forgets what is too old at `now`, in Unix milliseconds.
    pub(crate) fn expire(&mut self, now: u64) {
        let kept = now.saturating_sub(u64::from(millis(KEPT)));
        while self
            .records
            .front()
            .is_some_and(|block| block.span.newest < kept)
        {
            self.records.pop();
        }
        while self
            .around
            .front()
            .is_some_and(|block| block.span.newest < kept)
        {
            self.around.pop();
        }
        if self.last.is_some_and(|last| last.at < kept) {
            // Nobody reads it any more: its open blocks are too old as well.
            for blocks in [&mut self.records, &mut self.recent, &mut self.around] {
                while blocks.oldest_span().is_some_and(|span| span.newest < kept) {
                    blocks.drop_oldest();
                }
            }
        }
        let detailed = now.saturating_sub(u64::from(millis(DETAILED)));
        let last = self.next.saturating_sub(1);
        // Whether the last read is one before a change is known only with the next.
        while self
            .recent
            .front()
            .is_some_and(|block| block.span.newest < detailed && block.span.last < last)
        {
            if let Some(block) = self.recent.pop() {
                self.keep_around_changes(&block);
            }
        }
    }

    /// Moves the details before and at a change from `block` to `around`.
    fn keep_around_changes(&mut self, block: &Block) {
        let Span { first, last, .. } = block.span;
        self.forget_changes(first);
        let changes = &self.changes;
        let is_change = |number: u64| changes.binary_search(&number).is_ok();
        let is_kept = |number: u64| is_change(number) || is_change(number + 1);
        if changes.front().is_none_or(|change| *change > last + 1) {
            return;
        }
        for detail in Details::of(&block.bytes) {
            if !is_kept(detail.head.number) {
                continue;
            }
            let pods: Vec<_> = detail.each.iter().flatten().map(Pod::as_value).collect();
            let each = match detail.each {
                Some(_) => Each::Pods(&pods),
                None => Each::Unknown,
            };
            let message = detail.message.as_deref().unwrap_or_default();
            put_detail(
                &mut self.around,
                &mut self.around_codec,
                detail.head,
                each,
                message,
            );
        }
    }

    /// Forgets changes before read `first`.
    fn forget_changes(&mut self, first: u64) {
        while self.changes.front().is_some_and(|change| *change < first) {
            self.changes.pop_front();
        }
    }

    /// Drops the oldest block of details; returns its number of reads.
    pub(crate) fn drop_details(&mut self) -> u32 {
        if let Some(span) = self.around.drop_oldest() {
            return span.entries;
        }
        let Some(span) = self.recent.drop_oldest() else {
            return 0;
        };
        self.forget_changes(span.last + 1);
        span.entries
    }

    /// Drops the oldest block of records; returns its number of reads.
    pub(crate) fn drop_records(&mut self) -> u32 {
        self.records.drop_oldest().map_or(0, |span| span.entries)
    }

    /// Time of the oldest block of details, by its newest entry.
    pub(crate) fn oldest_details(&self) -> Option<u64> {
        let span = self.around.oldest_span().or(self.recent.oldest_span());
        span.map(|span| span.newest)
    }

    /// Time of the oldest block of records, by its newest entry.
    pub(crate) fn oldest_records(&self) -> Option<u64> {
        self.records.oldest_span().map(|span| span.newest)
    }

    /// Time of the oldest read.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.records.oldest_span().map(|span| span.oldest)
    }

    pub(crate) fn snapshot(&self, from: u64, to: u64) -> Snapshot {
        let mut details = self.around.between(from, to);
        details.extend(self.recent.between(from, to));
        Snapshot {
            key: Arc::clone(&self.key),
            records: self.records.between(from, to),
            details,
        }
    }

    /// Bytes on the heap, those of the subject itself included.
    pub(crate) fn heap(&self) -> usize {
        size_of::<Self>()
            + self.key_bytes
            + self.records.heap()
            + self.recent.heap()
            + self.recent_codec.heap()
            + self.around.heap()
            + self.around_codec.heap()
            + self.changes.capacity() * size_of::<u64>()
    }
}

/// Iterates over the details of a block.
#[derive(Debug)]
pub(crate) struct Details<B> {
    bytes: B,
    at: usize,
    codec: detail::Codec,
}

// === impl Details ===

impl<B: AsRef<[u8]>> Details<B> {
    pub(crate) fn of(bytes: B) -> Self {
        Self {
            bytes,
            at: 0,
            codec: detail::Codec::default(),
        }
    }
}

impl<B: AsRef<[u8]>> Iterator for Details<B> {
    type Item = Detail;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.bytes.as_ref().get(self.at..)?;
        let detail = self.codec.take(&mut rest)?;
        self.at = self.bytes.as_ref().len() - rest.len();
        Some(detail)
    }
}

/// Iterates over the records of a block.
#[derive(Debug)]
pub(crate) struct Records<B> {
    bytes: B,
    at: usize,
    codec: record::Codec,
    number: u64,
}

// === impl Records ===

impl<B: AsRef<[u8]>> Records<B> {
    /// `first` is the number of the first record.
    pub(crate) fn of(bytes: B, first: u64) -> Self {
        Self {
            bytes,
            at: 0,
            codec: record::Codec::default(),
            number: first,
        }
    }
}

impl<B: AsRef<[u8]>> Iterator for Records<B> {
    /// A record with its number.
    type Item = (u64, Record);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.bytes.as_ref().get(self.at..)?;
        let record = self.codec.take(&mut rest)?;
        self.at = self.bytes.as_ref().len() - rest.len();
        let number = self.number;
        self.number += 1;
        Some((number, record))
    }
}

fn put_detail(
    blocks: &mut Blocks,
    codec: &mut detail::Codec,
    head: Head,
    each: Each<'_>,
    message: &str,
) {
    if blocks.is_fresh() {
        codec.reset();
    }
    blocks.push(head.number, head.at, |out| {
        codec.put(head, each, message, out);
    });
}

pub(crate) fn record_of(read: &Read<'_>) -> Record {
    let mut left_out = LeftOut::default();
    if let Each::Pods(pods) = read.each {
        for pod in pods {
            if let PodState::LeftOut(why) = pod.state {
                left_out.add(why);
            }
        }
    }
    let record = Record {
        at: read.at.0,
        left_out,
        computed: read.computed_replicas,
        ..Record::default()
    };
    match read.answer {
        Answer::Value {
            sum,
            source,
            pods,
            age,
            window,
        } => Record {
            code: OK,
            sum: Some(sum.0),
            source,
            pods: u32::try_from(pods).unwrap_or(u32::MAX),
            age_ms: millis(age),
            window_ms: millis(window),
            ..record
        },
        Answer::Refusal { code, .. } => Record { code, ..record },
    }
}
