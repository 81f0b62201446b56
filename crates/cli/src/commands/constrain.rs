//! The flags that say what an answer has to be.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use porism_generate::{Constrainer, Constraint, Grammar};
use porism_text::Tokenizer;

use crate::context::say;

/// What an answer has to be.
#[derive(Args)]
#[group(multiple = false)]
pub struct ConstrainArgs {
    /// Answer with JSON that the schema in this file allows
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,
    /// Answer with text that this regular expression matches as a whole
    #[arg(long, value_name = "R")]
    regex: Option<String>,
    /// Answer with text that the grammar in this file makes, in the Lark notation of llguidance
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,
}

/// A grammar's text and where it came from.
pub struct Source {
    kind: Kind,
    name: String,
    text: String,
}

enum Kind {
    JsonSchema,
    Regex,
    Lark,
}

impl ConstrainArgs {
    /// The grammar that was asked for.
    pub fn read(&self) -> Result<Option<Source>> {
        let file = |kind: Kind, path: &PathBuf| {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the grammar from {name}"))?;
            Ok(Source { kind, name, text })
        };
        let schema = self.json_schema.as_ref().map(|path| file(Kind::JsonSchema, path));
        let regex = self.regex.clone().map(|text| Ok(Source { kind: Kind::Regex, name: "--regex".into(), text }));
        let lark = self.grammar.as_ref().map(|path| file(Kind::Lark, path));
        schema.or(regex).or(lark).transpose()
    }
}

impl Source {
    /// The constraint, over a model's vocabulary.
    pub fn compile(&self, tokenizer: &Tokenizer) -> Result<Constraint> {
        let grammar = match self.kind {
            Kind::JsonSchema => Grammar::JsonSchema(&self.text),
            Kind::Regex => Grammar::Regex(&self.text),
            Kind::Lark => Grammar::Lark(&self.text),
        };
        Constrainer::new(tokenizer)?.compile(grammar).with_context(|| self.name.clone())
    }
}

/// Says so if an answer ended before it was what it has to be.
pub fn note_incomplete(constrained: Option<(&'static str, bool)>) {
    if let Some((name, false)) = constrained {
        let name = name.replace('_', " ");
        say(&format!("note: the answer ended before it was whole by the {name}; raise --max-tokens"));
    }
}
