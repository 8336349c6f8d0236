//! gRPC over an HTTP/2 stream: length-prefixed messages, and the status in trailers.

/// Bytes before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Largest message of an aggregator, in bytes: its frames have two small numbers.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Longest text of a status that is kept, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// gRPC's number for an end that says nothing.
pub(crate) const UNKNOWN: u32 = 2;
/// gRPC's number for an aggregator that is not there.
pub(crate) const UNAVAILABLE: u32 = 14;

/// The end of a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Status {
    pub(crate) code: u32,
    pub(crate) text: String,
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub(crate) struct Deframer {
    pending: Vec<u8>,
}

/// A message that is compressed or too large.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Unreadable;

/// A message with its prefix.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = Vec::with_capacity(PREFIX_BYTES + message.len());
    framed.push(0);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

/// The status in headers or trailers. Headers without one tell a proxy or server that speaks no
/// gRPC by their `:status`; `None` if they say that all is well.
pub(crate) fn status<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ends: bool,
) -> Option<Status> {
    let (mut http, mut grpc, mut text) = (None, None, String::new());
    for (name, value) in fields {
        match name {
            b":status" => http = number(value),
            b"grpc-status" => grpc = number(value),
            b"grpc-message" => text = decode(value),
            _ => {}
        }
    }
    if let Some(code) = grpc {
        return Some(Status { code, text });
    }
    let code = match http {
        None | Some(200) if !ends => return None,
        Some(400) => 13,
        Some(401) => 16,
        Some(403) => 7,
        Some(404) => 12,
        Some(429 | 502..=504) => UNAVAILABLE,
        None | Some(_) => UNKNOWN,
    };
    let text = http.map_or_else(
        || "the stream ended without a status".to_owned(),
        |http| format!("HTTP status {http} instead of gRPC"),
    );
    Some(Status { code, text })
}

fn number(value: &[u8]) -> Option<u32> {
    str::from_utf8(value).ok()?.parse().ok()
}

/// Undoes the percent encoding of `grpc-message`.
fn decode(value: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut rest = value;
    while let Some((byte, behind)) = rest.split_first()
        && bytes.len() < TEXT_BYTES_MAX
    {
        rest = behind;
        let escaped = behind
            .split_at_checked(2)
            .filter(|_| *byte == b'%')
            .and_then(|(digits, behind)| {
                let digits = str::from_utf8(digits).ok()?;
                Some((u8::from_str_radix(digits, 16).ok()?, behind))
            });
        match escaped {
            Some((byte, behind)) => {
                bytes.push(byte);
                rest = behind;
            }
            None => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

// === impl Deframer ===

impl Deframer {
    /// Takes the next bytes, and calls `each` with every message that is complete.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Vec<u8>),
    ) -> Result<(), Unreadable> {
        self.pending.extend_from_slice(bytes);
        loop {
            let Some((prefix, rest)) = self.pending.split_at_checked(PREFIX_BYTES) else {
                return Ok(());
            };
            let [compressed, length @ ..] = prefix else {
                return Ok(());
            };
            let length = length
                .iter()
                .fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
            if *compressed != 0 || length > MESSAGE_BYTES_MAX {
                return Err(Unreadable);
            }
            let Some(message) = rest.get(..length) else {
                return Ok(());
            };
            each(message.to_vec());
            self.pending.drain(..PREFIX_BYTES + length);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(fields: &[(&str, &str)], ends: bool) -> Option<Status> {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        status(fields, ends)
    }

    proptest! {
        /// However the bytes are cut, the messages come out whole and in order.
        #[test]
        fn messages_survive_any_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..10),
            cuts in prop::collection::vec(1..40_usize, 1..50),
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
            let mut deframer = Deframer::default();
            let mut found = Vec::new();
            let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                deframer.push(head, |message| found.push(message)).unwrap();
                rest = tail;
            }
            prop_assert_eq!(found, messages);
            prop_assert!(deframer.pending.is_empty());
        }

        /// Whatever a peer sends: no panic, and never more than one message is kept.
        #[test]
        fn noise_is_bounded(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..20)) {
            let mut deframer = Deframer::default();
            for chunk in chunks {
                if deframer.push(&chunk, |_| {}).is_err() {
                    break;
                }
                prop_assert!(deframer.pending.len() < PREFIX_BYTES + MESSAGE_BYTES_MAX);
            }
        }
    }

    /// gRPC's own status wins; HTTP's says what a proxy in between meant.
    #[test]
    fn every_end_has_a_status() {
        let code = |fields: &[(&str, &str)], ends| of(fields, ends).map(|status| status.code);
        assert_eq!(code(&[(":status", "200")], false), None);
        assert_eq!(code(&[(":status", "200")], true), Some(UNKNOWN));
        assert_eq!(code(&[(":status", "503")], false), Some(UNAVAILABLE));
        assert_eq!(code(&[(":status", "401")], true), Some(16));
        assert_eq!(
            code(&[(":status", "200"), ("grpc-status", "10")], true),
            Some(10)
        );
        assert_eq!(code(&[], true), Some(UNKNOWN));
    }

    /// The text is readable, also where its encoding is broken.
    #[test]
    fn a_text_is_decoded() {
        let text = |value: &str| {
            of(&[("grpc-status", "7"), ("grpc-message", value)], true)
                .unwrap()
                .text
        };
        assert_eq!(text("no%20such%20pod"), "no such pod");
        assert_eq!(text("100%"), "100%");
        assert_eq!(text("%zz"), "%zz");
        assert_eq!(text(&"x".repeat(2000)).len(), TEXT_BYTES_MAX);
    }
}
