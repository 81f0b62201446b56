//! The byte-level alphabet: 256 visible characters that stand for the 256 bytes.
//!
//! GPT-2's vocabulary files hold text, so each byte has a printable stand-in: the printable ones of
//! Latin-1 (`!`..`~`, `¡`..`¬`, `®`..`ÿ`) stand for themselves, and the 68 others, in ascending
//! order, are U+0100 and up: the space is `Ġ`, the newline `Ċ`. All byte-level vocabularies use it.

/// How many characters stand for a byte that is not printable: they are U+0100 .. U+0143.
const SHIFTED: u32 = 68;

/// Whether a byte stands for itself.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

const TO_CHAR: [char; 256] = {
    let mut table = ['\0'; 256];
    let mut shifted = 0x100;
    let mut byte = 0;
    while byte < 256 {
        if is_plain(byte as u8) {
            table[byte] = byte as u8 as char;
        } else if let Some(c) = char::from_u32(shifted) {
            table[byte] = c;
            shifted += 1;
        }
        byte += 1;
    }
    table
};

const FROM_SHIFTED: [u8; SHIFTED as usize] = {
    let mut table = [0; SHIFTED as usize];
    let mut next = 0;
    let mut byte = 0;
    while byte < 256 {
        if !is_plain(byte as u8) {
            table[next] = byte as u8;
            next += 1;
        }
        byte += 1;
    }
    table
};

/// The character that stands for a byte.
pub(crate) fn to_char(byte: u8) -> char {
    TO_CHAR[usize::from(byte)]
}

/// The byte that a character stands for.
pub(crate) fn from_char(c: char) -> Option<u8> {
    let code = c as u32;
    if code < 0x100 {
        let byte = code as u8;
        is_plain(byte).then_some(byte)
    } else {
        FROM_SHIFTED.get(code as usize - 0x100).copied()
    }
}

/// Appends the stand-ins of `bytes` to `text`.
pub(crate) fn encode_into(bytes: &[u8], text: &mut String) {
    text.extend(bytes.iter().map(|&b| to_char(b)));
}

/// Appends the bytes that `text` stands for; if any of its characters stands for none, appends the
/// text's own bytes instead, which is what Hugging Face's decoder does with such a token.
pub(crate) fn decode_into(text: &str, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for c in text.chars() {
        match from_char(c) {
            Some(byte) => bytes.push(byte),
            None => {
                bytes.truncate(start);
                bytes.extend_from_slice(text.as_bytes());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let mut seen = std::collections::BTreeSet::new();
        for byte in 0..=255u8 {
            let c = to_char(byte);
            assert!(seen.insert(c), "{c} stands for two bytes");
            assert_eq!(from_char(c), Some(byte));
        }
        assert_eq!(seen.last(), Some(&'\u{143}'));
    }

    #[test]
    fn the_well_known_stand_ins() {
        // As they appear in GPT-2's published vocabulary.
        for (byte, c) in [(b' ', 'Ġ'), (b'\n', 'Ċ'), (b'\t', 'ĉ'), (b'\r', 'č'), (0xad, 'Ń'), (0x7f, 'ġ')] {
            assert_eq!(to_char(byte), c);
        }
        assert_eq!(from_char(' '), None);
        assert_eq!(from_char('\u{144}'), None);
        assert_eq!(from_char('你'), None);
    }

    #[test]
    fn a_foreign_character_makes_the_whole_token_literal() {
        let mut bytes = b"x".to_vec();
        decode_into("Ġa", &mut bytes);
        decode_into("Ġ你", &mut bytes);
        assert_eq!(bytes, "x aĠ你".as_bytes());
    }
}
