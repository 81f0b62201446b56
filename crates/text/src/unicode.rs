//! The character classes that pre-tokenizers are written in: letters, numbers, white space.
//!
//! ASCII is a table. The rest is a sorted list of ranges built once from `regex-syntax`, the tables
//! that the `regex` family of crates matches `\p{L}`, `\p{N}` and `\p{P}` with.

use std::sync::OnceLock;

use regex_syntax::hir::{Class as HirClass, HirKind};

/// What a pre-tokenizer can ask about a character.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`, that is Unicode's White_Space
    Space,
    /// Neither of these.
    Other,
}

const ASCII: [Class; 128] = {
    let mut table = [Class::Other; 128];
    let mut i = 0;
    while i < 128 {
        let b = i as u8;
        table[i] = if b.is_ascii_alphabetic() {
            Class::Letter
        } else if b.is_ascii_digit() {
            Class::Number
        } else if b == b' ' || (b >= 9 && b <= 13) {
            Class::Space
        } else {
            Class::Other
        };
        i += 1;
    }
    table
};

/// The class of a character.
#[inline]
pub(crate) fn class(c: char) -> Class {
    match ASCII.get(c as usize) {
        Some(&class) => class,
        None => class_beyond_ascii(c),
    }
}

fn class_beyond_ascii(c: char) -> Class {
    static RANGES: OnceLock<Vec<Range>> = OnceLock::new();
    let ranges = RANGES.get_or_init(|| {
        let mut ranges = ranges_of(r"\p{L}", Class::Letter);
        ranges.extend(ranges_of(r"\p{N}", Class::Number));
        ranges.sort_by_key(|r| r.first);
        ranges
    });
    if c.is_whitespace() { Class::Space } else { find(ranges, c).unwrap_or(Class::Other) }
}

/// `\p{P}`
pub(crate) fn is_punctuation(c: char) -> bool {
    static RANGES: OnceLock<Vec<Range>> = OnceLock::new();
    find(RANGES.get_or_init(|| ranges_of(r"\p{P}", Class::Other)), c).is_some()
}

struct Range {
    first: char,
    last: char,
    class: Class,
}

fn find(ranges: &[Range], c: char) -> Option<Class> {
    let after = ranges.partition_point(|r| r.first <= c);
    let range = &ranges[after.checked_sub(1)?];
    (c <= range.last).then_some(range.class)
}

/// The ranges of a constant one-class pattern, in ascending order.
fn ranges_of(pattern: &str, class: Class) -> Vec<Range> {
    let hir = regex_syntax::parse(pattern).expect("a constant pattern that parses");
    match hir.kind() {
        HirKind::Class(HirClass::Unicode(set)) => {
            set.ranges().iter().map(|r| Range { first: r.start(), last: r.end(), class }).collect()
        }
        other => unreachable!("{pattern} is a class, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ascii_table_agrees_with_the_ranges() {
        for code in 0..128u8 {
            let c = char::from(code);
            assert_eq!(class(c), class_beyond_ascii(c), "{c:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        // `char::is_numeric` is Unicode's N, from another set of tables.
        let differ = ('\u{80}'..=char::MAX).filter(|&c| (class(c) == Class::Number) != c.is_numeric()).count();
        // The two may be one Unicode version apart; a version adds at most a few dozen numbers.
        assert!(differ < 100, "{differ} characters differ");
    }

    #[test]
    fn well_known_characters() {
        for (c, want) in [
            ('é', Class::Letter),
            ('你', Class::Letter),
            ('²', Class::Number),
            ('Ⅷ', Class::Number),
            ('٣', Class::Number),
            ('\u{a0}', Class::Space),
            ('\u{3000}', Class::Space),
            ('\u{85}', Class::Space),
            ('\u{200b}', Class::Other), // zero-width space is a format character
            ('\u{301}', Class::Other),  // combining acute
            ('😀', Class::Other),
        ] {
            assert_eq!(class(c), want, "{c:?}");
        }
        assert!(is_punctuation('!') && is_punctuation('…') && !is_punctuation('$') && !is_punctuation('a'));
    }
}
