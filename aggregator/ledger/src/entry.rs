//! Reads and changes as bytes, each by itself, for a ledger that outlives its process.

use aggregator_core::query::Milli;
use aggregator_view::documents::Change;
use common_time::UnixMillis;
use thiserror::Error;

use std::time::Duration;

use crate::detail::{self, Head, Pod};
use crate::read::{Answer, Each, Object, Read, Reader};
use crate::record;
use crate::subject::{Key, record_of};
use crate::varint::{put_text, take_byte, take_text};

const READ: u8 = 0;
const CHANGE: u8 = 1;

/// Bytes that are no entry, or not one of this version.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a record holds what is neither a read nor a change")]
pub struct EntryError;

/// An entry, read.
#[derive(Debug)]
pub(crate) enum Entry<T> {
    /// What became of the read.
    Read(T),
    Change {
        namespace: String,
        change: Change,
    },
}

pub(crate) fn of_read(read: &Read<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.push(READ);
    out.push(u8::from(read.hpa.is_some()));
    for text in Key::texts(read) {
        put_text(&mut out, text);
    }
    let record = record_of(read);
    record::Codec::default().put(&record, &mut out);
    let head = Head {
        number: 0,
        at: record.at,
        window_ms: record.window_ms,
    };
    detail::Codec::default().put(head, read.each, read.answer.message(), &mut out);
    out
}

pub(crate) fn of_change(namespace: &str, change: &Change) -> Vec<u8> {
    let mut out = vec![CHANGE];
    put_text(&mut out, namespace);
    // It has texts and numbers only, which always serialise.
    out.extend(serde_json::to_vec(change).unwrap_or_default());
    out
}

/// Reads an entry; gives a read to `take`.
pub(crate) fn parse<T>(
    mut bytes: &[u8],
    take: impl FnOnce(&Read<'_>) -> T,
) -> Result<Entry<T>, EntryError> {
    let bytes = &mut bytes;
    match take_byte(bytes) {
        Some(READ) => read(bytes, take).map(Entry::Read),
        Some(CHANGE) => change(bytes),
        _ => None,
    }
    .ok_or(EntryError)
}

fn change<T>(bytes: &mut &[u8]) -> Option<Entry<T>> {
    Some(Entry::Change {
        namespace: take_text(bytes)?.to_owned(),
        change: serde_json::from_slice(bytes).ok()?,
    })
}

fn read<T>(bytes: &mut &[u8], take: impl FnOnce(&Read<'_>) -> T) -> Option<T> {
    let has_hpa = take_byte(bytes)? == 1;
    let mut texts = [""; 9];
    for text in &mut texts {
        *text = take_text(bytes)?;
    }
    let [
        namespace,
        hpa,
        selector,
        metric,
        resource,
        name,
        metric_selector,
        user,
        user_agent,
    ] = texts;
    let record = record::Codec::default().take(bytes)?;
    let detail = detail::Codec::default().take(bytes)?;
    let pods: Vec<_> = detail.each.iter().flatten().map(Pod::as_value).collect();
    let millis = |ms: u32| Duration::from_millis(ms.into());
    let read = Read {
        at: UnixMillis(record.at),
        reader: Reader { user, user_agent },
        namespace,
        hpa: has_hpa.then_some(hpa),
        metric,
        object: Object { resource, name },
        selector,
        metric_selector,
        answer: match record.sum {
            Some(sum) => Answer::Value {
                sum: Milli(sum),
                source: record.source,
                pods: record.pods as usize,
                age: millis(record.age_ms),
                window: millis(record.window_ms),
            },
            None => Answer::Refusal {
                code: record.code,
                message: detail.message.as_deref().unwrap_or_default(),
            },
        },
        each: match detail.each {
            Some(_) => Each::Pods(&pods),
            None => Each::Unknown,
        },
        computed_replicas: record.computed,
    };
    Some(take(&read))
}
