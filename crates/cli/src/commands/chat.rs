//! The chat of `porism run`: a conversation at a terminal.

use std::path::Path;

use anyhow::{Context as _, Result};
use porism_formats::AtomicFile;
use porism_generate::{Session, StopReason};
use porism_text::{ChatTemplate, Message};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::constrain::note_incomplete;
use super::run::{Settings, speeds};
use crate::context::{Loaded, say};
use crate::output;

const HELP: &str = "/system TEXT  set the system message and begin anew (without TEXT: show it)
/clear        forget the conversation
/save FILE    write the conversation as JSON
/help         this
/exit         leave (also Ctrl-D)
End a line with \\ to go on in the next one. Ctrl-C stops the answer.";

/// Reads, answers, repeats.
pub(super) fn chat(
    session: &mut Session<'_>,
    loaded: &Loaded,
    template: &ChatTemplate,
    settings: &Settings,
    mut system: Option<String>,
) -> Result<()> {
    let mut editor = DefaultEditor::new().context("cannot read from this terminal")?;
    let mut messages: Vec<Message> = Vec::new();
    say(&format!("{}: type a message, /help for more.", loaded.path.display()));
    loop {
        let Some(line) = read(&mut editor)? else { return Ok(()) };
        if line.trim().is_empty() {
            continue;
        }
        let _ = editor.add_history_entry(line.as_str());
        if let Some(command) = line.trim().strip_prefix('/') {
            let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
            match (word, rest.trim()) {
                ("exit" | "quit" | "bye", _) => return Ok(()),
                ("help", _) => say(HELP),
                ("clear", _) => messages.clear(),
                ("system", "") => {
                    say(system.as_deref().unwrap_or("no system message of yours; the template's own applies"))
                }
                ("system", text) => {
                    system = Some(text.to_string());
                    messages.clear();
                }
                ("save", "") => say("where to? /save FILE"),
                ("save", file) => match save(Path::new(file), &with_system(&system, &messages)) {
                    Ok(()) => say(&format!("saved {} messages to {file}", messages.len())),
                    Err(error) => say(&format!("error: {error:#}")),
                },
                (other, _) => say(&format!("no command /{other}; /help lists them")),
            }
            continue;
        }
        messages.push(Message::new("user", line));
        match answer(session, loaded, template, settings, &with_system(&system, &messages)) {
            Ok(text) => messages.push(Message::new("assistant", text)),
            Err(error) if output::is_closed_pipe(&error) => return Err(error),
            Err(error) => {
                // The conversation stays as it was, so that the person can say it differently.
                messages.pop();
                say(&format!("error: {error:#}"));
            }
        }
    }
}

/// A message, perhaps of several lines; `None` at the end.
fn read(editor: &mut DefaultEditor) -> Result<Option<String>> {
    let mut text = String::new();
    loop {
        match editor.readline(if text.is_empty() { "> " } else { ". " }) {
            Ok(line) => match line.strip_suffix('\\') {
                Some(line) => {
                    text.push_str(line);
                    text.push('\n');
                }
                None => return Ok(Some(text + &line)),
            },
            // Ctrl-C at the prompt drops what was typed.
            Err(ReadlineError::Interrupted) => text.clear(),
            Err(ReadlineError::Eof) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn with_system(system: &Option<String>, messages: &[Message]) -> Vec<Message> {
    system.iter().map(|s| Message::new("system", s.as_str())).chain(messages.iter().cloned()).collect()
}

fn answer(
    session: &mut Session<'_>,
    loaded: &Loaded,
    template: &ChatTemplate,
    settings: &Settings,
    messages: &[Message],
) -> Result<String> {
    let prompt = template.render(messages, true, None)?;
    let ids = loaded.tokenizer.encode(&prompt, false, true)?;
    let outcome = settings.answer(session, &ids, 0, true)?;
    output::line("")?;
    if outcome.stop_reason == StopReason::Context {
        say("note: the context is full; /clear begins anew, --overflow slide goes on");
    }
    note_incomplete(settings.constrained());
    say(&speeds(&outcome, None, session.activations()));
    Ok(outcome.text)
}

fn save(file: &Path, messages: &[Message]) -> Result<()> {
    let mut out = AtomicFile::create(file)?;
    serde_json::to_writer_pretty(&mut out, &serde_json::json!({ "messages": messages }))?;
    Ok(out.commit()?)
}
