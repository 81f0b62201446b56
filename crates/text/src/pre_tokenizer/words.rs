//! Words by the expressions of GPT-2, of the cl100k family, and of those that look at case.

use crate::unicode::{Category, Class, category, class};

/// Length in bytes of the longest prefix, of at most `most` characters, whose characters are all wanted.
pub(super) fn run_length(text: &str, most: usize, wanted: impl Fn(char) -> bool) -> usize {
    text.char_indices()
        .take(most)
        .find(|&(_, c)| !wanted(c))
        .map_or_else(|| text.char_indices().nth(most).map_or(text.len(), |(end, _)| end), |(end, _)| end)
}

/// Length in bytes of the run of one class at the start of `text`.
fn class_run(text: &str, of: Class) -> usize {
    text.char_indices().find(|&(_, c)| class(c) != of).map_or(text.len(), |(end, _)| end)
}

/// Length of an English contraction at the start of `text`, which begins with an apostrophe.
fn contraction(text: &str, any_case: bool) -> Option<usize> {
    let fold = |c: char| match c {
        // The one other character that folds to a letter of these (simple case folding).
        'ſ' if any_case => 's',
        c if any_case => c.to_ascii_lowercase(),
        c => c,
    };
    let mut chars = text.char_indices().skip(1).map(|(at, c)| (at + c.len_utf8(), fold(c)));
    let (end, first) = chars.next()?;
    if matches!(first, 's' | 't' | 'm' | 'd') {
        return Some(end);
    }
    let (end, second) = chars.next()?;
    matches!((first, second), ('r', 'e') | ('v', 'e') | ('l', 'l')).then_some(end)
}

/// Length of `\s+(?!\S)|\s+` on a run of white space of `run` bytes at the start of `text`: the whole
/// run at the end of the text; else all but its last character, which belongs to the word after it.
fn space_run(text: &str, run: usize) -> usize {
    if run == text.len() {
        return run;
    }
    match text[..run].char_indices().next_back() {
        Some((last, _)) if last > 0 => last,
        _ => run,
    }
}

pub(super) fn gpt2<'t>(text: &'t str, word: &mut impl FnMut(&'t str)) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = gpt2_word(rest, first);
        word(&rest[..length]);
        rest = &rest[length..];
    }
}

fn gpt2_word(rest: &str, first: char) -> usize {
    if first == '\''
        && let Some(length) = contraction(rest, false)
    {
        return length;
    }
    // ` ?` and a run of letters, of numbers, or of neither.
    let lead = usize::from(first == ' ');
    match rest[lead..].chars().next().map(class) {
        None | Some(Class::Space) => {}
        Some(of) => return lead + class_run(&rest[lead..], of),
    }
    space_run(rest, class_run(rest, Class::Space))
}

/// The cl100k family: numbers of at most `digits` digits; with `marks` a combining mark is a letter.
pub(super) fn cl100k<'t>(text: &'t str, digits: usize, marks: bool, word: &mut impl FnMut(&'t str)) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = cl100k_word(rest, first, digits, marks);
        word(&rest[..length]);
        rest = &rest[length..];
    }
}

fn cl100k_word(rest: &str, first: char, digits: usize, marks: bool) -> usize {
    if first == '\''
        && let Some(length) = contraction(rest, true)
    {
        return length;
    }
    let is_letter = |c: char| class(c) == Class::Letter || marks && category(c) == Category::Mark;
    let letters = |text: &str| run_length(text, usize::MAX, is_letter);
    // `[^\r\n\p{L}\p{N}]?\p{L}+`
    if leads(first) {
        let lead = first.len_utf8();
        let run = letters(&rest[lead..]);
        if run > 0 {
            return lead + run;
        }
    }
    let run = letters(rest);
    if run > 0 {
        return run;
    }
    number(rest, first, digits).unwrap_or_else(|| others(rest, first, is_letter, &['\r', '\n']))
}

/// `[^\r\n\p{L}\p{N}]`
fn leads(c: char) -> bool {
    matches!(class(c), Class::Space | Class::Other) && !matches!(c, '\r' | '\n')
}

/// `\p{N}{1,digits}`
fn number(rest: &str, first: char, digits: usize) -> Option<usize> {
    (class(first) == Class::Number).then(|| run_length(rest, digits, |c| class(c) == Class::Number))
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`, where `tail` is what may follow the first of them.
fn others(rest: &str, first: char, is_letter: impl Fn(char) -> bool, tail: &[char]) -> usize {
    let lead = usize::from(first == ' ');
    let run = run_length(&rest[lead..], usize::MAX, |c| class(c) == Class::Other && !is_letter(c));
    if run > 0 {
        let end = lead + run;
        return end + run_length(&rest[end..], usize::MAX, |c| tail.contains(&c));
    }
    spaces(rest)
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`, at least one character.
pub(super) fn spaces(rest: &str) -> usize {
    let run = class_run(rest, Class::Space);
    match rest[..run].rfind(['\r', '\n']) {
        Some(last) => last + 1,
        None => space_run(rest, run),
    }
}

/// The expressions of Tekken and GPT-4o: a word is capitals, then small letters; `contractions` belong to the word
/// before them.
pub(super) fn cased<'t>(text: &'t str, digits: usize, contractions: bool, word: &mut impl FnMut(&'t str)) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        // Each of the two alternatives is tried with a character that leads it, then without.
        let lead = first.len_utf8();
        let led = |of: fn(&str) -> Option<usize>| {
            let with = if leads(first) { of(&rest[lead..]).map(|length| lead + length) } else { None };
            with.or_else(|| of(rest))
        };
        let length = match led(ending_small).or_else(|| led(capitals)) {
            Some(end) if contractions && rest[end..].starts_with('\'') => {
                end + contraction(&rest[end..], true).unwrap_or(0)
            }
            Some(end) => end,
            None => number(rest, first, digits).unwrap_or_else(|| others(rest, first, |_| false, &['\r', '\n', '/'])),
        };
        word(&rest[..length]);
        rest = &rest[length..];
    }
}

/// Letters without case and marks count both as capitals and as small letters.
fn is_both(c: char) -> bool {
    matches!(category(c), Category::Uncased | Category::Mark)
}

fn upper_run(text: &str) -> usize {
    run_length(text, usize::MAX, |c| category(c) == Category::Upper || is_both(c))
}

fn lower_run(text: &str) -> usize {
    run_length(text, usize::MAX, |c| category(c) == Category::Lower || is_both(c))
}

/// `U*W+`, where U are capitals and W small letters.
fn ending_small(text: &str) -> Option<usize> {
    let upper = upper_run(text);
    match lower_run(&text[upper..]) {
        // `U*` gives back until `W+` has something: up to the last character of both kinds.
        0 => text[..upper].char_indices().rev().find(|&(_, c)| is_both(c)).map(|(at, c)| at + c.len_utf8()),
        lower => Some(upper + lower),
    }
}

/// `U+W*` where `U*W+` has found nothing, so that no small letter follows.
fn capitals(text: &str) -> Option<usize> {
    Some(upper_run(text)).filter(|&upper| upper > 0)
}
