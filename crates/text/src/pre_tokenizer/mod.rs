//! Pre-tokenizers: how a text is cut into words before any merge, by the name in `tokenizer.ggml.pre`.
//!
//! A name stands for a rule (a regular expression in the model's own `tokenizer.json`) and two
//! switches. The names and what they mean are llama.cpp's (`llama-vocab.cpp`); names that share a rule
//! and its switches share a row here. The rules are matched by hand in one forward pass: a backtracking
//! engine gives up on a long run of white space or letters, and a wrong cut is a wrong token.

pub(crate) mod patterns;
mod steps;
mod words;

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
    /// Qwen 2's with combining marks as letters.
    Qwen35,
    /// Mistral's Tekken: capitals, then small letters.
    Tekken,
    /// The same with numbers of three digits, and contractions at the ends of words.
    Gpt4o,
    /// What llama.cpp uses for a file that names no pre-tokenizer.
    Default,
    /// Falcon's: punctuation, GPT-2's expression, three digits.
    Falcon,
    /// DeepSeek Coder's steps.
    DeepseekCoder,
    /// DeepSeek LLM's steps.
    DeepseekLlm,
    /// DeepSeek V3's steps.
    Deepseek3,
}

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

const fn eager(names: &'static [&'static str], rule: Rule, add_bos: bool) -> Row {
    Row { names, rule, ignore_merges: true, add_bos }
}

/// The first name of a row is the one written into files.
const ROWS: [Row; 14] = [
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
            "modern-bert",
            "roberta-bpe",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
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
    row(&["qwen35"], Rule::Qwen35),
    eager(
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        Rule::Cl100k { digits: 3 },
        true,
    ),
    row(&["dbrx", "smaug-bpe", "chatglm-bpe"], Rule::Cl100k { digits: 3 }),
    eager(&["glm4", "glm5"], Rule::Cl100k { digits: 3 }, false),
    eager(&["tekken"], Rule::Tekken, true),
    row(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], Rule::Gpt4o),
    row(&["falcon"], Rule::Falcon),
    row(&["deepseek-coder"], Rule::DeepseekCoder),
    row(&["deepseek-llm"], Rule::DeepseekLlm),
    row(&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], Rule::Deepseek3),
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
            Rule::Gpt2 => words::gpt2(text, &mut word),
            Rule::DigitsGpt2 => steps::digits_gpt2(text, &mut word),
            Rule::Cl100k { digits } => words::cl100k(text, digits, false, &mut word),
            Rule::Qwen35 => words::cl100k(text, 1, true, &mut word),
            Rule::Tekken => words::cased(text, 1, false, &mut word),
            Rule::Gpt4o => words::cased(text, 3, true, &mut word),
            Rule::Default => steps::default(text, &mut word),
            Rule::Falcon => steps::falcon(text, &mut word),
            Rule::DeepseekCoder => steps::deepseek_coder(text, &mut word),
            Rule::DeepseekLlm => steps::deepseek_llm(text, &mut word),
            Rule::Deepseek3 => steps::deepseek3(text, &mut word),
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

#[cfg(test)]
mod tests;
