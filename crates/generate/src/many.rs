//! Many answers at once: several sequences in each pass, so that the weights are read once for all of them.

use porism_models::cpu::{CpuExecutor, CpuState, KvType};
use porism_models::{Batch, Decoder, HeadRequest, Input, SequenceState, Span};
use porism_text::{Tokenizer, Utf8Stream};

use crate::sample::{Draw, Sampling};
use crate::session::{PROMPT_CHUNK, StopReason};
use crate::stop::StopStrings;
use crate::{Error, Result};

/// Rows of prompts in one pass, beside the rows of those that are answered already.
const PROMPT_ROWS: usize = 512;

/// A prompt that waits for its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Its tokens; at least one.
    pub tokens: Vec<u32>,
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
}

/// A finished answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The text.
    pub text: String,
    /// Its tokens; an end-of-generation token is not among them, the tokens of a stop string are.
    pub tokens: Vec<u32>,
    /// The sum of the tokens' natural log-probabilities, that of an end-of-generation token not counted.
    pub log_prob: f64,
    /// Whether each token was the likeliest in its place.
    pub greedy: bool,
    /// Why it ended.
    pub stop_reason: StopReason,
}

/// How many answers are worked on together, and how.
#[derive(Clone, Debug)]
pub struct Many {
    /// Sequences at a time, at least one.
    pub width: usize,
    /// The most tokens of a sequence.
    pub context: usize,
    /// How keys and values are kept.
    pub kv: KvType,
    /// How tokens are chosen. The number of a prompt is the number of its sequence.
    pub sampling: Sampling,
}

/// A sequence in work.
struct Slot {
    number: usize,
    ids: Vec<u32>,
    /// Tokens that the state holds.
    done: usize,
    state: Option<CpuState>,
    stream: Utf8Stream,
    stops: StopStrings,
    answer: Answered,
    max_tokens: usize,
}

impl Many {
    /// Answers all prompts; `report` gets each answer with its prompt's number as it is done, which is not in order.
    /// A token is the same whatever is answered beside it.
    ///
    /// # Errors
    /// A prompt is empty or leaves no room in the context, the forward pass fails, or `report` does.
    pub fn answer<E: From<Error>>(
        &self,
        decoder: &Decoder,
        tokenizer: &Tokenizer,
        steps: &mut CpuExecutor,
        prompts: &[Prompt],
        mut report: impl FnMut(usize, Answered) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let empty = CpuState::new(&decoder.stack.config, self.kv);
        let mut waiting = prompts.iter().enumerate();
        let mut slots: Vec<Slot> = Vec::new();
        loop {
            while slots.len() < self.width.max(1)
                && let Some((number, prompt)) = waiting.next()
            {
                slots.push(self.begin(number, prompt, &empty)?);
            }
            if slots.is_empty() {
                return Ok(());
            }
            let logits = pass(decoder, steps, &mut slots)?;
            let mut still = Vec::with_capacity(slots.len());
            for (mut slot, logits) in slots.into_iter().zip(logits) {
                let ended = match logits {
                    Some(logits) => slot.take(self, tokenizer, &logits)?,
                    None => false,
                };
                if ended { report(slot.number, slot.answer)? } else { still.push(slot) }
            }
            slots = still;
        }
    }

    fn begin(&self, number: usize, prompt: &Prompt, empty: &CpuState) -> Result<Slot> {
        let tokens = prompt.tokens.len();
        if tokens == 0 {
            return Err(Error::EmptyPrompt);
        }
        if tokens >= self.context {
            return Err(Error::PromptTooLong { tokens, context: self.context });
        }
        Ok(Slot {
            number,
            ids: prompt.tokens.clone(),
            done: 0,
            state: Some(empty.fork()),
            stream: Utf8Stream::new(),
            stops: StopStrings::new(&prompt.stop),
            answer: Answered {
                text: String::new(),
                tokens: Vec::new(),
                log_prob: 0.0,
                greedy: true,
                stop_reason: StopReason::Length,
            },
            max_tokens: prompt.max_tokens,
        })
    }
}

/// Computes the next rows of all sequences; gives the logits behind those that came to their end.
fn pass(decoder: &Decoder, steps: &mut CpuExecutor, slots: &mut [Slot]) -> Result<Vec<Option<Vec<f32>>>> {
    let (mut ids, mut positions, mut spans, mut wanted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut states = Vec::with_capacity(slots.len());
    let mut whose = Vec::with_capacity(slots.len());
    let mut prompt_rows = 0;
    for (i, slot) in slots.iter_mut().enumerate() {
        let left = slot.ids.len() - slot.done;
        if left > 1 && prompt_rows >= PROMPT_ROWS {
            continue;
        }
        let Some(state) = slot.state.take() else { continue };
        let end = ((slot.done / PROMPT_CHUNK + 1) * PROMPT_CHUNK).min(slot.ids.len());
        let start = ids.len();
        ids.extend_from_slice(&slot.ids[slot.done..end]);
        positions.extend((slot.done..end).map(|position| position as u32));
        spans.push(Span { sequence: states.len(), rows: start..ids.len(), adapter: None, tree: None });
        if left > 1 {
            prompt_rows += ids.len() - start;
        }
        if end == slot.ids.len() {
            wanted.push(ids.len() - 1);
            whose.push(i);
        }
        slot.done = end;
        states.push((i, state));
    }
    let (owners, mut states): (Vec<usize>, Vec<CpuState>) = states.into_iter().unzip();
    let batch = Batch { input: Input::Ids(ids), positions, spans, wanted };
    let out = decoder.forward(steps, &batch, &mut states, HeadRequest::Logits);
    for (i, state) in owners.into_iter().zip(states) {
        slots[i].state = Some(state);
    }
    let rows = out?.into_rows()?;
    let mut logits = vec![None; slots.len()];
    for (row, i) in whose.into_iter().enumerate() {
        logits[i] = Some(rows.row(row).to_vec());
    }
    Ok(logits)
}

impl Slot {
    /// Takes the next token; true if the answer has ended.
    fn take(&mut self, many: &Many, tokenizer: &Tokenizer, logits: &[f32]) -> Result<bool> {
        if self.max_tokens == 0 {
            return self.end(StopReason::Length);
        }
        let draw = Draw { sequence: self.number as u64, position: self.ids.len() as u64 };
        let id = many.sampling.choose(logits, &self.ids, None, draw)?;
        if tokenizer.end_of_generation(id) {
            return self.end(StopReason::Eos);
        }
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&l| f64::from(l - most).exp()).sum();
        self.answer.log_prob += f64::from(logits[id as usize] - most) - sum.ln();
        self.answer.greedy &= logits[id as usize] == most;
        self.answer.tokens.push(id);
        self.ids.push(id);
        let piece = self.stream.push(tokenizer, id)?;
        let (shown, stopped) = self.stops.push(&piece);
        self.answer.text.push_str(&shown);
        if stopped {
            self.answer.stop_reason = StopReason::Stop;
            return Ok(true);
        }
        if self.answer.tokens.len() >= self.max_tokens {
            return self.end(StopReason::Length);
        }
        if self.ids.len() >= many.context {
            return self.end(StopReason::Context);
        }
        Ok(false)
    }

    /// Ends the answer with what was held back.
    fn end(&mut self, reason: StopReason) -> Result<bool> {
        let (shown, stopped) = self.stops.push(&self.stream.finish());
        self.answer.text.push_str(&shown);
        self.answer.stop_reason = if stopped { StopReason::Stop } else { reason };
        if !stopped {
            self.answer.text.push_str(&self.stops.finish());
        }
        Ok(true)
    }
}
