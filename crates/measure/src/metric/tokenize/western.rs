//! The rules of mteval-v13a.pl. Each is one pass from left to right whose matches do not overlap, as a global
//! substitution makes it; since all that is matched is ASCII, a pass may look at bytes.

use std::borrow::Cow;

/// The ASCII punctuation that is always a word of its own: all but `'`, `,`, `-` and `.`.
fn is_symbol(byte: u8) -> bool {
    matches!(byte, b'{'..=b'~' | b'['..=b'`' | b' '..=b'&' | b'('..=b'+' | b':'..=b'@' | b'/')
}

fn is_period(byte: u8) -> bool {
    matches!(byte, b'.' | b',')
}

/// XML's four escapes, one after the other, as the original does: `&amp;lt;` becomes `<`.
pub(crate) fn unescape(line: &str) -> Cow<'_, str> {
    if !line.contains('&') {
        return Cow::Borrowed(line);
    }
    let line = line.replace("&quot;", "\"").replace("&amp;", "&");
    Cow::Owned(line.replace("&lt;", "<").replace("&gt;", ">"))
}

/// Puts spaces around every symbol.
pub(crate) fn split_symbols(line: &str, out: &mut String) {
    let mut rest = line;
    while let Some(at) = rest.bytes().position(is_symbol) {
        out.push_str(&rest[..at]);
        out.push(' ');
        out.push_str(&rest[at..=at]);
        out.push(' ');
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// Sets off periods and commas unless they stand between digits, and dashes behind digits.
pub(crate) fn split_periods(line: &mut String, spare: &mut String) {
    // A period or comma behind something that is no digit.
    cut(line, spare, |a, b| !a.is_ascii_digit() && is_period(b), ["", " ", " "]);
    std::mem::swap(line, spare);
    // A period or comma before something that is no digit.
    cut(line, spare, |a, b| is_period(a) && !b.is_ascii_digit(), [" ", " ", ""]);
    std::mem::swap(line, spare);
    // A dash behind a digit.
    cut(line, spare, |a, b| a.is_ascii_digit() && b == b'-', ["", " ", " "]);
    std::mem::swap(line, spare);
}

/// Copies a line; where two neighbouring characters match, with `marks` before, between and behind them.
fn cut(line: &str, out: &mut String, matches: impl Fn(u8, u8) -> bool, marks: [&str; 3]) {
    out.clear();
    let bytes = line.as_bytes();
    let (mut done, mut at) = (0, 0);
    while at + 1 < bytes.len() {
        // The last byte of a longer character stands for it: none of its bytes is ASCII.
        if !line.is_char_boundary(at + 1) || !matches(bytes[at], bytes[at + 1]) {
            at += 1;
            continue;
        }
        let second = at + 1;
        let end = (second + 1..).find(|&i| line.is_char_boundary(i)).unwrap_or(bytes.len());
        // The first of the two may be a longer character that began before; what marks go before it is ASCII then.
        out.push_str(&line[done..at + 1 - usize::from(!marks[0].is_empty())]);
        if !marks[0].is_empty() {
            out.push_str(marks[0]);
            out.push_str(&line[at..second]);
        }
        out.push_str(marks[1]);
        out.push_str(&line[second..end]);
        out.push_str(marks[2]);
        (done, at) = (end, end);
    }
    out.push_str(&line[done..]);
}

/// mteval-v13a.pl's tokens.
pub(super) fn v13a(line: &str, out: &mut String) {
    let line = if line.contains("<skipped>") || line.contains('\n') {
        Cow::Owned(line.replace("<skipped>", "").replace("-\n", "").replace('\n', " "))
    } else {
        Cow::Borrowed(line)
    };
    let line = unescape(&line);
    out.push(' ');
    split_symbols(&line, out);
    out.push(' ');
    split_periods(out, &mut String::with_capacity(out.len() + out.len() / 4));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_periods_and_commas() {
        let mut out = String::new();
        v13a("It cost 3,141.59, or 5-7 (é.g. \"x.\") &amp;lt;b.", &mut out);
        let words: Vec<&str> = out.split_whitespace().collect();
        let expected = "It cost 3,141.59 , or 5 - 7 ( é . g . \" x . \" ) < b .";
        assert_eq!(words.join(" "), expected);
    }
}
