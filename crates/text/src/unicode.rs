//! The classes of characters that pre-tokenizers are written in.
//!
//! ASCII is a table. The rest is a sorted list of ranges built once from `regex-syntax`, the tables that the
//! `regex` family of crates matches `\p{L}`, `\p{N}` and so on with.

use std::sync::OnceLock;

use regex_syntax::hir::{Class as HirClass, HirKind};

/// What a pre-tokenizer can ask about most characters.
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

/// The same with more distinctions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Category {
    /// `\p{Lu}` and `\p{Lt}`
    Upper,
    /// `\p{Ll}`
    Lower,
    /// `\p{Lm}` and `\p{Lo}`: letters without case.
    Uncased,
    /// `\p{M}`
    Mark,
    /// `\p{N}`
    Number,
    /// `\p{P}`
    Punctuation,
    /// `\p{S}`
    Symbol,
    /// `\s`
    Space,
    /// None of these.
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
        None => class_of(category(c)),
    }
}

fn class_of(category: Category) -> Class {
    match category {
        Category::Upper | Category::Lower | Category::Uncased => Class::Letter,
        Category::Number => Class::Number,
        Category::Space => Class::Space,
        Category::Mark | Category::Punctuation | Category::Symbol | Category::Other => Class::Other,
    }
}

/// The category of a character.
pub(crate) fn category(c: char) -> Category {
    static RANGES: OnceLock<Vec<(char, char, Category)>> = OnceLock::new();
    let ranges = RANGES.get_or_init(|| {
        let patterns = [
            (r"[\p{Lu}\p{Lt}]", Category::Upper),
            (r"\p{Ll}", Category::Lower),
            (r"[\p{Lm}\p{Lo}]", Category::Uncased),
            (r"\p{M}", Category::Mark),
            (r"\p{N}", Category::Number),
            (r"\p{P}", Category::Punctuation),
            (r"\p{S}", Category::Symbol),
        ];
        let ranges = patterns.iter().flat_map(|&(p, of)| ranges_of(p).into_iter().map(move |(a, b)| (a, b, of)));
        let mut ranges: Vec<(char, char, Category)> = ranges.collect();
        ranges.sort_by_key(|range| range.0);
        ranges
    });
    if c.is_whitespace() {
        return Category::Space;
    }
    let after = ranges.partition_point(|range| range.0 <= c);
    match after.checked_sub(1).map(|at| ranges[at]) {
        Some((_, last, category)) if c <= last => category,
        _ => Category::Other,
    }
}

/// `\p{P}`
pub(crate) fn is_punctuation(c: char) -> bool {
    category(c) == Category::Punctuation
}

/// The characters of a class in brackets.
pub(crate) struct Set(Vec<(char, char)>);

impl Set {
    /// Of a constant pattern that is one class, or a run of one.
    pub(crate) fn new(pattern: &str) -> Set {
        Set(ranges_of(pattern))
    }

    pub(crate) fn contains(&self, c: char) -> bool {
        let after = self.0.partition_point(|range| range.0 <= c);
        after.checked_sub(1).is_some_and(|at| c <= self.0[at].1)
    }
}

/// The ranges of a constant one-class pattern, in ascending order.
fn ranges_of(pattern: &str) -> Vec<(char, char)> {
    let hir = regex_syntax::parse(pattern).expect("a constant pattern that parses");
    match hir.kind() {
        HirKind::Class(HirClass::Unicode(set)) => set.ranges().iter().map(|r| (r.start(), r.end())).collect(),
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
            assert_eq!(class(c), class_of(category(c)), "{c:?}");
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
        for (c, want) in [
            ('Ж', Category::Upper),
            ('ǅ', Category::Upper), // title case
            ('ß', Category::Lower),
            ('ʰ', Category::Uncased),
            ('ก', Category::Uncased),
            ('\u{301}', Category::Mark),
            ('€', Category::Symbol),
            ('…', Category::Punctuation),
            ('\u{200b}', Category::Other),
        ] {
            assert_eq!(category(c), want, "{c:?}");
        }
        assert!(is_punctuation('!') && is_punctuation('…') && !is_punctuation('$') && !is_punctuation('a'));
        assert!(Set::new("[a-cx]").contains('b') && !Set::new("[a-cx]").contains('d'));
    }
}
