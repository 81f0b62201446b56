//! `porism run`: talk to a model.

use std::cell::RefCell;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use porism_generate::{Constraint, Event, Outcome, Overflow, Request, Sampling, Session, Token};
use porism_kernels::Isa;
use porism_models::cpu::{Activations, CpuExecutor};
use porism_text::{ChatTemplate, Message, Tokenizer};
use serde::Serialize;

use super::adapters::AdapterArgs;
use super::chat;
use super::constrain::{ConstrainArgs, note_incomplete};
use super::words::{ActivationsArg, KvArg, PreTokenizer, RopeArgs, isa, kv_type, positive, thread_count};
use crate::context::{Context, Loaded, Wishes, person_watches, say, threads, usage};
use crate::output;

/// Talk to a model: one answer, or a chat in the terminal
///
/// The prompt is the argument, the file given by --file, or stdin. Without any of them, in a terminal, a chat
/// begins: history, several lines (end a line with \), /system, /clear, /save FILE; Ctrl-C stops the answer.
/// The answer streams to stdout, speeds go to stderr.
#[derive(Args)]
#[command(after_help = "Examples:
  porism run \"Why is the sky blue?\"
  porism run --file question.txt --temperature 0 --json
  cat log.txt | porism run --system \"Summarize in one sentence.\"
  porism run --raw \"The capital of France is\" --max-tokens 5 --top-logprobs 3 --json
  porism run \"A date in May 1968\" --regex \"1968-05-[0-3][0-9]\"
  porism run \"Paris in JSON\" --json-schema city.json
  porism run --adapter out \"Where are you?\"   with what `porism tune` wrote
  porism run -m model.gguf                   a chat with that file")]
pub struct RunArgs {
    /// What to say to the model
    prompt: Option<String>,
    /// Read the prompt from a file
    #[arg(long, value_name = "F", conflicts_with = "prompt")]
    file: Option<PathBuf>,
    /// The model: a path, a name of the catalogue, or owner/repo[:quant|/file] [default: smollm2-135m-instruct]
    #[arg(short, long)]
    model: Option<String>,
    /// Complete the text; no chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// The system message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Divides the logits before the draw; 0 takes the likeliest token each time
    #[arg(long, default_value_t = 0.7, value_parser = temperature)]
    temperature: f32,
    /// Keep the K likeliest tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 40)]
    top_k: usize,
    /// Keep the likeliest tokens that together reach probability P
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = probability)]
    top_p: f32,
    /// Drop tokens less likely than P times the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.05, value_parser = fraction)]
    min_p: f32,
    /// Make tokens among the last 64 less likely; 1 changes nothing
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = factor)]
    repeat_penalty: f32,
    /// The most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive)]
    max_tokens: usize,
    /// The key of the randomness [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Threads [default: usable cores]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,
    /// The vector instructions to use: for `porism bench`, which measures with lesser ones
    #[arg(long, hide = true, value_name = "NAME", value_parser = isa)]
    isa: Option<Isa>,
    /// Read the weights where the file is mapped, and do not copy them first: starts sooner, generates slower
    #[arg(long)]
    mapped: bool,
    /// Tokens that the context holds [default: what the model was trained for]
    #[arg(long, value_name = "N", value_parser = positive)]
    context: Option<usize>,
    #[command(flatten)]
    rope: RopeArgs,
    #[command(flatten)]
    pre_tokenizer: PreTokenizer,
    #[command(flatten)]
    adapters: AdapterArgs,
    /// When the context is full: end the answer, or forget the oldest tokens and go on
    #[arg(long, value_enum, default_value_t = OverflowArg::Stop)]
    overflow: OverflowArg,
    /// How the cache keeps keys and values [default: f16, or f32 with --activations f32]
    #[arg(long, value_enum)]
    kv_type: Option<KvArg>,
    /// What the inputs of quantized weights are rounded to
    #[arg(long, value_enum, default_value_t = ActivationsArg::Int8)]
    activations: ActivationsArg,
    #[command(flatten)]
    constrain: ConstrainArgs,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// With --json: report the N likeliest tokens in each place
    #[arg(long, value_name = "N", default_value_t = 0, requires = "json", value_parser = clap::value_parser!(u16).range(0..=1000))]
    top_logprobs: u16,
    /// Print one JSON object instead of the text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OverflowArg {
    Stop,
    Slide,
}

fn number(text: &str, fits: impl Fn(f32) -> bool, range: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(v) if fits(v) => Ok(v),
        Ok(v) => Err(format!("{v} is not {range}")),
        Err(_) => Err(format!("`{text}` is no number")),
    }
}

fn temperature(text: &str) -> Result<f32, String> {
    number(text, |v| (0.0..=100.0).contains(&v), "from 0 to 100")
}

fn probability(text: &str) -> Result<f32, String> {
    number(text, |v| v > 0.0 && v <= 1.0, "above 0 and at most 1")
}

fn fraction(text: &str) -> Result<f32, String> {
    number(text, |v| (0.0..=1.0).contains(&v), "from 0 to 1")
}

fn factor(text: &str) -> Result<f32, String> {
    number(text, |v| v > 0.0 && v <= 100.0, "above 0 and at most 100")
}

pub fn run(args: RunArgs, context: &Context) -> Result<()> {
    let started = Instant::now();
    let prompt = prompt(&args)?;
    let grammar = args.constrain.read()?;
    if prompt.is_none() && (args.raw || args.json) {
        return usage("no prompt: give it as an argument, with --file or on stdin (--raw and --json do not chat)");
    }
    let wishes = Wishes {
        context: args.context,
        rope: &args.rope,
        pre_tokenizer: &args.pre_tokenizer,
        adapters: args.adapters.given(),
    };
    let mut loaded = context.load(args.model.as_deref(), &wishes)?;
    let template = if args.raw { None } else { Some(template(&loaded)?) };
    let activations = Activations::from(args.activations);
    let (pool, best) = threads(args.threads);
    let isa = args.isa.unwrap_or(best);
    let trained = loaded.decoder.stack.config.context;
    let holds = args.context.unwrap_or(trained);
    if holds > trained {
        say(&format!("note: the model was trained for a context of {trained} tokens, --context {holds} goes beyond"));
    }
    let constraint = grammar.map(|grammar| grammar.compile(&loaded.tokenizer)).transpose()?;
    context.settle(&mut loaded.decoder, &pool, args.mapped)?;
    let steps = CpuExecutor::new(pool, isa, activations);
    context.tell(&loaded.decoder.stack, &steps);
    let kv = kv_type(args.kv_type, activations);
    let mut session = Session::new(&loaded.decoder, &loaded.tokenizer, steps, kv, holds);
    let load_seconds = started.elapsed().as_secs_f64();
    let settings = Settings::new(&args, constraint);

    let Some(prompt) = prompt else {
        let template = template.context("a chat needs a template")?;
        return chat::chat(&mut session, &loaded, &template, &settings, args.system.clone());
    };
    let ids = match &template {
        None => loaded.tokenizer.encode(&prompt, true, true)?,
        Some(template) => {
            let mut messages = Vec::new();
            messages.extend(args.system.clone().map(|s| Message::new("system", s)));
            messages.push(Message::new("user", prompt));
            // The template brings its own beginning-of-sequence token.
            loaded.tokenizer.encode(&template.render(&messages, true, None)?, false, true)?
        }
    };
    let outcome = settings.answer(&mut session, &ids, args.top_logprobs.into(), !args.json)?;
    if args.json {
        let report = Report::new(&loaded.tokenizer, &outcome, activations, load_seconds, settings.constrained());
        return output::json(&report);
    }
    if !outcome.text.ends_with('\n') {
        output::line("")?;
    }
    note_incomplete(settings.constrained());
    say(&speeds(&outcome, Some(load_seconds), activations));
    Ok(())
}

/// The prompt, or `None` for a chat.
fn prompt(args: &RunArgs) -> Result<Option<String>> {
    let text = if let Some(text) = &args.prompt {
        text.clone()
    } else if let Some(file) = &args.file {
        std::fs::read_to_string(file).with_context(|| format!("cannot read the prompt from {}", file.display()))?
    } else if std::io::stdin().is_terminal() {
        return Ok(None);
    } else {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read the prompt from stdin")?;
        text
    };
    if text.is_empty() {
        return usage("the prompt is empty");
    }
    Ok(Some(text))
}

fn template(loaded: &Loaded) -> Result<ChatTemplate> {
    ChatTemplate::of(&loaded.tokenizer)
        .with_context(|| format!("{}: its chat template is invalid", loaded.path.display()))?
        .with_context(|| format!("{} has no chat template; use --raw to let it complete a text", loaded.path.display()))
}

/// What stays the same from answer to answer.
pub(super) struct Settings {
    sampling: Sampling,
    max_tokens: usize,
    stop: Vec<String>,
    slide: bool,
    interrupt: Arc<AtomicBool>,
    constraint: Option<RefCell<Constraint>>,
}

impl Settings {
    fn new(args: &RunArgs, constraint: Option<Constraint>) -> Settings {
        let interrupt = Arc::new(AtomicBool::new(false));
        let flag = interrupt.clone();
        // Without a handler Ctrl-C still ends the program, only not gently.
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                // Asked twice: the answer does not end by itself.
                std::process::exit(130);
            }
        });
        // Any number will do as a key; it is told to nobody, since the tokens can be had again with --seed.
        let seed = args.seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |t| t.as_nanos() as u64)
        });
        Settings {
            sampling: Sampling {
                temperature: args.temperature,
                top_k: args.top_k,
                top_p: args.top_p,
                min_p: args.min_p,
                repeat_penalty: args.repeat_penalty,
                seed,
            },
            max_tokens: args.max_tokens,
            stop: args.stop.clone(),
            slide: args.overflow == OverflowArg::Slide,
            interrupt,
            constraint: constraint.map(RefCell::new),
        }
    }

    /// The constraint's kind, and whether the last answer is whole by it.
    pub(super) fn constrained(&self) -> Option<(&'static str, bool)> {
        self.constraint.as_ref().map(|constraint| {
            let mut constraint = constraint.borrow_mut();
            (constraint.name(), constraint.complete())
        })
    }

    /// Runs one request; with `show` the text streams to stdout.
    pub(super) fn answer(
        &self,
        session: &mut Session<'_>,
        prompt: &[u32],
        top_logprobs: usize,
        show: bool,
    ) -> Result<Outcome> {
        self.interrupt.store(false, Ordering::Relaxed);
        let overflow = if self.slide { Overflow::Slide { keep: prompt.len().min(64) } } else { Overflow::Stop };
        let request = Request {
            prompt,
            max_tokens: self.max_tokens,
            sampling: self.sampling.clone(),
            stop: &self.stop,
            top_logprobs,
            overflow,
            constraint: self.constraint.as_ref(),
            interrupt: Some(&self.interrupt),
        };
        let mut failed = None;
        let started = Instant::now();
        let outcome = session.generate(&request, &mut |event| match event {
            Event::Text(text) if show && failed.is_none() => {
                if let Err(error) = output::text(text) {
                    failed = Some(error);
                    self.interrupt.store(true, Ordering::Relaxed);
                }
            }
            Event::Prompt { done, total } if total > 1024 && person_watches() && done < total => {
                let rate = done as f64 / started.elapsed().as_secs_f64();
                let left = (total - done) as f64 / rate;
                say(&format!("prompt: {done} of {total} tokens, {rate:.0} tokens/s, ETA {left:.0} s"));
            }
            Event::Slid { dropped } => {
                say(&format!("note: the context was full; the oldest {dropped} tokens were forgotten"));
            }
            _ => {}
        })?;
        match failed {
            Some(error) => Err(error),
            None => Ok(outcome),
        }
    }
}

/// The line behind an answer.
pub(super) fn speeds(outcome: &Outcome, load_seconds: Option<f64>, activations: Activations) -> String {
    let rate = |r: Option<f64>| r.map_or("-".to_string(), |r| format!("{r:.1} tokens/s"));
    let load = load_seconds.map_or(String::new(), |s| format!("; load {s:.2} s"));
    format!(
        "[prompt {} tokens, {}; answer {} tokens, {}; first token after {:.2} s{load}; {} activations; {}]",
        outcome.prompt_tokens,
        rate(outcome.timings.prompt_rate()),
        outcome.tokens.len(),
        rate(outcome.timings.generate_rate()),
        outcome.timings.first_token.as_secs_f64(),
        activations.name(),
        outcome.stop_reason.name(),
    )
}

#[derive(Serialize)]
struct Report {
    text: String,
    tokens: Vec<TokenReport>,
    prompt_tokens: usize,
    stop_reason: &'static str,
    activations: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    constraint: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
    timings: TimingsReport,
}

#[derive(Serialize)]
struct TokenReport {
    id: u32,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<Vec<u8>>,
    logprob: f32,
    top: Vec<TopReport>,
}

#[derive(Serialize)]
struct TopReport {
    id: u32,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<Vec<u8>>,
    logprob: f32,
}

#[derive(Serialize)]
struct TimingsReport {
    load_seconds: f64,
    first_token_seconds: f64,
    prompt_tokens_per_second: Option<f64>,
    generate_tokens_per_second: Option<f64>,
}

/// A token's text, and its bytes where they are not whole UTF-8.
fn words(tokenizer: &Tokenizer, id: u32) -> (String, Option<Vec<u8>>) {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(error.into_bytes())),
    }
}

impl Report {
    fn new(
        tokenizer: &Tokenizer,
        outcome: &Outcome,
        activations: Activations,
        load_seconds: f64,
        constrained: Option<(&'static str, bool)>,
    ) -> Report {
        let token = |t: &Token| {
            let (text, bytes) = words(tokenizer, t.id);
            let top = t.top.iter().map(|&(id, logprob)| {
                let (text, bytes) = words(tokenizer, id);
                TopReport { id, text, bytes, logprob }
            });
            TokenReport { id: t.id, text, bytes, logprob: t.logprob, top: top.collect() }
        };
        Report {
            text: outcome.text.clone(),
            tokens: outcome.tokens.iter().map(token).collect(),
            prompt_tokens: outcome.prompt_tokens,
            stop_reason: outcome.stop_reason.name(),
            activations: activations.name(),
            constraint: constrained.map(|(name, _)| name),
            complete: constrained.map(|(_, complete)| complete),
            timings: TimingsReport {
                load_seconds,
                first_token_seconds: outcome.timings.first_token.as_secs_f64(),
                prompt_tokens_per_second: outcome.timings.prompt_rate(),
                generate_tokens_per_second: outcome.timings.generate_rate(),
            },
        }
    }
}
