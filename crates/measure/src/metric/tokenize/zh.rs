//! Chinese: every character of certain ranges is a word, the rest is cut as mteval-v13a.pl does.

use super::super::python::strip;
use super::western::{split_periods, split_symbols};

/// The ranges of sacrebleu's zh tokenizer. It writes two of them with five hexadecimal digits where Python reads four
/// (`'\u20000'` is U+2000 and a zero), which makes them U+2001 to U+2A6D and U+2F81 to U+2FA1 instead of the
/// supplementary planes; scores follow that.
const RANGES: [(char, char); 22] = [
    ('\u{3400}', '\u{4db5}'),
    ('\u{4e00}', '\u{9fa5}'),
    ('\u{9fa6}', '\u{9fbb}'),
    ('\u{f900}', '\u{fa2d}'),
    ('\u{fa30}', '\u{fa6a}'),
    ('\u{fa70}', '\u{fad9}'),
    ('\u{2001}', '\u{2a6d}'),
    ('\u{2f81}', '\u{2fa1}'),
    ('\u{ff00}', '\u{ffef}'),
    ('\u{2e80}', '\u{2eff}'),
    ('\u{3000}', '\u{303f}'),
    ('\u{31c0}', '\u{31ef}'),
    ('\u{2f00}', '\u{2fdf}'),
    ('\u{2ff0}', '\u{2fff}'),
    ('\u{3100}', '\u{312f}'),
    ('\u{31a0}', '\u{31bf}'),
    ('\u{fe10}', '\u{fe1f}'),
    ('\u{fe30}', '\u{fe4f}'),
    ('\u{2600}', '\u{26ff}'),
    ('\u{2700}', '\u{27bf}'),
    ('\u{3200}', '\u{32ff}'),
    ('\u{3300}', '\u{33ff}'),
];

fn is_chinese(c: char) -> bool {
    c >= '\u{2001}' && RANGES.iter().any(|&(first, last)| (first..=last).contains(&c))
}

pub(super) fn write(line: &str, out: &mut String) {
    let mut spaced = String::with_capacity(line.len() * 2);
    for c in strip(line).chars() {
        if is_chinese(c) {
            spaced.push(' ');
            spaced.push(c);
            spaced.push(' ');
        } else {
            spaced.push(c);
        }
    }
    split_symbols(&spaced, out);
    split_periods(out, &mut spaced);
}
