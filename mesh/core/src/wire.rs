//! Protobuf messages as lists of fields that refer to the original bytes (protobuf encoding,
//! "Message Structure").

use std::ops::Range;

use thiserror::Error;

const VARINT: u8 = 0;
/// Wire type of eight bytes.
const FIXED64: u8 = 1;
/// Wire type of strings, bytes and messages.
const DELIMITED: u8 = 2;
/// Wire type of four bytes.
const FIXED32: u8 = 5;

/// Fields of one message at most. A parsed field takes about 70 bytes of memory, an encoded one as
/// few as two.
const FIELDS_MAX: usize = 65_536;

/// Bytes of the longest varint, which has 64 bits.
const VARINT_MAX: usize = 10;

#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum WireError {
    #[error("cut short at byte {0}")]
    Short(usize),
    /// A wire type that does not exist, or a group, which Envoy's API does not have.
    #[error("wire type {wire} at byte {at}")]
    WireType { wire: u8, at: usize },
    /// A varint of more than ten bytes, a field number out of range, or a tag or length that is not
    /// in its shortest encoding, which could not be reproduced.
    #[error("not a plain number at byte {0}")]
    Number(usize),
    /// A singular field occurs several times. Protobuf merges them; only a full decoder can.
    #[error("duplicate field {0}")]
    Repeated(u32),
    #[error("field {0} has the wrong type")]
    Type(u32),
    #[error("more than {FIELDS_MAX} fields")]
    TooMany,
    #[error("field {0} is not text")]
    Text(u32),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Field {
    pub number: u32,
    /// Byte range in the message, tag included.
    pub whole: Range<usize>,
    /// Byte range of a length-delimited field's content.
    pub content: Option<Range<usize>>,
    /// Value of a varint field.
    pub varint: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    fields: Vec<Field>,
}

/// Changes to a message, applied together.
#[derive(Debug)]
pub struct Edit<'a> {
    message: &'a Message<'a>,
    /// Ranges of the message and their replacements.
    changes: Vec<(Range<usize>, Vec<u8>)>,
}

/// Replacements of byte ranges in a message. Those of a nested message become those of the outer
/// one with shifted ranges, so that no bytes are copied before all changes are known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Splices(
    /// Sorted, not overlapping.
    Vec<(Range<usize>, Vec<u8>)>,
);

// === impl Message ===

impl<'a> Message<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut fields = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let field = field(bytes, at)?;
            if fields.len() >= FIELDS_MAX {
                return Err(WireError::TooMany);
            }
            at = field.whole.end;
            fields.push(field);
        }
        Ok(Self { bytes, fields })
    }

    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub fn all(&self, number: u32) -> impl Iterator<Item = &Field> {
        self.fields
            .iter()
            .filter(move |field| field.number == number)
    }

    /// The only field with this number, if any.
    pub fn one(&self, number: u32) -> Result<Option<&Field>, WireError> {
        let mut all = self.all(number);
        let first = all.next();
        match all.next() {
            None => Ok(first),
            Some(_) => Err(WireError::Repeated(number)),
        }
    }

    /// The content of a string, bytes or message.
    pub fn content(&self, field: &Field) -> Result<&'a [u8], WireError> {
        let range = field.content.clone().ok_or(WireError::Type(field.number))?;
        Ok(&self.bytes[range])
    }

    /// Text of the only field with this number; "" if it is absent.
    pub fn text(&self, number: u32) -> Result<&'a str, WireError> {
        let Some(field) = self.one(number)? else {
            return Ok("");
        };
        std::str::from_utf8(self.content(field)?).map_err(|_| WireError::Text(number))
    }

    /// Varint of the last field with this number (protobuf: last one wins); 0 if it is absent.
    pub fn number(&self, number: u32) -> Result<u64, WireError> {
        match self.all(number).last() {
            None => Ok(0),
            Some(field) => field.varint.ok_or(WireError::Type(number)),
        }
    }

    pub fn edit(&self) -> Edit<'_> {
        Edit {
            message: self,
            changes: Vec::new(),
        }
    }
}

// === impl Edit ===

impl Edit<'_> {
    pub fn replace(&mut self, field: &Field, content: &[u8]) {
        let mut bytes = Vec::with_capacity(content.len() + VARINT_MAX);
        delimited(&mut bytes, field.number, content);
        self.changes.push((field.whole.clone(), bytes));
    }

    /// Applies `splices` to the content of `field`, and adapts its length.
    pub fn nest(&mut self, field: &Field, splices: Splices) {
        let Some(content) = field.content.clone() else {
            return;
        };
        let mut prefix = Vec::with_capacity(2 * VARINT_MAX);
        put_prefix(&mut prefix, field.number, splices.len_of(content.len()));
        self.changes
            .push((field.whole.start..content.start, prefix));
        let shifted = splices.0.into_iter().map(|(range, bytes)| {
            (
                content.start + range.start..content.start + range.end,
                bytes,
            )
        });
        self.changes.extend(shifted);
    }

    pub fn insert_before(&mut self, field: &Field, number: u32, content: &[u8]) {
        let mut bytes = Vec::with_capacity(content.len() + VARINT_MAX);
        delimited(&mut bytes, number, content);
        let at = field.whole.start;
        self.changes.push((at..at, bytes));
    }

    pub fn append(&mut self, number: u32, content: &[u8]) {
        let mut bytes = Vec::with_capacity(content.len() + VARINT_MAX);
        delimited(&mut bytes, number, content);
        let end = self.message.bytes.len();
        self.changes.push((end..end, bytes));
    }

    pub fn remove(&mut self, field: &Field) {
        self.changes.push((field.whole.clone(), Vec::new()));
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes, to be nested into the enclosing message.
    pub fn splices(mut self) -> Splices {
        // The sort is stable: several insertions at one position keep their order.
        self.changes
            .sort_by_key(|(range, _)| (range.start, range.end));
        Splices(self.changes)
    }

    pub fn finish(self) -> Vec<u8> {
        let bytes = self.message.bytes;
        self.splices().apply(bytes)
    }
}

// === impl Splices ===

impl Splices {
    pub fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len_of(bytes.len()));
        let mut at = 0;
        for (range, new) in &self.0 {
            out.extend_from_slice(&bytes[at..range.start]);
            out.extend_from_slice(new);
            at = range.end;
        }
        out.extend_from_slice(&bytes[at..]);
        out
    }

    /// Length in bytes of a message of `len` bytes after these changes.
    pub fn len_of(&self, len: usize) -> usize {
        let old: usize = self.0.iter().map(|(range, _)| range.len()).sum();
        let new: usize = self.0.iter().map(|(_, bytes)| bytes.len()).sum();
        len + new - old
    }
}

fn field(bytes: &[u8], start: usize) -> Result<Field, WireError> {
    let (tag, mut at) = varint(bytes, start)?;
    let number = u32::try_from(tag >> 3).map_err(|_| WireError::Number(start))?;
    if number == 0 || number >= 1 << 29 {
        return Err(WireError::Number(start));
    }
    let wire = tag.to_le_bytes()[0] & 7;
    let (mut content, mut value) = (None, None);
    let skip = |at: usize, count: usize| match at.checked_add(count) {
        Some(end) if end <= bytes.len() => Ok(end),
        _ => Err(WireError::Short(at)),
    };
    match wire {
        VARINT => {
            let (number, end) = varint(bytes, at)?;
            value = Some(number);
            at = end;
        }
        FIXED64 => at = skip(at, 8)?,
        FIXED32 => at = skip(at, 4)?,
        DELIMITED => {
            let (length, begin) = varint(bytes, at)?;
            let length = usize::try_from(length).map_err(|_| WireError::Number(at))?;
            let end = skip(begin, length)?;
            // `Edit` writes the shortest encoding; a longer one would not come back byte for byte
            // when the change is removed.
            if at - start != varint_len(tag) || begin - at != varint_len(length as u64) {
                return Err(WireError::Number(start));
            }
            content = Some(begin..end);
            at = end;
        }
        wire => return Err(WireError::WireType { wire, at: start }),
    }
    Ok(Field {
        number,
        whole: start..at,
        content,
        varint: value,
    })
}

fn varint(bytes: &[u8], start: usize) -> Result<(u64, usize), WireError> {
    let mut value = 0_u64;
    for (nth, byte) in bytes.iter().skip(start).take(VARINT_MAX).enumerate() {
        let part = u64::from(byte & 0x7f);
        let shift = 7 * u32::try_from(nth).unwrap_or(u32::MAX);
        // The tenth byte has room for one bit only: reject bits that the shift would lose.
        if part << shift >> shift != part {
            return Err(WireError::Number(start));
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok((value, start + nth + 1));
        }
    }
    if bytes.len().saturating_sub(start) < VARINT_MAX {
        Err(WireError::Short(bytes.len()))
    } else {
        Err(WireError::Number(start))
    }
}

/// Appends a length-delimited field.
pub fn delimited(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    put_prefix(out, number, content.len());
    out.extend_from_slice(content);
}

fn put_prefix(out: &mut Vec<u8>, number: u32, len: usize) {
    put_varint(out, u64::from(number) << 3 | u64::from(DELIMITED));
    put_varint(out, len as u64);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn varint_len(value: u64) -> usize {
    // `| 1`: zero takes one byte as well.
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::{Message, WireError};

    #[test]
    fn bytes_that_are_no_message_are_refused_by_where() {
        for (bytes, error) in [
            (&[0x0a, 0x05, 1][..], WireError::Short(2)),
            (&[0x80], WireError::Short(1)),
            (&[0x0b], WireError::WireType { wire: 3, at: 0 }),
            (&[0x00, 0x00], WireError::Number(0)),
            // A length of 1 in two bytes.
            (&[0x0a, 0x81, 0x00, 7], WireError::Number(0)),
            (
                &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
                WireError::Number(1),
            ),
        ] {
            assert_eq!(Message::parse(bytes).unwrap_err(), error, "{bytes:?}");
        }
    }

    #[test]
    fn fields_are_found_and_changed_in_place() {
        // 1: "ab", 2: 300, 1: "c", 3: four bytes
        let bytes = [
            0x0a, 2, b'a', b'b', 0x10, 0xac, 0x02, 0x0a, 1, b'c', 0x1d, 1, 2, 3, 4,
        ];
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.number(2), Ok(300));
        assert_eq!(message.one(1).unwrap_err(), WireError::Repeated(1));
        let last = message.all(1).last().unwrap();
        let mut edit = message.edit();
        edit.insert_before(last, 7, b"new");
        edit.replace(last, b"C");
        assert_eq!(
            edit.finish(),
            [
                0x0a, 2, b'a', b'b', 0x10, 0xac, 0x02, 0x3a, 3, b'n', b'e', b'w', 0x0a, 1, b'C',
                0x1d, 1, 2, 3, 4
            ]
        );
    }
}
