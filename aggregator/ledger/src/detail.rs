//! The pods of a read, and a refusal's sentence. Names are written once for reads that have the
//! same pods in the same order: then a pod takes some six bytes.

use std::sync::Arc;

use std::time::Duration;

use aggregator_core::query::Milli;
use aggregator_view::documents::PodRead;

use crate::read::{Each, PodState, PodValue, millis};
use crate::varint::{
    put, put_difference, put_text, take, take_byte, take_difference, take_text, take_u32,
};

/// What the ledger knows of a read besides its record.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Detail {
    pub(crate) head: Head,
    pub(crate) each: Option<Vec<Pod>>,
    pub(crate) message: Option<Arc<str>>,
}

/// A pod of a detail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pod {
    name: Arc<str>,
    state: PodState,
    value: u64,
    window_ms: u32,
    age_ms: u32,
    pending: bool,
}

/// Number and time of a read with a detail.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Head {
    pub(crate) number: u64,
    /// Unix milliseconds.
    pub(crate) at: u64,
    /// The longest window of the pods.
    pub(crate) window_ms: u32,
}

/// Writes or reads details in sequence. The first one is written whole, another one as what differs
/// from the last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Codec {
    head: Head,
    names: Vec<Arc<str>>,
    /// Bytes of the names, counted as if nobody else held them.
    names_bytes: usize,
    message: Option<Arc<str>>,
}

/// Bits of a detail's first byte.
mod has {
    /// Pods follow.
    pub(super) const PODS: u8 = 1;
    /// Before them, their names.
    pub(super) const NAMES: u8 = 1 << 1;
    /// The message is the last one, if none follows.
    pub(super) const MESSAGE: u8 = 1 << 2;
    /// A message follows.
    pub(super) const TEXT: u8 = 1 << 3;
}

/// Bits of a pod's first byte; the lowest four are its state.
mod pod {
    pub(super) const STATE: u8 = 0x0f;
    pub(super) const PENDING: u8 = 1 << 4;
    /// A window follows: it is not that of the read.
    pub(super) const WINDOW: u8 = 1 << 5;
}

// === impl Pod ===

impl Pod {
    fn has_value(&self) -> bool {
        !matches!(self.state, PodState::LeftOut(_))
    }

    pub(crate) fn as_value(&self) -> PodValue<'_> {
        PodValue {
            name: &self.name,
            state: self.state,
            value: Milli(self.value),
            window: Duration::from_millis(self.window_ms.into()),
            age: Duration::from_millis(self.age_ms.into()),
            pending: self.pending,
        }
    }

    pub(crate) fn document(&self) -> PodRead {
        PodRead {
            name: (*self.name).to_owned(),
            value_milli: self.has_value().then_some(self.value),
            window_ms: self.window_ms.into(),
            age_ms: self.age_ms.into(),
            state: self.state.as_str().to_owned(),
            pending: self.pending,
        }
    }
}

// === impl Codec ===

impl Codec {
    pub(crate) fn put(&mut self, head: Head, each: Each<'_>, message: &str, out: &mut Vec<u8>) {
        let window_ms = head.window_ms;
        let pods = match each {
            Each::Unknown => None,
            Each::Pods(pods) => Some(pods),
        };
        let names = pods.is_some_and(|pods| !self.has_names_of(pods));
        let text = !message.is_empty() && self.message.as_deref() != Some(message);
        let bits = [
            (pods.is_some(), has::PODS),
            (names, has::NAMES),
            (!message.is_empty(), has::MESSAGE),
            (text, has::TEXT),
        ];
        let bits = bits.into_iter().filter(|(is_set, _)| *is_set);
        out.push(bits.fold(0, |byte, (_, bit)| byte | bit));
        put_difference(out, self.head.number, head.number);
        put_difference(out, self.head.at, head.at);
        put_difference(out, self.head.window_ms.into(), window_ms.into());
        self.head = head;
        if let Some(pods) = pods {
            if names {
                self.put_names(pods, out);
            }
            for value in pods {
                put_pod(value, window_ms, out);
            }
        }
        if text {
            put_text(out, message);
            self.message = Some(message.into());
        }
    }

    /// The next detail at the front of `bytes`; `None` if there is none.
    pub(crate) fn take(&mut self, bytes: &mut &[u8]) -> Option<Detail> {
        let bits = take_byte(bytes)?;
        let is = |bit| bits & bit != 0;
        let last = self.head;
        self.head = Head {
            number: take_difference(bytes, last.number)?,
            at: take_difference(bytes, last.at)?,
            window_ms: u32::try_from(take_difference(bytes, last.window_ms.into())?).ok()?,
        };
        let window_ms = self.head.window_ms;
        let mut detail = Detail {
            head: self.head,
            ..Detail::default()
        };
        if is(has::PODS) {
            if is(has::NAMES) {
                self.take_names(bytes)?;
            }
            let pods = self.names.iter();
            let each = pods.map(|name| take_pod(name, window_ms, bytes));
            detail.each = Some(each.collect::<Option<_>>()?);
        }
        if is(has::TEXT) {
            self.message = Some(take_text(bytes)?.into());
        }
        if is(has::MESSAGE) {
            detail.message.clone_from(&self.message);
        }
        Some(detail)
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> usize {
        let message = self.message.as_ref();
        self.names.capacity() * size_of::<Arc<str>>()
            + self.names_bytes
            + message.map_or(0, |text| text.len() + ARC_BYTES)
    }

    /// Forgets the last detail: the next one is written whole.
    pub(crate) fn reset(&mut self) {
        self.head = Head::default();
        self.names.clear();
        self.names_bytes = 0;
        self.message = None;
    }

    fn has_names_of(&self, pods: &[PodValue<'_>]) -> bool {
        self.names.len() == pods.len()
            && self
                .names
                .iter()
                .zip(pods)
                .all(|(name, pod)| name == pod.name)
    }

    /// Each name as what it does not share with the one before it.
    fn put_names(&mut self, pods: &[PodValue<'_>], out: &mut Vec<u8>) {
        put(out, pods.len() as u64);
        let mut last = "";
        for PodValue { name, .. } in pods {
            let shared = shared_prefix(last, name);
            put(out, shared as u64);
            put_text(out, &name[shared..]);
            last = name;
        }
        self.names.clear();
        self.names
            .extend(pods.iter().map(|pod| Arc::clone(pod.name)));
        let bytes = self.names.iter().map(|name| name.len() + ARC_BYTES);
        self.names_bytes = bytes.sum();
    }

    fn take_names(&mut self, bytes: &mut &[u8]) -> Option<()> {
        self.names.clear();
        let mut last = String::new();
        for _ in 0..take(bytes)? {
            let shared = usize::try_from(take(bytes)?).ok()?;
            last = last.get(..shared)?.to_owned() + take_text(bytes)?;
            self.names.push(last.as_str().into());
        }
        Some(())
    }
}

/// Bytes of the two counts in an `Arc`.
pub(crate) const ARC_BYTES: usize = 2 * size_of::<usize>();

fn put_pod(value: &PodValue<'_>, window_ms: u32, out: &mut Vec<u8>) {
    let window = millis(value.window);
    let has_value = !matches!(value.state, PodState::LeftOut(_));
    let has_window = has_value && window != window_ms;
    let bits = [(value.pending, pod::PENDING), (has_window, pod::WINDOW)];
    let bits = bits.into_iter().filter(|(is_set, _)| *is_set);
    out.push(bits.fold(value.state.code(), |byte, (_, bit)| byte | bit));
    if has_value {
        put(out, value.value.0);
        put(out, millis(value.age).into());
    }
    if has_window {
        put(out, window.into());
    }
}

fn take_pod(name: &Arc<str>, window_ms: u32, bytes: &mut &[u8]) -> Option<Pod> {
    let bits = take_byte(bytes)?;
    let mut read = Pod {
        name: Arc::clone(name),
        state: PodState::of_code(bits & pod::STATE)?,
        value: 0,
        window_ms: 0,
        age_ms: 0,
        pending: bits & pod::PENDING != 0,
    };
    if read.has_value() {
        read.value = take(bytes)?;
        read.age_ms = take_u32(bytes)?;
        read.window_ms = window_ms;
    }
    if bits & pod::WINDOW != 0 {
        read.window_ms = take_u32(bytes)?;
    }
    Some(read)
}

/// Bytes that `a` and `b` begin with, up to a boundary between characters.
fn shared_prefix(a: &str, b: &str) -> usize {
    let equal = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b);
    b.floor_char_boundary(equal.count())
}
