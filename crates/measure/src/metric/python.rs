//! What Python takes for whitespace: the reference programs are written in it, and their scores hang on it.

/// Whether `str.split()` splits at a character: Unicode's White_Space and the four separators U+001C to U+001F.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// `str.split()`.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.rstrip()`.
pub(crate) fn strip_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_spaces_and_zero_width_spaces_are_not() {
        let text = "\u{1c}a\u{85}b\u{a0}c\u{2003}d\u{3000}e\u{200b}f\u{feff}";
        assert_eq!(words(text).collect::<Vec<_>>(), ["a", "b", "c", "d", "e\u{200b}f\u{feff}"]);
        assert_eq!(strip("\x1f a \t"), "a");
        assert_eq!(strip_end(" a\u{2028}"), " a");
    }
}
