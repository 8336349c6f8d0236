//! Numbers in as few bytes as they need: seven bits in each, the lowest first (LEB128).

/// Appends `number` to `out`.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(low_byte(number) | 0x80);
        number >>= 7;
    }
    out.push(low_byte(number));
}

/// Appends the difference from `from` to `to`, small if they are near to each other.
pub(crate) fn put_difference(out: &mut Vec<u8>, from: u64, to: u64) {
    let difference = to.wrapping_sub(from).cast_signed();
    // Zigzag: 0, -1, 1, -2 become 0, 1, 2, 3.
    put(
        out,
        ((difference << 1) ^ (difference >> 63)).cast_unsigned(),
    );
}

/// Appends `text` with its length.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Takes a number from the front of `bytes`; `None` if there is none.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = take_byte(bytes)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Takes a number of at most 32 bits.
pub(crate) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    u32::try_from(take(bytes)?).ok()
}

/// Takes a difference from `from`; returns the number it leads to.
pub(crate) fn take_difference(bytes: &mut &[u8], from: u64) -> Option<u64> {
    let number = take(bytes)?;
    let difference = (number >> 1) ^ (number & 1).wrapping_neg();
    Some(from.wrapping_add(difference))
}

/// Takes a text.
pub(crate) fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::try_from(take(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    str::from_utf8(text).ok()
}

pub(crate) fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(from: u64, to: u64, text in ".{0,200}") {
            let mut bytes = Vec::new();
            put(&mut bytes, to);
            put_difference(&mut bytes, from, to);
            put_text(&mut bytes, &text);
            let mut rest = &bytes[..];
            prop_assert_eq!(take(&mut rest), Some(to));
            prop_assert_eq!(take_difference(&mut rest, from), Some(to));
            prop_assert_eq!(take_text(&mut rest), Some(&text[..]));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn small_numbers_are_short() {
        for (from, to, len) in [(0, 63, 1), (100, 37, 1), (0, 64, 2), (15_000, 0, 3)] {
            let mut bytes = Vec::new();
            put_difference(&mut bytes, from, to);
            assert_eq!(bytes.len(), len, "{from} to {to}");
        }
        assert_eq!(take(&mut &[0x80_u8][..]), None, "cut");
        assert_eq!(take(&mut &[0xff_u8; 11][..]), None, "too long");
    }
}
