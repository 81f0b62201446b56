//! tercom's tokenization, as sacrebleu 2.6.0 rebuilds it.

use super::super::python::strip_end;
use super::super::tokenize::{split_periods, split_symbols, unescape};
use super::Ter;

/// Marks that are removed without punctuation.
const PUNCTUATION: &[char] = &['.', ',', '?', ':', ';', '!', '"', '(', ')'];

fn is_asian_punctuation(c: char) -> bool {
    matches!(c, '\u{3001}' | '\u{3002}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}')
        || matches!(c, '\u{ff61}'..='\u{ff65}' | '\u{30fb}')
        || matches!(c, '\u{ff0e}' | '\u{ff0c}' | '\u{ff1f}' | '\u{ff1a}' | '\u{ff1b}' | '\u{ff01}' | '\u{ff02}')
        || matches!(c, '\u{ff08}' | '\u{ff09}')
}

/// Characters that are words of their own. The second range is written `\u3200-\u3f22` in the original, which takes in
/// most of another; its rules for kana can never match, since the line begins with a space by then.
fn is_asian(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3200}'..='\u{3f22}' | '\u{3400}'..='\u{4dbf}')
        || matches!(c, '\u{31c0}'..='\u{31ef}' | '\u{2e80}'..='\u{2eff}')
        || matches!(c, '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe4f}')
        || is_asian_punctuation(c)
}

/// Writes a segment with whitespace between its words into a buffer.
pub(super) fn write(ter: &Ter, line: &str, out: &mut String, spare: &mut String) {
    out.clear();
    let line = strip_end(line);
    if ter.case_sensitive {
        out.push_str(line);
    } else {
        out.push_str(&line.to_lowercase());
    }
    if ter.normalized {
        normalize(ter, out, spare);
    }
    if ter.no_punctuation {
        let removed = |c: char| PUNCTUATION.contains(&c) || ter.asian_support && is_asian_punctuation(c);
        out.retain(|c| !removed(c));
    }
}

fn normalize(ter: &Ter, line: &mut String, spare: &mut String) {
    if line.contains('\n') {
        *line = line.replace("\n-", "").replace('\n', " ");
    }
    spare.clear();
    // The spaces around the line are symbols too.
    split_symbols(&format!(" {} ", unescape(line)), spare);
    if spare.contains("'s ") {
        *spare = spare.replace("'s ", " 's ");
    }
    split_periods(spare, line);
    std::mem::swap(line, spare);
    if ter.asian_support && line.chars().any(is_asian) {
        spare.clear();
        for c in line.chars() {
            if is_asian(c) {
                spare.push(' ');
                spare.push(c);
                spare.push(' ');
            } else {
                spare.push(c);
            }
        }
        std::mem::swap(line, spare);
    }
}
