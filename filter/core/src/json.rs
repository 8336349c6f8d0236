//! A small JSON reader for the plugin configuration.
//!
//! The module has to stay small, and the configuration is read field by field so that each mistake
//! can be named: a general deserialiser would cost ten times the bytes and stop at the first error.

/// Values nested deeper than this are refused; the configuration's own depth is 4.
const DEPTH_MAX: u8 = 16;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// The number if it is an integer of 0 to 2^64 - 1; no field takes any other.
    Number(Option<u64>),
    Text(String),
    List(Vec<Value>),
    /// Fields in the order of the text, doubles included.
    Object(Vec<(String, Value)>),
}

/// The text is not JSON from this byte on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed {
    pub(crate) offset: usize,
}

struct Reader<'a> {
    text: &'a [u8],
    offset: usize,
}

/// Reads one JSON value that fills the whole text.
pub(crate) fn parse(text: &[u8]) -> Result<Value, Malformed> {
    let mut reader = Reader { text, offset: 0 };
    let value = reader.value(DEPTH_MAX);
    reader.space();
    match value {
        Some(value) if reader.offset == text.len() => Ok(value),
        _ => Err(Malformed {
            offset: reader.offset,
        }),
    }
}

// === impl Value ===

impl Value {
    /// What to call the value in a sentence.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(Some(value)) => value.to_string(),
            Self::Number(None) => "a number that is not a whole one from 0".to_owned(),
            Self::Text(text) => format!("\"{}\"", excerpt(text)),
            Self::List(_) => "a list".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }
}

/// The beginning of a text, for a log line.
pub(crate) fn excerpt(text: &str) -> &str {
    excerpt_of(text, 64)
}

/// The first `bytes_max` bytes of a text, or a little less, so that no character is cut.
pub(crate) fn excerpt_of(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

// === impl Reader ===

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.offset).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.offset = self.offset.saturating_add(1);
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.offset = self.offset.saturating_add(1);
        }
        found
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.offset = self.offset.saturating_add(1);
        }
    }

    fn word(&mut self, word: &[u8], value: Value) -> Option<Value> {
        word.iter().try_for_each(|byte| self.expect(*byte))?;
        Some(value)
    }

    fn value(&mut self, depth: u8) -> Option<Value> {
        self.space();
        match self.peek()? {
            b'n' => self.word(b"null", Value::Null),
            b't' => self.word(b"true", Value::Bool(true)),
            b'f' => self.word(b"false", Value::Bool(false)),
            b'"' => self.text().map(Value::Text),
            b'[' => self.list(depth.checked_sub(1)?),
            b'{' => self.object(depth.checked_sub(1)?),
            _ => self.number(),
        }
    }

    fn list(&mut self, depth: u8) -> Option<Value> {
        self.expect(b'[')?;
        let mut items = Vec::new();
        self.space();
        if self.take(b']') {
            return Some(Value::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.space();
            if self.take(b']') {
                return Some(Value::List(items));
            }
            self.expect(b',')?;
        }
    }

    fn object(&mut self, depth: u8) -> Option<Value> {
        self.expect(b'{')?;
        let mut fields = Vec::new();
        self.space();
        if self.take(b'}') {
            return Some(Value::Object(fields));
        }
        loop {
            self.space();
            let name = self.text()?;
            self.space();
            self.expect(b':')?;
            fields.push((name, self.value(depth)?));
            self.space();
            if self.take(b'}') {
                return Some(Value::Object(fields));
            }
            self.expect(b',')?;
        }
    }

    fn number(&mut self) -> Option<Value> {
        let start = self.offset;
        let negative = self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        let mut whole = !negative;
        let integer = self.text.get(start..self.offset)?;
        if self.take(b'.') {
            whole = false;
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            whole = false;
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let number = integer.iter().try_fold(0_u64, |sum, digit| {
            sum.checked_mul(10)?
                .checked_add(u64::from(digit.wrapping_sub(b'0')))
        });
        Some(Value::Number(number.filter(|_| whole)))
    }

    /// At least one digit.
    fn digits(&mut self) -> Option<()> {
        self.peek().filter(u8::is_ascii_digit)?;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.offset = self.offset.saturating_add(1);
        }
        Some(())
    }

    fn text(&mut self) -> Option<String> {
        self.expect(b'"')?;
        let mut bytes = Vec::new();
        loop {
            match self.next()? {
                b'"' => return String::from_utf8(bytes).ok(),
                b'\\' => {
                    let character = self.escape()?;
                    bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0..=0x1f => return None,
                byte => bytes.push(byte),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return None,
        })
    }

    fn unicode(&mut self) -> Option<char> {
        let first = self.hex4()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        self.expect(b'\\')?;
        self.expect(b'u')?;
        let second = self.hex4()?;
        if !(0xdc00..0xe000).contains(&second) {
            return None;
        }
        char::from_u32(0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff))
    }

    fn hex4(&mut self) -> Option<u32> {
        let mut value = 0;
        for _ in 0..4 {
            value = (value << 4) | char::from(self.next()?).to_digit(16)?;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `serde_json` makes of the same text, in our terms.
    fn reference(value: serde_json::Value) -> Value {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(value),
            serde_json::Value::Number(number) => Value::Number(number.as_u64()),
            serde_json::Value::String(text) => Value::Text(text),
            serde_json::Value::Array(items) => {
                Value::List(items.into_iter().map(reference).collect())
            }
            serde_json::Value::Object(fields) => Value::Object(
                fields
                    .into_iter()
                    .map(|(name, value)| (name, reference(value)))
                    .collect(),
            ),
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            (-1e9..1e9).prop_map(|number: f64| (number + 0.25).into()),
            ".*".prop_map(|text: String| text.into()),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::btree_map(".{0,6}", inner, 0..4)
                    .prop_map(|fields| { serde_json::Value::Object(fields.into_iter().collect()) }),
            ]
        })
    }

    proptest! {
        /// Whatever a proper writer writes is read as it reads it, with and without white space.
        #[test]
        fn reads_what_serde_json_writes(value in any_json()) {
            let compact = serde_json::to_vec(&value).unwrap();
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            let wanted = reference(value);
            prop_assert_eq!(parse(&compact), Ok(wanted.clone()));
            prop_assert_eq!(parse(&pretty), Ok(wanted));
        }

        /// Text is accepted exactly if `serde_json` accepts it; nothing panics.
        #[test]
        fn refuses_what_serde_json_refuses(text in r#"[\[\]{}:,"\\u0-9a-f.eE+ntrls -]{0,24}"#) {
            let wanted = serde_json::from_str::<serde_json::Value>(&text);
            // A float too great for 64 bits is a limit of serde_json, not of JSON.
            prop_assume!(!matches!(&wanted, Err(error) if error.to_string().contains("out of range")));
            prop_assert_eq!(parse(text.as_bytes()).is_ok(), wanted.is_ok(), "{}", text);
        }
    }

    #[test]
    fn escapes_are_read() {
        let value = parse(br#""a\u00e9\ud83d\ude00\n\"""#);
        assert_eq!(value, Ok(Value::Text("aé😀\n\"".to_owned())));
        assert!(parse(br#""\ud83d""#).is_err());
    }

    #[test]
    fn nesting_has_a_limit() {
        let deep = [vec![b'['; 17], vec![b']'; 17]].concat();
        assert!(parse(&deep).is_err());
        assert!(parse(&deep[1..33]).is_ok());
    }

    #[test]
    fn an_error_says_where() {
        assert_eq!(parse(b"{\"a\": x}"), Err(Malformed { offset: 6 }));
        assert_eq!(parse(b""), Err(Malformed { offset: 0 }));
        assert_eq!(parse(b"{} x"), Err(Malformed { offset: 3 }));
    }

    #[test]
    fn an_excerpt_ends_at_a_character() {
        assert_eq!(excerpt(&"é".repeat(100)).len(), 64);
        assert_eq!(excerpt(&format!("a{}", "é".repeat(100))).len(), 63);
    }
}
