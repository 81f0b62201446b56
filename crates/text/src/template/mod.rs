//! [`ChatTemplate`]: a model's own Jinja template, rendered as transformers renders it.
//!
//! transformers runs templates in jinja2 with `trim_blocks`, `lstrip_blocks` and loop controls, its own
//! `tojson` and the functions `raise_exception` and `strftime_now`; minijinja gets the same here, and the
//! methods of Python's strings, lists and dicts that templates call. A `{% generation %}` block (which
//! marks what a model is trained on) renders its contents.
//!
//! A template comes with a model from anywhere: it cannot read files, and work, memory and recursion are
//! bounded, so that a hostile one ends with an error.

mod bounded;
mod clock;
mod json;
mod python;
mod rewrite;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;
use serde_json::{Map, Value};

use bounded::Bounds;
pub use clock::LocalTime;

use crate::{Error, Message, Result, Tokenizer};

/// No template may be longer, in bytes; the longest in use have about 30 KB.
const MAX_SOURCE: usize = 1 << 20;
/// Steps, and 64-byte pieces of data, that a rendering may take beside what its input's size allows.
const FUEL: u64 = 500_000;
/// Parts and bytes that one of its values may have beside what its input's size allows.
const MAX_PARTS: usize = 30_000;
const MAX_BYTES: usize = 1 << 20;
/// Nesting of blocks, calls and macros.
const RECURSION: usize = 200;
/// The name that the engine knows the template by.
const NAME: &str = "chat";

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    time: Option<LocalTime>,
}

/// What a template is rendered with, beside the messages.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RenderOptions {
    /// The prompt ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// An array of tool descriptions, for templates that know tools.
    pub tools: Option<Value>,
    /// Further variables, such as `enable_thinking`. The names of what a template always sees are not taken.
    pub variables: Map<String, Value>,
}

/// What a template sees.
#[derive(Serialize)]
struct Context<'a, M> {
    #[serde(flatten)]
    variables: &'a Map<String, Value>,
    messages: M,
    tools: Option<&'a Value>,
    documents: Option<&'a Value>,
    add_generation_prompt: bool,
    bos_token: &'a str,
    eos_token: &'a str,
}

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the texts of the tokens; empty if there are none.
    ///
    /// # Errors
    /// The template is no valid Jinja, or has more than a megabyte.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<ChatTemplate> {
        if source.len() > MAX_SOURCE {
            let message = format!("{} bytes are too many, at most {MAX_SOURCE}", source.len());
            return Err(Error::Template { line: None, message });
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| explain(&e))?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_recursion_limit(RECURSION);
        python::install(&mut environment);
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<String, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        let source =
            rewrite::rewrite(source).map_err(|(line, message)| Error::Template { line: Some(line), message })?;
        environment.add_template_owned(NAME, source).map_err(|e| explain(&e))?;
        Ok(ChatTemplate { environment, bos: bos.to_owned(), eos: eos.to_owned(), time: None })
    }

    /// The default template of a tokenizer; None if it has none.
    ///
    /// # Errors
    /// The template is no valid Jinja.
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        let source = tokenizer.chat_template();
        source.map(|s| ChatTemplate::new(s, text(tokenizer.bos()), text(tokenizer.eos()))).transpose()
    }

    /// Fixes the time that `strftime_now` tells; without it, it is the system's clock in UTC.
    #[must_use]
    pub fn with_time(mut self, time: LocalTime) -> ChatTemplate {
        self.time = Some(time);
        self
    }

    /// The prompt for these messages; with `add_generation_prompt` it ends where the assistant's answer
    /// begins. `tools` is an array of tool descriptions, for templates that know tools.
    ///
    /// # Errors
    /// The template refuses the messages (`raise_exception`: the error has its words), fails, or takes
    /// more work or memory than the size of its input justifies.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool, tools: Option<&Value>) -> Result<String> {
        self.render_context(messages, add_generation_prompt, tools, &Map::new())
    }

    /// The same with more to say: see [`RenderOptions`].
    ///
    /// # Errors
    /// As for [`ChatTemplate::render`].
    pub fn render_with(&self, messages: &[Message], options: &RenderOptions) -> Result<String> {
        let RenderOptions { add_generation_prompt, tools, variables } = options;
        self.render_context(messages, *add_generation_prompt, tools.as_ref(), variables)
    }

    fn render_context(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        tools: Option<&Value>,
        variables: &Map<String, Value>,
    ) -> Result<String> {
        let known = ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"];
        let size = size_of_messages(messages) + tools.map_or(0, |t| t.to_string().len());
        let size = size + variables.iter().map(|(name, value)| name.len() + value.to_string().len()).sum::<usize>();
        let free = variables.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        let variables = &free.map(|(name, value)| (name.clone(), value.clone())).collect();
        let context = Context {
            variables,
            messages,
            tools,
            documents: None,
            add_generation_prompt,
            bos_token: &self.bos,
            eos_token: &self.eos,
        };
        let mut environment = self.environment.clone();
        // A template may go over its input some dozens of times.
        environment.set_fuel(Some(FUEL.saturating_add(size as u64)));
        let bounds = Bounds { parts: MAX_PARTS.saturating_add(size), bytes: MAX_BYTES.saturating_add(8 * size) };
        bounded::install(&mut environment, bounds);
        let time = self.time.unwrap_or_else(LocalTime::now_utc);
        environment.add_function("strftime_now", move |format: String| {
            time.format(&format).map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e))
        });
        let template = environment.get_template(NAME).map_err(|e| explain(&e))?;
        template.render(Serde(&context)).map_err(|e| explain(&e))
    }
}

fn size_of_messages(messages: &[Message]) -> usize {
    let extra = |m: &Message| match m.extra.is_empty() {
        true => 0,
        false => Value::Object(m.extra.clone()).to_string().len(),
    };
    messages.iter().map(|m| m.role.len() + m.content.len() + extra(m) + 64).sum()
}

/// The engine's error in our words, with the innermost line that it knows.
fn explain(error: &minijinja::Error) -> Error {
    let message = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => {
            "it takes more work or memory than its messages justify, and was stopped".to_owned()
        }
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    Error::Template { line: error.line(), message }
}
