//! Passes over examples: micro-batches, their loss, and gradients summed over all of them.
//!
//! Packed rows do not see each other, so an update's examples can go through the model a few at a time: what is held of
//! activations is then a micro-batch's, and the sum of gradients is the whole batch's.

use porism_models::steps::HeadRequest;
use porism_models::tape::{BlockMemory, Dropout, Objective, TapeExecutor, TapeState, add_gradients, loss};
use porism_models::{Batch, Decoder};
use porism_text::examples::Example;

use crate::Result;
use crate::adapter::TRAINED;
use crate::goal::Goal;

/// A few examples, packed.
#[derive(Debug)]
pub struct Micro {
    pub(crate) batch: Batch,
    pub(crate) targets: Vec<u32>,
    sequences: usize,
}

impl Micro {
    /// Packs examples; what is wanted is the row before each token that counts.
    pub fn new(examples: &[&Example]) -> Micro {
        let ids: Vec<&[u32]> = examples.iter().map(|example| example.ids.as_slice()).collect();
        let mut batch = Batch::packed(&ids);
        let (mut wanted, mut targets, mut start) = (Vec::new(), Vec::new(), 0);
        for example in examples {
            for (i, _) in example.scored.iter().enumerate().skip(1).filter(|(_, scored)| **scored) {
                wanted.push(start + i - 1);
                targets.push(example.ids[i]);
            }
            start += example.ids.len();
        }
        batch.wanted = wanted;
        // Rows run with the adapter that is trained, if one is.
        batch.spans.iter_mut().for_each(|span| span.adapter = Some(TRAINED));
        Micro { batch, targets, sequences: examples.len() }
    }

    /// Tokens that count.
    pub fn targets(&self) -> usize {
        self.targets.len()
    }

    /// Tokens.
    pub fn tokens(&self) -> usize {
        self.batch.len()
    }

    /// Where its sequences stand before it: at their beginning.
    pub(crate) fn states(&self, decoder: &Decoder) -> Vec<TapeState> {
        vec![TapeState::new(&decoder.stack.config); self.sequences]
    }
}

/// Splits examples into micro-batches of at most so many tokens, each at least one example; nothing that counts is in none.
pub fn micros(examples: &[&Example], tokens: usize) -> Vec<Micro> {
    let mut parts: Vec<Vec<&Example>> = Vec::new();
    let mut room = 0;
    for example in examples.iter().filter(|example| example.targets() > 0) {
        let length = example.ids.len();
        match parts.last_mut() {
            Some(part) if length <= room => {
                room -= length;
                part.push(example);
            }
            _ => {
                room = tokens.saturating_sub(length);
                parts.push(vec![example]);
            }
        }
    }
    parts.iter().map(|part| Micro::new(part)).collect()
}

/// A loss over examples and its gradients, in the order of the executor's parameters.
#[derive(Debug)]
pub struct Gradients {
    /// The mean negative log-likelihood of the tokens that count, in nats.
    pub loss: f64,
    /// Tokens that count.
    pub targets: usize,
    /// A gradient for each parameter; zeros where none came.
    pub parts: Vec<Vec<f32>>,
}

/// The gradients of the mean loss over all tokens of the micro-batches, however they are cut (with dropout, what is dropped hangs
/// on the cut).
///
/// # Errors
/// A pass fails.
pub fn gradients(
    decoder: &Decoder,
    steps: &mut TapeExecutor,
    micros: &[Micro],
    goal: Goal<'_>,
    dropout: Option<Dropout>,
    memory: impl Fn(usize) -> BlockMemory + Sync,
) -> Result<Gradients> {
    let targets: usize = micros.iter().map(Micro::targets).sum();
    steps.parameters().drop_gradients();
    let mut total = 0.0;
    for (number, micro) in micros.iter().enumerate() {
        let states = micro.states(decoder);
        // Another key for each micro-batch: keys of neighbours are far apart.
        let key = |key: u64| key.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        steps.set_dropout(dropout.map(|dropout| Dropout { key: key(dropout.key), ..dropout }));
        let share = micro.targets() as f64 / targets as f64;
        let mut add = |objective: &dyn Objective| -> Result<f32> {
            Ok(add_gradients(decoder, steps, &micro.batch, &states, (objective, share as f32), &memory)?)
        };
        let loss = match goal {
            Goal::CrossEntropy => {
                let weights = vec![1.0; micro.targets()];
                add(&HeadRequest::CrossEntropy { targets: &micro.targets, weights: &weights })
            }
            Goal::Distillation(teacher) => teacher.teach(micro, |objective| add(objective)),
        };
        steps.set_dropout(None);
        total += f64::from(loss?) * share;
    }
    Ok(Gradients { loss: total, targets, parts: steps.parameters().take_gradients() })
}

/// The mean loss over all tokens of the micro-batches that count, in nats.
///
/// # Errors
/// A pass fails.
pub fn mean_loss(decoder: &Decoder, steps: &mut TapeExecutor, micros: &[Micro]) -> Result<f64> {
    let targets: usize = micros.iter().map(Micro::targets).sum();
    let mut total = 0.0;
    for micro in micros {
        let weights = vec![1.0; micro.targets()];
        let request = HeadRequest::CrossEntropy { targets: &micro.targets, weights: &weights };
        let value = loss(decoder, steps, &micro.batch, &micro.states(decoder), request)?;
        total += f64::from(value) * micro.targets() as f64 / targets as f64;
    }
    Ok(total)
}
