//! Log-likelihoods of choices: packed rows, what questions share computed once.
//!
//! The choices of a question branch off its prompt (a token tree), so that the prompt is computed once for all of them;
//! the last row of the prompt predicts the first token of each. What all prompts of a task begin with is computed once
//! and forked. Rows of several questions make one pass.

use std::sync::Arc;

use porism_generate::PROMPT_CHUNK;
use porism_kernels::attention::Tree;
use porism_models::cpu::{CpuExecutor, CpuState, KvType};
use porism_models::{Batch, Decoder, HeadRequest, Input, SequenceState, Span};

use crate::chunks::chunks;
use crate::{Error, Result};

/// Rows of a pass: enough to keep the products busy, few enough to stay in the caches.
const ROWS: usize = 512;
/// The shortest common beginning that is worth a state of its own.
const SHARED: usize = 32;

/// A prompt and what may follow it, in tokens. Neither is empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Question {
    pub(crate) prompt: Vec<u32>,
    pub(crate) choices: Vec<Vec<u32>>,
}

impl Question {
    /// The most rows that its last pass takes.
    fn rows(&self) -> usize {
        self.prompt.len() + self.choices.iter().map(|choice| choice.len() - 1).sum::<usize>()
    }
}

/// What a choice is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// The natural logarithm of its probability after the prompt.
    pub log: f64,
    /// Whether each of its tokens is the likeliest one in its place.
    pub greedy: bool,
}

/// A decoder that scores choices.
#[derive(Debug)]
pub(crate) struct ChoiceScorer<'a> {
    decoder: &'a Decoder,
    steps: &'a mut CpuExecutor,
    /// What questions begin with, and the state behind it. Forks of the empty state share its memory.
    shared: Vec<u32>,
    behind: CpuState,
    empty: CpuState,
}

impl<'a> ChoiceScorer<'a> {
    pub(crate) fn new(decoder: &'a Decoder, steps: &'a mut CpuExecutor, kv: KvType) -> ChoiceScorer<'a> {
        let empty = CpuState::new(&decoder.stack.config, kv);
        ChoiceScorer { decoder, steps, shared: Vec::new(), behind: empty.fork(), empty }
    }

    /// Computes what all prompts begin with, if it is long enough to matter. Each keeps a token of its own at least.
    pub(crate) fn share<'b>(&mut self, prompts: impl IntoIterator<Item = &'b [u32]>) -> Result<()> {
        let mut common: Option<&[u32]> = None;
        let mut several = false;
        for prompt in prompts {
            let own = &prompt[..prompt.len() - 1];
            several |= common.is_some();
            let before = common.unwrap_or(own);
            common = Some(&before[..before.iter().zip(own).take_while(|(a, b)| a == b).count()]);
        }
        self.shared.clear();
        self.behind = self.empty.fork();
        let Some(common) = common.filter(|common| several && common.len() >= SHARED) else { return Ok(()) };
        let mut states = [self.empty.fork()];
        for part in chunks(0..common.len()) {
            let mut batch = Batch::single(&common[part.clone()], part.start as u32);
            batch.wanted.clear();
            self.decoder.forward(self.steps, &batch, &mut states, HeadRequest::Score(&[]))?;
        }
        let [state] = states;
        self.behind = state;
        self.shared = common.to_vec();
        Ok(())
    }

    /// How many of the questions make one pass.
    pub(crate) fn together(&self, questions: &[Question]) -> usize {
        let mut rows = 0;
        let fits = questions.iter().take_while(|question| {
            rows += question.rows() - self.begun(question);
            rows <= ROWS
        });
        fits.count().max(1)
    }

    /// Tokens of a question's prompt that are computed already.
    fn begun(&self, question: &Question) -> usize {
        let len = self.shared.len();
        if question.prompt.len() > len && question.prompt.starts_with(&self.shared) { len } else { 0 }
    }

    /// Scores questions in one pass, or in several if prompts are long.
    pub(crate) fn score(&mut self, questions: &[Question]) -> Result<Vec<Vec<Likelihood>>> {
        let mut done: Vec<usize> = questions.iter().map(|question| self.begun(question)).collect();
        let fork = |&done: &usize| if done > 0 { self.behind.fork() } else { self.empty.fork() };
        let mut states: Vec<CpuState> = done.iter().map(fork).collect();
        // All of a long prompt but its last stretch goes ahead.
        loop {
            let mut batch = Rows::default();
            for (sequence, (question, done)) in questions.iter().zip(&mut done).enumerate() {
                let left = question.prompt.len() - *done;
                if left > PROMPT_CHUNK && batch.ids.len() < ROWS {
                    let end = (*done / PROMPT_CHUNK + 1) * PROMPT_CHUNK;
                    batch.row(sequence, &question.prompt[*done..end], *done);
                    *done = end;
                }
            }
            if batch.ids.is_empty() {
                break;
            }
            self.decoder.forward(self.steps, &batch.finish(), &mut states, HeadRequest::Score(&[]))?;
        }
        let mut batch = Rows::default();
        let mut targets = Vec::new();
        for (sequence, (question, &done)) in questions.iter().zip(&done).enumerate() {
            batch.question(sequence, question, done, &mut targets)?;
        }
        let batch = batch.finish();
        let scores =
            self.decoder.forward(self.steps, &batch, &mut states, HeadRequest::Score(&targets))?.into_scores()?;
        let mut scores =
            scores.iter().zip(&targets).map(|(score, &target)| (score.log_prob, score.likeliest == target));
        let mut all = Vec::with_capacity(questions.len());
        for question in questions {
            // The first tokens of all choices, then the rest of each.
            let first: Vec<(f32, bool)> = scores.by_ref().take(question.choices.len()).collect();
            let whole = question.choices.iter().zip(first).map(|(choice, (log, greedy))| {
                let start = Likelihood { log: f64::from(log), greedy };
                scores.by_ref().take(choice.len() - 1).fold(start, |sum, (log, greedy)| Likelihood {
                    log: sum.log + f64::from(log),
                    greedy: sum.greedy && greedy,
                })
            });
            all.push(whole.collect());
        }
        Ok(all)
    }
}

/// A batch that grows.
#[derive(Default)]
struct Rows {
    ids: Vec<u32>,
    positions: Vec<u32>,
    spans: Vec<Span>,
    wanted: Vec<usize>,
}

impl Rows {
    /// Tokens one after the other, of which nothing is wanted.
    fn row(&mut self, sequence: usize, tokens: &[u32], position: usize) {
        let start = self.ids.len();
        self.ids.extend_from_slice(tokens);
        self.positions.extend((position..position + tokens.len()).map(|p| p as u32));
        self.spans.push(Span { sequence, rows: start..self.ids.len(), adapter: None, tree: None });
    }

    /// What is left of a prompt from `done` on, and its choices but for their last tokens, which predict nothing.
    fn question(&mut self, sequence: usize, question: &Question, done: usize, targets: &mut Vec<u32>) -> Result<()> {
        let start = self.ids.len();
        self.row(sequence, &question.prompt[done..], done);
        let last = self.ids.len() - start - 1;
        let mut parents: Vec<Option<usize>> = (0..=last).map(|row| row.checked_sub(1)).collect();
        for choice in &question.choices {
            self.wanted.push(start + last);
            targets.push(choice[0]);
        }
        for choice in &question.choices {
            for (depth, pair) in choice.windows(2).enumerate() {
                let row = self.ids.len() - start;
                parents.push(Some(if depth == 0 { last } else { row - 1 }));
                self.ids.push(pair[0]);
                self.positions.push((question.prompt.len() + depth) as u32);
                self.wanted.push(start + row);
                targets.push(pair[1]);
            }
        }
        // One choice alone goes on from the prompt as any text does.
        let branches = question.choices.iter().filter(|choice| choice.len() > 1).count() > 1;
        if let Some(span) = self.spans.last_mut() {
            span.rows.end = self.ids.len();
            let tree = branches.then(|| Tree::new(parents)).transpose();
            span.tree = tree.map_err(|error| Error::Options(error.to_string()))?.map(Arc::new);
        }
        Ok(())
    }

    fn finish(self) -> Batch {
        Batch { input: Input::Ids(self.ids), positions: self.positions, spans: self.spans, wanted: self.wanted }
    }
}
