//! A read without its pods, written as what differs from the read before: some ten bytes.

use aggregator_core::query::NoValue;
use aggregator_view::documents::ReadSource;

use crate::read::{REASONS, reason_code, reason_of_code};
use crate::varint::{put, put_difference, take, take_byte, take_difference, take_u32};

/// Status code of an answer with a value.
pub(crate) const OK: u16 = 200;

/// A read in numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Record {
    /// Unix milliseconds.
    pub(crate) at: u64,
    pub(crate) code: u16,
    /// In thousandths; `None` for a refusal.
    pub(crate) sum: Option<u64>,
    pub(crate) source: ReadSource,
    /// Pods with a value.
    pub(crate) pods: u32,
    pub(crate) age_ms: u32,
    pub(crate) window_ms: u32,
    pub(crate) left_out: LeftOut,
    pub(crate) computed: Option<u32>,
}

/// Pods left out, by reason.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct LeftOut([u32; REASONS]);

/// Writes or reads records in sequence. The first one is written whole, another one as what differs
/// from the last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Codec {
    last: Record,
    last_sum: u64,
    /// Time between the last two records.
    step: u64,
}

/// Bits of a record's first byte: what differs from the last record and follows.
mod changed {
    pub(super) const CODE: u8 = 1;
    pub(super) const HAS_SUM: u8 = 1 << 1;
    pub(super) const CALLERS: u8 = 1 << 2;
    pub(super) const PODS: u8 = 1 << 3;
    pub(super) const WINDOW: u8 = 1 << 4;
    pub(super) const LEFT_OUT: u8 = 1 << 5;
    pub(super) const COMPUTED: u8 = 1 << 6;
}

// === impl Record ===

impl Default for Record {
    fn default() -> Self {
        Self {
            at: 0,
            code: OK,
            sum: None,
            source: ReadSource::Pods,
            pods: 0,
            age_ms: 0,
            window_ms: 0,
            left_out: LeftOut::default(),
            computed: None,
        }
    }
}

// === impl LeftOut ===

impl LeftOut {
    pub(crate) fn add(&mut self, why: NoValue) {
        if let Some(count) = self.0.get_mut(usize::from(reason_code(why))) {
            *count = count.saturating_add(1);
        }
    }

    /// Reasons of at least one pod, with their numbers of pods.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NoValue, u32)> {
        let counts = (0_u8..).zip(self.0).filter(|(_, count)| *count > 0);
        counts.filter_map(|(code, count)| Some((reason_of_code(code)?, count)))
    }

    fn put(&self, out: &mut Vec<u8>) {
        put(out, self.iter().count() as u64);
        for (why, count) in self.iter() {
            out.push(reason_code(why));
            put(out, count.into());
        }
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut counts = Self::default();
        for _ in 0..take(bytes)? {
            let code = take_byte(bytes)?;
            *counts.0.get_mut(usize::from(code))? = take_u32(bytes)?;
        }
        Some(counts)
    }
}

// === impl Codec ===

impl Codec {
    pub(crate) fn put(&mut self, record: &Record, out: &mut Vec<u8>) {
        let last = &self.last;
        let code = record.code != last.code;
        let pods = record.pods != last.pods;
        let window = record.window_ms != last.window_ms;
        let left_out = record.left_out != last.left_out;
        let computed = record.computed != last.computed;
        let is_callers = record.source == ReadSource::Callers;
        let bits = [
            (code, changed::CODE),
            (record.sum.is_some(), changed::HAS_SUM),
            (is_callers, changed::CALLERS),
            (pods, changed::PODS),
            (window, changed::WINDOW),
            (left_out, changed::LEFT_OUT),
            (computed, changed::COMPUTED),
        ];
        let bits = bits.into_iter().filter(|(is_set, _)| *is_set);
        out.push(bits.fold(0, |byte, (_, bit)| byte | bit));
        let step = record.at.wrapping_sub(last.at);
        put_difference(out, self.step, step);
        put_difference(out, last.age_ms.into(), record.age_ms.into());
        if let Some(sum) = record.sum {
            put_difference(out, self.last_sum, sum);
            self.last_sum = sum;
        }
        if code {
            put(out, record.code.into());
        }
        if pods {
            put_difference(out, last.pods.into(), record.pods.into());
        }
        if window {
            put(out, record.window_ms.into());
        }
        if left_out {
            record.left_out.put(out);
        }
        if computed {
            put(
                out,
                record
                    .computed
                    .map_or(0, |replicas| u64::from(replicas) + 1),
            );
        }
        self.step = step;
        self.last = *record;
    }

    /// The next record at the front of `bytes`; `None` if there is none.
    pub(crate) fn take(&mut self, bytes: &mut &[u8]) -> Option<Record> {
        let bits = take_byte(bytes)?;
        let is = |bit| bits & bit != 0;
        let last = &self.last;
        let step = take_difference(bytes, self.step)?;
        let mut record = Record {
            at: last.at.wrapping_add(step),
            age_ms: u32::try_from(take_difference(bytes, last.age_ms.into())?).ok()?,
            source: if is(changed::CALLERS) {
                ReadSource::Callers
            } else {
                ReadSource::Pods
            },
            sum: None,
            ..*last
        };
        if is(changed::HAS_SUM) {
            self.last_sum = take_difference(bytes, self.last_sum)?;
            record.sum = Some(self.last_sum);
        }
        if is(changed::CODE) {
            record.code = u16::try_from(take(bytes)?).ok()?;
        }
        if is(changed::PODS) {
            record.pods = u32::try_from(take_difference(bytes, last.pods.into())?).ok()?;
        }
        if is(changed::WINDOW) {
            record.window_ms = take_u32(bytes)?;
        }
        if is(changed::LEFT_OUT) {
            record.left_out = LeftOut::take(bytes)?;
        }
        if is(changed::COMPUTED) {
            let replicas = take(bytes)?.checked_sub(1);
            record.computed = replicas.map(u32::try_from).transpose().ok()?;
        }
        self.step = step;
        self.last = record;
        Some(record)
    }
}
