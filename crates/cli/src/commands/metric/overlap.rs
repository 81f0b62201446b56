//! The metrics that compare words or characters: their flags.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, ValueEnum};
use porism_measure::metric::{
    Bleu, Chrf, ExactMatch, Meteor, Rouge, RougeKind, Smoothing, Ter, TokenF1, Tokenizer, WordNet,
};
use serde_json::json;

use super::files::{Output, Texts};
use super::show::measure;
use crate::context::{say, usage};

/// How text is cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TokenizerArg {
    /// As mteval-v13a.pl, for Western languages
    #[value(name = "13a")]
    V13a,
    /// As mteval-v14.pl, by Unicode's punctuation and symbols
    Intl,
    /// Every character is a word
    Char,
    /// Chinese characters are words, the rest as 13a
    Zh,
    /// At whitespace only
    None,
}

impl From<TokenizerArg> for Tokenizer {
    fn from(arg: TokenizerArg) -> Tokenizer {
        match arg {
            TokenizerArg::V13a => Tokenizer::V13a,
            TokenizerArg::Intl => Tokenizer::International,
            TokenizerArg::Char => Tokenizer::Char,
            TokenizerArg::Zh => Tokenizer::Zh,
            TokenizerArg::None => Tokenizer::None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SmoothingArg {
    /// Nothing stands in for a precision of zero
    None,
    /// A small count does [value: 0.1]
    Floor,
    /// A count is added to all orders but the first [value: 1]
    AddK,
    /// A half, a quarter, an eighth of a match do
    Exp,
}

/// BLEU: clipped precisions of 1-grams to 4-grams, and a penalty for brevity (sacrebleu), 0 to 100
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric bleu --ref refs.txt --hyp out.txt
  porism measure metric bleu --tokenize zh --ref refs.zh --hyp out.zh --sentence
  porism measure metric bleu --smooth floor --smooth-value 0.01 --ref a.txt b.txt --hyp out.txt --json
      {metric, score, signature, interval, level, segments, precisions, brevity_penalty, hypothesis_words,
       reference_words, and sentences with --sentence}")]
pub struct BleuArgs {
    #[command(flatten)]
    texts: Texts,
    /// How text is cut into words
    #[arg(long, value_enum, value_name = "NAME", default_value_t = TokenizerArg::V13a)]
    tokenize: TokenizerArg,
    /// What stands in for a precision of zero
    #[arg(long, value_enum, value_name = "METHOD", default_value_t = SmoothingArg::Exp)]
    smooth: SmoothingArg,
    /// The value of floor or add-k
    #[arg(long, value_name = "V")]
    smooth_value: Option<f64>,
    /// Leave out orders that the hypotheses are too short for; sentence scores always do
    #[arg(long)]
    effective_order: bool,
    /// Ignore upper and lower case
    #[arg(long)]
    lowercase: bool,
    #[command(flatten)]
    output: Output,
}

impl BleuArgs {
    fn smoothing(&self) -> Result<Smoothing> {
        if self.smooth_value.is_some_and(|v| !(v.is_finite() && v > 0.0)) {
            return usage("--smooth-value has to be above 0");
        }
        Ok(match (self.smooth, self.smooth_value) {
            (SmoothingArg::Floor, value) => Smoothing::Floor(value.unwrap_or(0.1)),
            (SmoothingArg::AddK, value) => Smoothing::AddK(value.unwrap_or(1.0)),
            (_, Some(_)) => return usage("--smooth-value goes with --smooth floor and add-k only"),
            (SmoothingArg::None, None) => Smoothing::None,
            (SmoothingArg::Exp, None) => Smoothing::Exp,
        })
    }

    pub fn run(&self) -> Result<()> {
        let bleu = Bleu {
            tokenizer: self.tokenize.into(),
            smoothing: self.smoothing()?,
            effective_order: self.effective_order,
            lowercase: self.lowercase,
        };
        let single = Bleu { effective_order: true, ..bleu };
        let loaded = self.texts.load(None)?;
        measure(&bleu, &single, 2, &self.texts, &loaded.corpus()?, &self.output, |scored, shown| {
            let detail = bleu.detail(&scored.sums);
            let precisions: Vec<String> = detail.precisions.iter().map(|p| format!("{p:.1}")).collect();
            let (own, theirs) = (detail.hypothesis_words, detail.reference_words);
            let (precisions, penalty) = (precisions.join(" / "), detail.brevity_penalty);
            shown.lines.push(format!("precisions {precisions}, brevity penalty {penalty:.3}, {own} words to {theirs}"));
            shown.more.insert("precisions".into(), json!(detail.precisions));
            shown.more.insert("brevity_penalty".into(), json!(detail.brevity_penalty));
            shown.more.insert("hypothesis_words".into(), json!(own));
            shown.more.insert("reference_words".into(), json!(theirs));
        })
    }
}

/// What chrF and chrF++ share.
#[derive(Args)]
struct ChrfFlags {
    #[command(flatten)]
    texts: Texts,
    /// The longest character n-grams
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=6))]
    char_order: u32,
    /// How many times as much recall weighs as precision
    #[arg(long, value_name = "B", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    beta: u32,
    /// Ignore upper and lower case
    #[arg(long)]
    lowercase: bool,
    /// Let whitespace count among the characters
    #[arg(long)]
    whitespace: bool,
    /// Average the F-scores of all orders, as chrF++.py, NLTK and Moses do
    #[arg(long)]
    eps_smoothing: bool,
    #[command(flatten)]
    output: Output,
}

impl ChrfFlags {
    fn run(&self, word_order: u32) -> Result<()> {
        let mut chrf = Chrf::default().with_orders(self.char_order, word_order);
        chrf.beta = self.beta;
        chrf.lowercase = self.lowercase;
        chrf.whitespace = self.whitespace;
        chrf.epsilon_smoothing = self.eps_smoothing;
        let loaded = self.texts.load(None)?;
        measure(&chrf, &chrf, 2, &self.texts, &loaded.corpus()?, &self.output, |_, _| ())
    }
}

/// chrF: the F-score of character n-grams (sacrebleu), 0 to 100
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric chrf --ref refs.txt --hyp out.txt
  porism measure metric chrf --char-order 4 --lowercase --ref refs.txt --hyp out.txt --json")]
pub struct ChrfArgs {
    #[command(flatten)]
    flags: ChrfFlags,
    /// The longest word n-grams that join the characters
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=4))]
    word_order: u32,
}

impl ChrfArgs {
    pub fn run(&self) -> Result<()> {
        self.flags.run(self.word_order)
    }
}

/// chrF++: chrF with word 1-grams and 2-grams beside the characters (sacrebleu), 0 to 100
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric chrf++ --ref refs.txt --hyp out.txt
  porism measure metric chrf++ --ref a.txt b.txt --hyp out.txt --sentence")]
pub struct ChrfPlusPlusArgs {
    #[command(flatten)]
    flags: ChrfFlags,
}

impl ChrfPlusPlusArgs {
    pub fn run(&self) -> Result<()> {
        self.flags.run(2)
    }
}

/// TER: edits for each hundred words of the reference, moved runs of words among them (sacrebleu); less is better
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric ter --ref refs.txt --hyp out.txt
  porism measure metric ter --normalized --no-punct --ref refs.txt --hyp out.txt --json")]
pub struct TerArgs {
    #[command(flatten)]
    texts: Texts,
    /// Set punctuation off from words, and undo XML's escapes
    #[arg(long)]
    normalized: bool,
    /// Remove punctuation
    #[arg(long)]
    no_punct: bool,
    /// Let these two know Chinese and Japanese
    #[arg(long)]
    asian_support: bool,
    /// Tell upper from lower case
    #[arg(long)]
    case_sensitive: bool,
    #[command(flatten)]
    output: Output,
}

impl TerArgs {
    pub fn run(&self) -> Result<()> {
        let ter = Ter {
            normalized: self.normalized,
            no_punctuation: self.no_punct,
            asian_support: self.asian_support,
            case_sensitive: self.case_sensitive,
        };
        if self.asian_support && !self.normalized && !self.no_punct {
            say("note: --asian-support changes nothing without --normalized or --no-punct");
        }
        let loaded = self.texts.load(None)?;
        measure(&ter, &ter, 2, &self.texts, &loaded.corpus()?, &self.output, |_, _| ())
    }
}

/// What all of ROUGE shares.
#[derive(Args)]
struct RougeFlags {
    #[command(flatten)]
    texts: Texts,
    /// Compare stems of words: Porter's, with NLTK's extensions
    #[arg(long)]
    stem: bool,
    #[command(flatten)]
    output: Output,
}

impl RougeFlags {
    fn run(&self, kind: RougeKind, line_break: Option<&str>) -> Result<()> {
        let rouge = Rouge { kind, stemmed: self.stem };
        let loaded = self.texts.load(line_break)?;
        measure(&rouge, &rouge, 4, &self.texts, &loaded.corpus()?, &self.output, |scored, shown| {
            let [precision, recall] = [1, 2].map(|column| scored.sums[column] / shown.segments as f64);
            shown.lines.push(format!("precision {precision:.4}, recall {recall:.4}"));
            shown.more.insert("precision".into(), json!(precision));
            shown.more.insert("recall".into(), json!(recall));
        })
    }
}

/// ROUGE-1: the F-score of common words (rouge_score), 0 to 1
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric rouge1 --ref refs.txt --hyp out.txt
  porism measure metric rouge1 --stem --ref refs.txt --hyp out.txt --json")]
pub struct Rouge1Args {
    #[command(flatten)]
    flags: RougeFlags,
}

/// ROUGE-2: the F-score of common pairs of words (rouge_score), 0 to 1
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric rouge2 --ref refs.txt --hyp out.txt
  porism measure metric rouge2 --stem --ref refs.txt --hyp out.txt --json")]
pub struct Rouge2Args {
    #[command(flatten)]
    flags: RougeFlags,
}

/// ROUGE-L: the F-score of the longest common subsequence (rouge_score), 0 to 1
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric rougeL --ref refs.txt --hyp out.txt
  porism measure metric rougeL --stem --ref a.txt b.txt --hyp out.txt --json")]
pub struct RougeLArgs {
    #[command(flatten)]
    flags: RougeFlags,
}

/// ROUGE-Lsum: the union of longest common subsequences, line by line (rouge_score), 0 to 1
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric rougeLsum --line-break '<n>' --ref refs.txt --hyp out.txt
  porism measure metric rougeLsum --stem --ref refs.txt --hyp out.txt --json")]
pub struct RougeLsumArgs {
    #[command(flatten)]
    flags: RougeFlags,
    /// What stands for a line break within a segment
    #[arg(long, value_name = "MARK", default_value = "\\n")]
    line_break: String,
}

impl Rouge1Args {
    pub fn run(&self) -> Result<()> {
        self.flags.run(RougeKind::N(1), None)
    }
}

impl Rouge2Args {
    pub fn run(&self) -> Result<()> {
        self.flags.run(RougeKind::N(2), None)
    }
}

impl RougeLArgs {
    pub fn run(&self) -> Result<()> {
        self.flags.run(RougeKind::L, None)
    }
}

impl RougeLsumArgs {
    pub fn run(&self) -> Result<()> {
        self.flags.run(RougeKind::Lsum, Some(&self.line_break))
    }
}

/// METEOR: words matched by form, stem and synonym, and a penalty for scattered matches (NLTK), 0 to 1
///
/// Synonyms need WordNet's dictionary (Debian: package wordnet-base, folder /usr/share/wordnet). Without it the stages
/// are form and stem, and the signature says so.
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric meteor --wordnet /usr/share/wordnet --ref refs.txt --hyp out.txt
  porism measure metric meteor --tokenize 13a --ref refs.txt --hyp out.txt --json")]
pub struct MeteorArgs {
    #[command(flatten)]
    texts: Texts,
    /// The folder with WordNet's index.*, data.* and *.exc
    #[arg(long, value_name = "DIR")]
    wordnet: Option<PathBuf>,
    /// How text is cut into words; NLTK leaves that to its user
    #[arg(long, value_enum, value_name = "NAME", default_value_t = TokenizerArg::None)]
    tokenize: TokenizerArg,
    #[command(flatten)]
    output: Output,
}

impl MeteorArgs {
    pub fn run(&self) -> Result<()> {
        let wordnet = match &self.wordnet {
            Some(folder) => Some(Arc::new(WordNet::open(folder)?)),
            None => {
                say("note: no synonyms are matched without --wordnet DIR (Debian: package wordnet-base)");
                None
            }
        };
        let meteor = Meteor { tokenizer: self.tokenize.into(), wordnet, ..Meteor::default() };
        let loaded = self.texts.load(None)?;
        measure(&meteor, &meteor, 4, &self.texts, &loaded.corpus()?, &self.output, |_, _| ())
    }
}

/// The share of answers that equal a reference, case, punctuation and articles aside (SQuAD), 0 to 100
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric exact_match --ref answers.txt --hyp out.txt
  porism measure metric exact_match --ref a.txt b.txt c.txt --hyp out.txt --json")]
pub struct ExactMatchArgs {
    #[command(flatten)]
    texts: Texts,
    #[command(flatten)]
    output: Output,
}

impl ExactMatchArgs {
    pub fn run(&self) -> Result<()> {
        let loaded = self.texts.load(None)?;
        measure(&ExactMatch, &ExactMatch, 2, &self.texts, &loaded.corpus()?, &self.output, |_, _| ())
    }
}

/// The F-score of the words that answer and reference share, case, punctuation and articles aside (SQuAD 2.0), 0 to 100
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric f1 --ref answers.txt --hyp out.txt
  porism measure metric f1 --ref a.txt b.txt --hyp out.txt --sentence --json")]
pub struct TokenF1Args {
    #[command(flatten)]
    texts: Texts,
    #[command(flatten)]
    output: Output,
}

impl TokenF1Args {
    pub fn run(&self) -> Result<()> {
        let loaded = self.texts.load(None)?;
        measure(&TokenF1, &TokenF1, 2, &self.texts, &loaded.corpus()?, &self.output, |_, _| ())
    }
}
