//! Constrained decoding: answers that a grammar allows, by llguidance's parser over the tokens' bytes.
//!
//! A [`Constrainer`] holds a vocabulary as a tree of byte strings; [`Constrainer::compile`] makes a [`Constraint`] of a JSON
//! schema, a regular expression or a grammar in Lark's notation. At each token the constraint says which tokens may come
//! next: those whose bytes the grammar can go on with, and the end of generation where the answer is whole.

use std::sync::Arc;

use llguidance::api::{ParserLimits, StopReason, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use porism_text::Tokenizer;

use crate::sample::TokenMask;
use crate::{Error, Result};

/// What an answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar<'a> {
    /// JSON that a schema allows: the schema's text. A keyword that cannot be honoured is an error.
    JsonSchema(&'a str),
    /// Text that a regular expression matches as a whole.
    Regex(&'a str),
    /// Text that a grammar makes, in llguidance's dialect of Lark.
    Lark(&'a str),
}

impl Grammar<'_> {
    /// The name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Grammar::JsonSchema(_) => "json_schema",
            Grammar::Regex(_) => "regex",
            Grammar::Lark(_) => "grammar",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Grammar::JsonSchema(_) => "JSON schema",
            Grammar::Regex(_) => "regular expression",
            Grammar::Lark(_) => "grammar",
        }
    }
}

/// A vocabulary, ready for grammars.
pub struct Constrainer {
    factory: ParserFactory,
}

impl std::fmt::Debug for Constrainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Constrainer")
    }
}

impl Constrainer {
    /// Reads a tokenizer's vocabulary.
    ///
    /// # Errors
    /// It has no token that ends a generation: nothing would end an answer.
    pub fn new(tokenizer: &Tokenizer) -> Result<Constrainer> {
        let size = tokenizer.vocab_size();
        let mut ends: Vec<u32> = tokenizer.end_of_generation_ids().to_vec();
        ends.extend(tokenizer.eos());
        ends.retain(|&id| (id as usize) < size);
        ends.sort_unstable();
        ends.dedup();
        let (Some(&first), Ok(vocab_size)) = (ends.first(), u32::try_from(size)) else {
            return Err(Error::Grammar("the vocabulary has no token that ends an answer".into()));
        };
        let words: Vec<Vec<u8>> = (0..vocab_size).map(|id| word(tokenizer, id)).collect();
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size, first), &words).with_eos_tokens(&ends);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|e| Error::Grammar(e.to_string()))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
        Ok(Constrainer { factory })
    }

    /// Makes a constraint of a grammar.
    ///
    /// # Errors
    /// It cannot be read, asks for something that cannot be honoured, is too large, or allows no answer at all.
    pub fn compile(&self, grammar: Grammar<'_>) -> Result<Constraint> {
        let wrong = |what: String| Error::Grammar(format!("the {}: {what}", grammar.words()));
        let source = match grammar {
            Grammar::JsonSchema(text) => {
                TopLevelGrammar::from_json_schema(serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?)
            }
            Grammar::Regex(text) => TopLevelGrammar::from_regex(text),
            Grammar::Lark(text) => TopLevelGrammar::from_lark(text.to_owned()),
        };
        let mut matcher = Matcher::new(self.factory.create_parser(source));
        if let Some(error) = matcher.get_error() {
            return Err(wrong(error));
        }
        if let Some(warning) = matcher.grammar_warnings().into_iter().next() {
            return Err(wrong(warning));
        }
        let first = matcher.compute_mask_or_eos().map_err(|e| wrong(e.to_string()))?;
        if first.is_zero() {
            return Err(wrong("no token of the vocabulary can begin an answer".into()));
        }
        Ok(Constraint { name: grammar.name(), now: matcher.deep_clone(), fresh: matcher })
    }
}

/// A token's bytes as the tree wants them: special tokens behind a byte that no text has.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    if tokenizer.is_special(id) || tokenizer.end_of_generation(id) {
        let text = tokenizer.token_text(id).unwrap_or_default();
        return [&[TokTrie::SPECIAL_TOKEN_MARKER], text.as_bytes()].concat();
    }
    tokenizer.token_bytes(id).unwrap_or_default()
}

/// A grammar, and how far an answer has come in it.
pub struct Constraint {
    name: &'static str,
    fresh: Matcher,
    now: Matcher,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Constraint({})", self.name)
    }
}

/// Tokens that may come next.
#[derive(Debug)]
pub struct Allowed(SimpleVob);

impl TokenMask for Allowed {
    fn allows(&self, id: u32) -> bool {
        (id as usize) < self.0.len() && self.0.is_allowed(id)
    }
}

impl Constraint {
    /// The kind of grammar.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Begins a new answer.
    pub fn begin(&mut self) {
        self.now = self.fresh.deep_clone();
    }

    /// The tokens that may come next.
    ///
    /// # Errors
    /// The grammar takes more work at this point than is allowed.
    pub fn allowed(&mut self) -> Result<Allowed> {
        self.now.compute_mask_or_eos().map(Allowed).map_err(|e| Error::Grammar(e.to_string()))
    }

    /// Takes the token that came. True if nothing but the end can follow.
    ///
    /// # Errors
    /// The token was not allowed.
    pub fn take(&mut self, id: u32) -> Result<bool> {
        self.now.consume_token(id).map_err(|e| Error::Grammar(e.to_string()))?;
        Ok(self.now.is_stopped())
    }

    /// Whether the answer so far is one that the grammar allows.
    pub fn complete(&mut self) -> bool {
        match self.now.stop_reason() {
            StopReason::NotStopped => self.now.is_accepting().unwrap_or(false),
            StopReason::NoExtension | StopReason::NoExtensionBias | StopReason::EndOfSentence => true,
            _ => false,
        }
    }
}
