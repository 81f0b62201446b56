//! A session: one sequence's cache, and requests that continue it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::steps::top_k;
use porism_models::{Batch, Decoder, HeadRequest, Mark, SequenceState};
use porism_text::{Tokenizer, Utf8Stream};

use crate::constrain::Constraint;
use crate::sample::{Draw, Sampling, TokenMask};
use crate::stop::StopStrings;
use crate::{Error, Result};

/// Rows of a prompt that are computed at a time. Prompts are cut at absolute multiples of it, so a prefix
/// that is found in the cache changes nothing of what follows.
pub const PROMPT_CHUNK: usize = 256;

/// What happens when the context is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The answer ends.
    Stop,
    /// The oldest half of what follows the first `keep` tokens is forgotten, and the rest computed anew.
    Slide {
        /// Tokens at the beginning that stay.
        keep: usize,
    },
}

/// One request.
pub struct Request<'a> {
    /// The whole prompt; what the session's cache already holds of it is not computed again.
    pub prompt: &'a [u32],
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Strings that end the answer; they are not part of it.
    pub stop: &'a [String],
    /// How many alternatives to report for each token.
    pub top_logprobs: usize,
    /// What happens when the context is full.
    pub overflow: Overflow,
    /// What the answer has to be; it begins anew.
    pub constraint: Option<&'a RefCell<Constraint>>,
    /// Ends the answer when it becomes true.
    pub interrupt: Option<&'a AtomicBool>,
}

impl<'a> Request<'a> {
    /// The likeliest continuation, at most `max_tokens` long.
    pub fn greedy(prompt: &'a [u32], max_tokens: usize) -> Request<'a> {
        Request {
            prompt,
            max_tokens,
            sampling: Sampling::GREEDY,
            stop: &[],
            top_logprobs: 0,
            overflow: Overflow::Stop,
            constraint: None,
            interrupt: None,
        }
    }
}

/// What a request reports while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many of the prompt's tokens have been computed.
    Prompt {
        /// Tokens done, those found in the cache included.
        done: usize,
        /// Tokens in all.
        total: usize,
    },
    /// The context was full; so many tokens were forgotten.
    Slid {
        /// Tokens forgotten.
        dropped: usize,
    },
    /// Text that is final; whole characters only, perhaps of several tokens.
    Text(&'a str),
}

/// A generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its natural log-probability, before temperature and filters.
    pub logprob: f32,
    /// The likeliest tokens in its place, with theirs.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model said so.
    Eos,
    /// A stop string came.
    Stop,
    /// The most tokens were generated.
    Length,
    /// The context is full.
    Context,
    /// The person said so.
    Interrupted,
}

impl StopReason {
    /// The word used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            StopReason::Eos => "eos",
            StopReason::Stop => "stop",
            StopReason::Length => "length",
            StopReason::Context => "context",
            StopReason::Interrupted => "interrupted",
        }
    }
}

/// How long a request took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// From the request to the first token.
    pub first_token: Duration,
    /// Prompt tokens computed, and how long that took.
    pub prompt: (usize, Duration),
    /// Tokens generated after the first, and how long that took.
    pub generated: (usize, Duration),
}

impl Timings {
    /// Prompt tokens a second; `None` if nothing was computed.
    pub fn prompt_rate(&self) -> Option<f64> {
        rate(self.prompt)
    }

    /// Generated tokens a second, the first one not counted; `None` below two tokens.
    pub fn generate_rate(&self) -> Option<f64> {
        rate(self.generated)
    }
}

fn rate((tokens, time): (usize, Duration)) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

/// What a request gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The answer.
    pub text: String,
    /// Its tokens; an end-of-generation token is not among them, the tokens of a stop string are.
    pub tokens: Vec<Token>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// How long it took.
    pub timings: Timings,
}

/// A sequence on the CPU executor, and the tokens that its cache holds.
pub struct Session<'a> {
    decoder: &'a Decoder,
    tokenizer: &'a Tokenizer,
    steps: CpuExecutor,
    states: [CpuState; 1],
    cached: Vec<u32>,
    context: usize,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({} of {} tokens)", self.cached.len(), self.context)
    }
}

impl<'a> Session<'a> {
    /// A session with an empty cache that holds at most `context` tokens.
    pub fn new(
        decoder: &'a Decoder,
        tokenizer: &'a Tokenizer,
        steps: CpuExecutor,
        kv: KvType,
        context: usize,
    ) -> Session<'a> {
        let states = [CpuState::new(&decoder.stack.config, kv)];
        Session { decoder, tokenizer, steps, states, cached: Vec::new(), context }
    }

    /// The mode that the session runs in.
    pub fn activations(&self) -> Activations {
        self.steps.activations()
    }

    /// Tokens that the cache holds.
    pub fn cached(&self) -> &[u32] {
        &self.cached
    }

    /// Runs a request; `report` hears of it as it goes.
    pub fn generate(&mut self, request: &Request<'_>, report: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
        let started = Instant::now();
        if request.prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let mut ids = request.prompt.to_vec();
        if ids.len() >= self.context {
            match request.overflow {
                Overflow::Stop => {
                    return Err(Error::PromptTooLong { tokens: ids.len(), context: self.context });
                }
                Overflow::Slide { keep } => report(Event::Slid { dropped: slide(&mut ids, keep, self.context) }),
            }
        }
        let mut answer = Answer::new(self.tokenizer, request);
        let mut timings = Timings::default();
        let interrupted = || request.interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed));

        let reused = self.rewind(&ids)?;
        let mut logits = Vec::new();
        if !self.extend(&ids, &mut logits, request.interrupt, &mut |done| {
            report(Event::Prompt { done, total: ids.len() });
        })? {
            return Ok(answer.end(request, StopReason::Interrupted, timings, report));
        }
        timings.prompt = (ids.len() - reused, started.elapsed());
        let mut after_first = None;
        if let Some(constraint) = request.constraint {
            constraint.borrow_mut().begin();
        }
        let reason = loop {
            if answer.tokens.len() >= request.max_tokens {
                break StopReason::Length;
            }
            if interrupted() {
                break StopReason::Interrupted;
            }
            let draw = Draw { sequence: 0, position: (request.prompt.len() + answer.tokens.len()) as u64 };
            let allowed = request.constraint.map(|c| c.borrow_mut().allowed()).transpose()?;
            let mask = allowed.as_ref().map(|allowed| allowed as &dyn TokenMask);
            let id = request.sampling.choose(&logits, &ids, mask, draw)?;
            let now = after_first.get_or_insert_with(Instant::now);
            if answer.tokens.is_empty() {
                timings.first_token = started.elapsed();
            } else {
                timings.generated = (answer.tokens.len(), now.elapsed());
            }
            if self.tokenizer.end_of_generation(id) {
                break StopReason::Eos;
            }
            if answer.push(id, &logits, request.top_logprobs, report)? {
                break StopReason::Stop;
            }
            ids.push(id);
            if let Some(constraint) = request.constraint
                && constraint.borrow_mut().take(id)?
            {
                // Nothing but the end could follow.
                break StopReason::Eos;
            }
            if answer.tokens.len() >= request.max_tokens {
                break StopReason::Length;
            }
            if ids.len() >= self.context {
                match request.overflow {
                    Overflow::Stop => break StopReason::Context,
                    Overflow::Slide { keep } => {
                        report(Event::Slid { dropped: slide(&mut ids, keep, self.context) });
                        self.rewind(&ids)?;
                    }
                }
            }
            if !self.extend(&ids, &mut logits, request.interrupt, &mut |_| {})? {
                break StopReason::Interrupted;
            }
        };
        Ok(answer.end(request, reason, timings, report))
    }

    /// Goes back to the longest prefix of `ids` that the cache holds, leaving at least one token to compute;
    /// returns its length.
    fn rewind(&mut self, ids: &[u32]) -> Result<usize> {
        let same = ids.iter().zip(&self.cached).take_while(|(a, b)| a == b).count().min(ids.len() - 1);
        // Layers with a window may have forgotten what this prefix looks back at.
        let same = if self.states[0].keeps(Mark(same)) { same } else { 0 };
        self.states[0].rollback(Mark(same))?;
        self.cached.truncate(same);
        Ok(same)
    }

    /// Computes what is not cached of `ids`, the logits of the last token into `logits`. False if interrupted.
    fn extend(
        &mut self,
        ids: &[u32],
        logits: &mut Vec<f32>,
        interrupt: Option<&AtomicBool>,
        done: &mut dyn FnMut(usize),
    ) -> Result<bool> {
        while self.cached.len() < ids.len() {
            if interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                return Ok(false);
            }
            let start = self.cached.len();
            let end = (start / PROMPT_CHUNK * PROMPT_CHUNK + PROMPT_CHUNK).min(ids.len());
            let mut batch = Batch::single(&ids[start..end], start as u32);
            if end < ids.len() {
                batch.wanted.clear();
            }
            let out = self.decoder.forward(&mut self.steps, &batch, &mut self.states, HeadRequest::Logits)?;
            if end == ids.len() {
                logits.clear();
                logits.extend_from_slice(out.into_rows()?.data());
            }
            self.cached.extend_from_slice(&ids[start..end]);
            done(end);
        }
        Ok(true)
    }
}

/// Forgets the oldest tokens behind the first `keep`, so that half of the rest of the context is free; returns
/// how many.
fn slide(ids: &mut Vec<u32>, keep: usize, context: usize) -> usize {
    let keep = keep.min(context / 2).min(ids.len());
    let left = (context - keep) / 2;
    let drop_to = ids.len() - left.min(ids.len() - keep);
    ids.drain(keep..drop_to);
    drop_to - keep
}

/// The answer as it grows.
struct Answer<'a> {
    tokenizer: &'a Tokenizer,
    stream: Utf8Stream,
    stops: StopStrings,
    text: String,
    tokens: Vec<Token>,
}

impl<'a> Answer<'a> {
    fn new(tokenizer: &'a Tokenizer, request: &Request<'_>) -> Answer<'a> {
        Answer {
            tokenizer,
            stream: Utf8Stream::new(),
            stops: StopStrings::new(request.stop),
            text: String::new(),
            tokens: Vec::new(),
        }
    }

    /// Takes a token; true if it completed a stop string.
    fn push(&mut self, id: u32, logits: &[f32], top: usize, report: &mut dyn FnMut(Event<'_>)) -> Result<bool> {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&l| f64::from(l - most).exp()).sum();
        let log_sum = f64::from(most) + sum.ln();
        let logprob = |logit: f32| (f64::from(logit) - log_sum) as f32;
        self.tokens.push(Token {
            id,
            logprob: logprob(logits[id as usize]),
            top: top_k(logits, top).into_iter().map(|(id, l)| (id, logprob(l))).collect(),
        });
        let piece = self.stream.push(self.tokenizer, id)?;
        let (shown, stopped) = self.stops.push(&piece);
        self.show(&shown, report);
        Ok(stopped)
    }

    fn show(&mut self, text: &str, report: &mut dyn FnMut(Event<'_>)) {
        if !text.is_empty() {
            self.text.push_str(text);
            report(Event::Text(text));
        }
    }

    fn end(
        mut self,
        request: &Request<'_>,
        mut reason: StopReason,
        timings: Timings,
        report: &mut dyn FnMut(Event<'_>),
    ) -> Outcome {
        if reason != StopReason::Stop {
            let rest = self.stream.finish();
            let (shown, stopped) = self.stops.push(&rest);
            self.show(&shown, report);
            if stopped {
                reason = StopReason::Stop;
            } else {
                let held = self.stops.finish();
                self.show(&held, report);
            }
        }
        Outcome {
            text: self.text,
            tokens: self.tokens,
            prompt_tokens: request.prompt.len(),
            stop_reason: reason,
            timings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sliding_keeps_the_beginning_and_the_newest() {
        let mut ids: Vec<u32> = (0..100).collect();
        assert_eq!(slide(&mut ids, 10, 100), 45);
        assert_eq!(ids, (0..10).chain(55..100).collect::<Vec<_>>());
        // A prompt far beyond the context, and more to keep than fits.
        let mut ids: Vec<u32> = (0..1000).collect();
        slide(&mut ids, 500, 64);
        assert_eq!(ids.len(), 32 + 16);
        assert_eq!((ids[31], ids[32], ids[47]), (31, 984, 999));
        let mut ids: Vec<u32> = (0..3).collect();
        slide(&mut ids, 0, 2);
        assert_eq!(ids, [2]);
    }
}
