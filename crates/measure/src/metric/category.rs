//! Unicode's general categories, as far as metrics ask for them: numbers, punctuation, symbols, letters.

use std::sync::OnceLock;

use regex_syntax::hir::{Class as HirClass, HirKind};

/// The characters of a general category.
#[derive(Debug)]
pub(crate) struct Category {
    /// Bit `c` tells whether the ASCII character `c` is one.
    ascii: u128,
    /// Sorted and disjoint.
    ranges: Vec<(char, char)>,
}

impl Category {
    fn new(pattern: &str) -> Category {
        let ranges: Vec<(char, char)> = match regex_syntax::parse(pattern).map(|hir| hir.into_kind()) {
            Ok(HirKind::Class(HirClass::Unicode(class))) => class.iter().map(|r| (r.start(), r.end())).collect(),
            _ => Vec::new(), // Not reached: the patterns below are constants, and tested.
        };
        let mut category = Category { ascii: 0, ranges };
        for c in 0..128u8 {
            category.ascii |= u128::from(category.search(c.into())) << c;
        }
        category
    }

    fn search(&self, c: char) -> bool {
        let after = self.ranges.partition_point(|r| r.0 <= c);
        after > 0 && self.ranges[after - 1].1 >= c
    }

    /// Whether a character is in the category.
    pub(crate) fn has(&self, c: char) -> bool {
        if c.is_ascii() { self.ascii >> (c as u32) & 1 == 1 } else { self.search(c) }
    }
}

/// `\p{N}`.
pub(crate) fn numbers() -> &'static Category {
    static TABLE: OnceLock<Category> = OnceLock::new();
    TABLE.get_or_init(|| Category::new(r"\p{N}"))
}

/// `\p{P}`.
pub(crate) fn punctuation() -> &'static Category {
    static TABLE: OnceLock<Category> = OnceLock::new();
    TABLE.get_or_init(|| Category::new(r"\p{P}"))
}

/// `\p{S}`.
pub(crate) fn symbols() -> &'static Category {
    static TABLE: OnceLock<Category> = OnceLock::new();
    TABLE.get_or_init(|| Category::new(r"\p{S}"))
}

/// What Python's `\w` matches: letters, numbers and the underscore, but no marks.
pub(crate) fn word_characters() -> &'static Category {
    static TABLE: OnceLock<Category> = OnceLock::new();
    TABLE.get_or_init(|| Category::new(r"[\p{L}\p{N}_]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_have_their_categories() {
        for (c, is) in [('7', [true, false, false]), ('.', [false, true, false]), ('+', [false, false, true])] {
            assert_eq!([numbers().has(c), punctuation().has(c), symbols().has(c)], is, "{c}");
        }
        for (c, is) in [('Ⅷ', [true, false, false]), ('。', [false, true, false]), ('€', [false, false, true])] {
            assert_eq!([numbers().has(c), punctuation().has(c), symbols().has(c)], is, "{c}");
        }
        assert!(['a', 'é', '中', '_', '9'].iter().all(|&c| word_characters().has(c)));
        assert!(!['\u{301}', '-', ' '].iter().any(|&c| word_characters().has(c)));
    }
}
