//! Pre-tokenizers: how a text is cut into words before any merge, by the name in `tokenizer.ggml.pre`.
//!
//! A name stands for a rule (a regular expression in the model's own `tokenizer.json`) and two
//! switches. The names and what they mean are llama.cpp's (`llama-vocab.cpp`); names that share a rule
//! and its switches share a row here. The rules are matched by hand in one forward pass: a backtracking
//! engine gives up on a long run of white space or letters, and a wrong cut is a wrong token.

use crate::unicode::{Class, class, is_punctuation};
use crate::{Error, Result};

/// The family of rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// GPT-2's expression.
    Gpt2,
    /// Each digit alone, then GPT-2's expression.
    DigitsGpt2,
    /// The cl100k family of expressions; numbers are cut into at most this many digits.
    Cl100k {
        /// 1 in Qwen 2, 3 in Llama 3.
        digits: usize,
    },
    /// What llama.cpp uses for a file that names no pre-tokenizer.
    Default,
}

/// GPT-2's expression (`tokenizers`' `ByteLevel` has it built in).
pub(crate) const GPT2_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Qwen 2's expression, as in its `tokenizer.json`.
pub(crate) const QWEN2_PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Llama 3's expression, as in its `tokenizer.json`.
pub(crate) const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The expressions that cut one after another for [`Rule::Default`].
pub(crate) const DEFAULT_PATTERNS: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2_PATTERN, r"\p{N}+", r"[0-9][0-9][0-9]"];

struct Row {
    names: &'static [&'static str],
    rule: Rule,
    /// A word that is a token is that token, whatever the merges say.
    ignore_merges: bool,
    /// Whether a BOS is added when the file does not say.
    add_bos: bool,
}

const fn row(names: &'static [&'static str], rule: Rule) -> Row {
    Row { names, rule, ignore_merges: false, add_bos: false }
}

/// The first name of a row is the one written into files.
const ROWS: [Row; 6] = [
    row(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
        ],
        Rule::Gpt2,
    ),
    row(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        Rule::DigitsGpt2,
    ),
    row(
        &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "hunyuan", "solar-open", "megrez", "grok-2"],
        Rule::Cl100k { digits: 1 },
    ),
    Row {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        rule: Rule::Cl100k { digits: 3 },
        ignore_merges: true,
        add_bos: true,
    },
    row(&["dbrx", "smaug-bpe"], Rule::Cl100k { digits: 3 }),
    row(&["default"], Rule::Default),
];

/// One pre-tokenizer: a name, its rule and its switches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PreTokenizer {
    /// The name in the file (an alias stays what it was).
    pub(crate) name: &'static str,
    pub(crate) rule: Rule,
    pub(crate) ignore_merges: bool,
    pub(crate) add_bos: bool,
}

impl PreTokenizer {
    /// The pre-tokenizer of that name; the empty name is `default`, as in llama.cpp.
    pub(crate) fn named(name: &str) -> Result<PreTokenizer> {
        let wanted = if name.is_empty() { "default" } else { name };
        for row in &ROWS {
            if let Some(&name) = row.names.iter().find(|&&n| n == wanted) {
                return Ok(PreTokenizer {
                    name,
                    rule: row.rule,
                    ignore_merges: row.ignore_merges,
                    add_bos: row.add_bos,
                });
            }
        }
        let known: Vec<&str> = ROWS.iter().flat_map(|r| r.names).copied().collect();
        Err(Error::Unsupported {
            what: "pre-tokenizer",
            found: shorten(wanted),
            supported: format!("{}; force one with --pre-tokenizer NAME", known.join(", ")),
        })
    }

    /// The pre-tokenizer with this rule and switch, under its first name.
    pub(crate) fn with(rule: Rule, ignore_merges: bool) -> Option<PreTokenizer> {
        let row = ROWS.iter().find(|r| r.rule == rule && r.ignore_merges == ignore_merges)?;
        PreTokenizer::named(row.names[0]).ok()
    }

    /// Calls `word` with each piece of `text`, in order; the pieces cover the text.
    pub(crate) fn split<'t>(&self, text: &'t str, mut word: impl FnMut(&'t str)) {
        match self.rule {
            Rule::Gpt2 => gpt2(text, &mut word),
            Rule::DigitsGpt2 => {
                let digit = |c| class(c) == Class::Number;
                isolate(text, digit, Some(1), &mut |piece, is_digit| {
                    if is_digit { word(piece) } else { gpt2(piece, &mut word) }
                });
            }
            Rule::Cl100k { digits } => cl100k(text, digits, &mut word),
            Rule::Default => {
                let mark = |c: char| matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|') || is_punctuation(c);
                let number = |c| class(c) == Class::Number;
                let mut numbers = |piece: &'t str| {
                    isolate(piece, number, None, &mut |piece, is_number| {
                        if is_number { ascii_triples(piece, &mut word) } else { word(piece) }
                    });
                };
                isolate(text, mark, None, &mut |piece, _| gpt2(piece, &mut numbers));
            }
        }
    }
}

/// Cuts a name from a file to a length that fits a message.
pub(crate) fn shorten(name: &str) -> String {
    match name.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

/// Calls `piece` with the runs of characters that are wanted (true; at most `longest` characters each)
/// and with what stands between them (false).
fn isolate<'t>(
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

/// Length in bytes of the longest prefix, of at most `most` characters, whose characters are all wanted.
fn run_length(text: &str, most: usize, wanted: impl Fn(char) -> bool) -> usize {
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

fn gpt2<'t>(text: &'t str, word: &mut impl FnMut(&'t str)) {
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

fn cl100k<'t>(text: &'t str, digits: usize, word: &mut impl FnMut(&'t str)) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = cl100k_word(rest, first, digits);
        word(&rest[..length]);
        rest = &rest[length..];
    }
}

fn cl100k_word(rest: &str, first: char, digits: usize) -> usize {
    if first == '\''
        && let Some(length) = contraction(rest, true)
    {
        return length;
    }
    let of = class(first);
    // `[^\r\n\p{L}\p{N}]?\p{L}+`
    let lead = match of {
        Class::Letter => Some(0),
        Class::Space | Class::Other if !matches!(first, '\r' | '\n') => Some(first.len_utf8()),
        _ => None,
    };
    if let Some(lead) = lead {
        let letters = class_run(&rest[lead..], Class::Letter);
        if letters > 0 {
            return lead + letters;
        }
    }
    if of == Class::Number {
        return run_length(rest, digits, |c| class(c) == Class::Number);
    }
    // ` ?[^\s\p{L}\p{N}]+[\r\n]*`
    let lead = usize::from(first == ' ');
    let others = class_run(&rest[lead..], Class::Other);
    if others > 0 {
        let end = lead + others;
        return end + newline_run(&rest[end..]);
    }
    // `\s*[\r\n]+|\s+(?!\S)|\s+`
    let run = class_run(rest, Class::Space);
    match rest[..run].rfind(['\r', '\n']) {
        Some(last) => last + 1,
        None => space_run(rest, run),
    }
}

fn newline_run(text: &str) -> usize {
    text.bytes().take_while(|b| matches!(b, b'\r' | b'\n')).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokenizers::pre_tokenizers::PreTokenizerWrapper;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    fn ours(name: &str, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        PreTokenizer::named(name).unwrap().split(text, |w| words.push(w.to_owned()));
        words
    }

    /// The same cut by the `tokenizers` crate, from the JSON that Hugging Face's files hold.
    fn theirs(name: &str, text: &str) -> Vec<String> {
        let rule = PreTokenizer::named(name).unwrap().rule;
        let json = crate::hf::pre_tokenizer_json(rule);
        let pre: PreTokenizerWrapper = serde_json::from_value(json).unwrap();
        let mut string = PreTokenizedString::from(text);
        pre.pre_tokenize(&mut string).unwrap();
        string
            .get_splits(OffsetReferential::Original, OffsetType::Byte)
            .into_iter()
            .map(|(_, (from, to), _)| text[from..to].to_owned())
            .collect()
    }

    const NAMES: [&str; 5] = ["gpt-2", "smollm", "qwen2", "llama-bpe", "default"];

    #[test]
    fn awkward_texts_are_cut_like_the_tokenizers_crate_does() {
        for text in [
            "",
            " ",
            "  ",
            "   a",
            "\n",
            " \n a",
            "a \n \n\n b\t\tc",
            "\r\n\r\n x",
            "I'm you'RE they'LL we'Ve he'd '\u{17f}a 'Tis '",
            "12345 1234567 ³4Ⅷ ٣٣٣٣",
            "a1b2 c3\u{a0}d\u{3000}\u{3000}e\u{85}f",
            "!!!\n\n?? ...\r\n x--y  --z",
            "你好，世界 こんにちは 😀😀 e\u{301}",
            "$100 + 200 <= 300|400^5~6",
            "'s's'' ' s",
            "\u{200b}a\u{200b} \u{200b}",
            "1\u{660}\u{661}234 5678901",
        ] {
            for name in NAMES {
                assert_eq!(ours(name, text), theirs(name, text), "{name} on {text:?}");
            }
        }
    }

    fn soup() -> impl Strategy<Value = String> {
        // Few characters, so that the interesting neighbours meet often.
        let char = prop::sample::select(
            " \t\n\r'sStTdDmMrReEvVlLſab12Ⅷ٣³.!$<~é你。\u{a0}\u{3000}\u{85}\u{200b}\u{301}😀"
                .chars()
                .collect::<Vec<_>>(),
        );
        prop::collection::vec(char, 0..40).prop_map(|v| v.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn random_texts_are_cut_like_the_tokenizers_crate_does(text in soup()) {
            for name in NAMES {
                prop_assert_eq!(ours(name, &text), theirs(name, &text), "{} on {:?}", name, &text);
            }
        }

        #[test]
        fn the_pieces_cover_the_text(text in any::<String>()) {
            for name in NAMES {
                prop_assert_eq!(ours(name, &text).concat(), &text[..]);
            }
        }
    }

    #[test]
    fn every_name_is_found_and_an_unknown_one_lists_them() {
        for row in &ROWS {
            for name in row.names {
                let found = PreTokenizer::named(name).unwrap();
                assert_eq!((found.name, found.rule), (*name, row.rule));
            }
        }
        assert_eq!(PreTokenizer::named("").unwrap().name, "default");
        let message = PreTokenizer::named("tekken").unwrap_err().to_string();
        assert!(message.contains("pre-tokenizer \"tekken\"") && message.contains("llama-bpe"), "{message}");
        assert!(PreTokenizer::named(&"x".repeat(10_000)).unwrap_err().to_string().len() < 1000);
    }

    #[test]
    fn a_rule_and_switch_lead_back_to_a_name() {
        let name = |rule, ignore| PreTokenizer::with(rule, ignore).map(|p| p.name);
        assert_eq!(name(Rule::Cl100k { digits: 3 }, true), Some("llama-bpe"));
        assert_eq!(name(Rule::Cl100k { digits: 3 }, false), Some("dbrx"));
        assert_eq!(name(Rule::Gpt2, true), None);
    }
}
