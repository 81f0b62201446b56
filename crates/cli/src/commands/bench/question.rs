//! What the first-token row asks, and the command that asks it.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use porism_kernels::Isa;
use porism_measure::bench::RowSpec;
use porism_text::{ChatTemplate, Message};

use super::BenchArgs;
use crate::context::Loaded;

/// What the first-token test asks.
const QUESTION: &str = "What is the capital of France?";
/// Tokens of its answer: enough for the program to be alive when it is asked for its memory.
const ANSWER: &str = "16";

/// A short question, and how `run` is asked it.
pub(super) struct Question {
    /// Tokens of the prompt that it becomes.
    pub(super) tokens: usize,
    raw: bool,
}

impl Question {
    /// As a person would ask: through the chat template where the model has one.
    pub(super) fn of(loaded: &Loaded) -> Result<Question> {
        let tokenizer = &loaded.tokenizer;
        match ChatTemplate::of(tokenizer)? {
            None => Ok(Question { tokens: tokenizer.encode(QUESTION, true, true)?.len(), raw: true }),
            Some(template) => {
                let text = template.render(&[Message::new("user", QUESTION)], true, None)?;
                Ok(Question { tokens: tokenizer.encode(&text, false, true)?.len(), raw: false })
            }
        }
    }

    /// The command that asks it of a model with a row's threads and modes.
    pub(super) fn command(&self, program: &Path, isa: Isa, spec: &RowSpec, model: &Path, args: &BenchArgs) -> Command {
        let mut command = Command::new(program);
        command
            .args(["run", QUESTION, "--temperature", "0", "--max-tokens", ANSWER])
            .args(["--threads", &spec.threads.to_string(), "--kv-type", spec.kv_type.name()])
            .args(["--activations", spec.activations.name(), "--isa", isa.name()])
            .args(self.raw.then_some("--raw"))
            .args(args.mapped.then_some("--mapped"))
            .args(args.adapters.words())
            .arg("--model")
            .arg(model);
        command
    }
}
