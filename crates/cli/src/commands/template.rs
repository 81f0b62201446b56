//! `porism template`: a chat as the prompt that the model's own template makes of it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use porism_text::{Chat, ChatTemplate};

use super::input;
use crate::context::Context;
use crate::output;

/// A chat file as the prompt that the model sees
#[derive(Args)]
#[command(after_help = "Examples:
  porism template chat.json
  porism template chat.json | porism tokenize --no-add-special
  echo '[{\"role\": \"user\", \"content\": \"Hello\"}]' | porism template -

A chat file is an array of messages, or an object with `messages` and
optionally `tools`.")]
pub struct TemplateArgs {
    /// The chat file, JSON (- is standard input)
    #[arg(value_name = "CHAT.json")]
    chat: PathBuf,
    /// End after the last message, not where the assistant's answer begins
    #[arg(long)]
    no_generation_prompt: bool,
    /// Whose template: a path (a GGUF file with a vocabulary only will do), a name of the catalogue, or
    /// owner/repo[:quant|/file] [default: smollm2-135m-instruct]
    #[arg(short, long)]
    model: Option<String>,
}

pub fn run(args: TemplateArgs, context: &Context) -> Result<()> {
    let chat = Chat::parse(&input::name_of(&args.chat), &input::text_of(&args.chat)?)?;
    let (path, source) = context.open(args.model.as_deref())?;
    let tokenizer = source.tokenizer().with_context(|| format!("{}: no usable tokenizer", path.display()))?;
    let template = ChatTemplate::of(&tokenizer)
        .with_context(|| path.display().to_string())?
        .with_context(|| format!("{} has no chat template: it is not made for chats", path.display()))?;
    let prompt = template.render(&chat.messages, !args.no_generation_prompt, chat.tools.as_ref())?;
    output::text(&prompt)
}
