//! Pre-tokenizers of several steps, each of which cuts the pieces of the one before.

use std::sync::OnceLock;

use super::patterns;
use super::words::{gpt2, run_length, spaces};
use crate::unicode::{Category, Class, Set, category, class, is_punctuation};

/// Calls `piece` with the runs of characters that are wanted (true; at most `longest` characters each)
/// and with what stands between them (false).
pub(super) fn isolate<'t>(
    text: &'t str,
    wanted: impl Fn(char) -> bool,
    longest: Option<usize>,
    piece: &mut impl FnMut(&'t str, bool),
) {
    let mut rest = text;
    while !rest.is_empty() {
        let start = rest.find(&wanted).unwrap_or(rest.len());
        if start > 0 {
            piece(&rest[..start], false);
            rest = &rest[start..];
        }
        let run = run_length(rest, longest.unwrap_or(usize::MAX), &wanted);
        if run > 0 {
            piece(&rest[..run], true);
            rest = &rest[run..];
        }
    }
}

/// The same with matches of any kind: `length` says how many bytes match at the start of a text, 0 for none. It must
/// take constant time where nothing matches.
fn isolate_matches<'t>(text: &'t str, length: impl Fn(&str) -> usize, piece: &mut impl FnMut(&'t str)) {
    let (mut start, mut at) = (0, 0);
    while let Some(c) = text[at..].chars().next() {
        let found = length(&text[at..]);
        if found == 0 {
            at += c.len_utf8();
            continue;
        }
        if start < at {
            piece(&text[start..at]);
        }
        piece(&text[at..at + found]);
        at += found;
        start = at;
    }
    if start < text.len() {
        piece(&text[start..]);
    }
}

/// Cuts every three ASCII digits in a row out of a run of numbers.
fn ascii_triples<'t>(text: &'t str, word: &mut impl FnMut(&'t str)) {
    let bytes = text.as_bytes();
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at..].iter().take(3).filter(|b| b.is_ascii_digit()).count() == 3 {
            if start < at {
                word(&text[start..at]);
            }
            word(&text[at..at + 3]);
            at += 3;
            start = at;
        } else {
            at += 1;
        }
    }
    if start < text.len() {
        word(&text[start..]);
    }
}

/// Each number alone, then GPT-2's expression.
pub(super) fn digits_gpt2<'t>(text: &'t str, word: &mut impl FnMut(&'t str)) {
    isolate(text, is_number, Some(1), &mut |piece, is_digit| if is_digit { word(piece) } else { gpt2(piece, word) });
}

/// [`patterns::DEFAULT`]
pub(super) fn default<'t>(text: &'t str, word: &mut impl FnMut(&'t str)) {
    let mark = |c: char| matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|') || is_punctuation(c);
    let mut numbers = |piece: &'t str| {
        isolate(piece, is_number, None, &mut |piece, is_number| {
            if is_number { ascii_triples(piece, word) } else { word(piece) }
        });
    };
    isolate(text, mark, None, &mut |piece, _| gpt2(piece, &mut numbers));
}

/// [`patterns::FALCON`]
pub(super) fn falcon<'t>(text: &'t str, word: &mut impl FnMut(&'t str)) {
    let mark = |c: char| matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|' | '`') || is_punctuation(c);
    let mut triples = |piece: &'t str| ascii_triples(piece, word);
    isolate(text, mark, None, &mut |piece, _| gpt2(piece, &mut triples));
}

/// [`patterns::DEEPSEEK_CODER`], then digits.
pub(super) fn deepseek_coder<'t>(text: &'t str, word: &mut impl FnMut(&'t str)) {
    let mut digits = |piece: &'t str| isolate(piece, is_number, Some(1), &mut |piece, _| word(piece));
    let mut cjk = |piece: &'t str| isolate(piece, deepseek_cjk, None, &mut |piece, _| digits(piece));
    let mut marks = |piece: &'t str| isolate_matches(piece, |t| spaced_run(t, is_punctuation), &mut cjk);
    let letter = |c: char| class(c) == Class::Letter;
    let mut letters = |piece: &'t str| isolate_matches(piece, |t| spaced_run(t, letter), &mut marks);
    isolate(text, is_newline, Some(1), &mut |piece, _| letters(piece));
}

/// [`patterns::DEEPSEEK_LLM`], then digits.
pub(super) fn deepseek_llm<'t>(text: &'t str, word: &mut impl FnMut(&'t str)) {
    static SETS: OnceLock<[Set; 2]> = OnceLock::new();
    let [letters, marks] = SETS.get_or_init(|| {
        let class = |pattern: &str| Set::new(pattern.trim_start_matches(r"\s?").trim_end_matches('+'));
        [class(patterns::DEEPSEEK_LLM[1]), class(patterns::DEEPSEEK_LLM[2])]
    });
    let mut digits = |piece: &'t str| isolate(piece, is_number, Some(1), &mut |piece, _| word(piece));
    let mut cjk = |piece: &'t str| isolate(piece, deepseek_cjk, None, &mut |piece, _| digits(piece));
    let mut end = |piece: &'t str| {
        let (before, spaces) = piece.split_at(piece.trim_end().len());
        [before, spaces].into_iter().filter(|part| !part.is_empty()).for_each(&mut cjk);
    };
    let mut marks = |piece: &'t str| isolate_matches(piece, |t| spaced_run(t, |c| marks.contains(c)), &mut end);
    let mut letters = |piece: &'t str| isolate_matches(piece, |t| spaced_run(t, |c| letters.contains(c)), &mut marks);
    isolate(text, is_newline, Some(1), &mut |piece, _| letters(piece));
}

/// [`patterns::DEEPSEEK3`]
pub(super) fn deepseek3<'t>(text: &'t str, word: &mut impl FnMut(&'t str)) {
    let cjk = |c: char| matches!(c, '\u{4e00}'..='\u{9fa5}' | '\u{3040}'..='\u{30ff}');
    let mut words = |piece: &'t str| isolate_matches(piece, deepseek3_word, word);
    let mut cjk = |piece: &'t str| isolate(piece, cjk, None, &mut |piece, _| words(piece));
    isolate(text, is_number, Some(3), &mut |piece, _| cjk(piece));
}

fn deepseek3_word(rest: &str) -> usize {
    let mut chars = rest.chars();
    let (Some(first), second) = (chars.next(), chars.next()) else { return 0 };
    let ascii = |c: char| c.is_ascii_alphabetic();
    // A mark of ASCII and a word of ASCII letters.
    if first.is_ascii_punctuation() && second.is_some_and(ascii) {
        return 1 + run_length(&rest[1..], usize::MAX, ascii);
    }
    let letter = |c: char| class(c) == Class::Letter || category(c) == Category::Mark;
    let letters = |text: &str| run_length(text, usize::MAX, letter);
    // `[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+`
    let of = category(first);
    let leads =
        !is_newline(first) && matches!(of, Category::Mark | Category::Number | Category::Space | Category::Other);
    if leads && second.is_some_and(letter) {
        return first.len_utf8() + letters(&rest[first.len_utf8()..]);
    }
    if letter(first) {
        return letters(rest);
    }
    // ` ?[\p{P}\p{S}]+[\r\n]*`
    let lead = usize::from(first == ' ');
    let marks =
        run_length(&rest[lead..], usize::MAX, |c| matches!(category(c), Category::Punctuation | Category::Symbol));
    if marks > 0 {
        let end = lead + marks;
        return end + run_length(&rest[end..], usize::MAX, is_newline);
    }
    if of == Category::Space { spaces(rest) } else { 0 }
}

fn is_number(c: char) -> bool {
    class(c) == Class::Number
}

fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// [`patterns::DEEPSEEK_CJK`]
fn deepseek_cjk(c: char) -> bool {
    matches!(c, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}')
}

/// Length of `\s?[...]+`.
fn spaced_run(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    let lead = text.chars().next().filter(|&c| class(c) == Class::Space && !wanted(c)).map_or(0, char::len_utf8);
    match run_length(&text[lead..], usize::MAX, &wanted) {
        0 => 0,
        run => lead + run,
    }
}
