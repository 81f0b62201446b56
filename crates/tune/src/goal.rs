//! What a run minimises: cross-entropy, or that and a teacher's distributions, from a model in the same process.

use std::sync::{Mutex, PoisonError};

use porism_models::steps::HeadRequest;
use porism_models::tape::{Distillation, TapeExecutor, hidden};
use porism_models::{Batch, Decoder};

use crate::Result;
use crate::passes::Micro;

/// What a run minimises.
#[derive(Clone, Copy, Debug, Default)]
pub enum Goal<'a> {
    /// The mean negative log-likelihood of the tokens that count.
    #[default]
    CrossEntropy,
    /// That, and the divergence from a teacher.
    Distillation(&'a Teacher<'a>),
}

/// A model to learn from. It has the student's vocabulary, and sees what the student sees.
#[derive(Debug)]
pub struct Teacher<'a> {
    decoder: &'a Decoder,
    steps: Mutex<TapeExecutor>,
    /// The teacher's part of the loss, from 0 to 1.
    pub share: f32,
    /// What logits are divided by.
    pub temperature: f32,
    /// The teacher's likeliest tokens of a row that count; `None`: all.
    pub top: Option<usize>,
}

impl<'a> Teacher<'a> {
    /// A teacher at temperature 1 of which all tokens count and nothing else does; `steps` runs it and trains nothing.
    pub fn new(decoder: &'a Decoder, steps: TapeExecutor) -> Teacher<'a> {
        Teacher { decoder, steps: Mutex::new(steps), share: 1.0, temperature: 1.0, top: None }
    }

    /// Calls `learn` with the objective for a micro-batch.
    pub(crate) fn teach<R>(&self, micro: &Micro, learn: impl FnOnce(&Distillation<'_>) -> Result<R>) -> Result<R> {
        let lock = || self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let Micro { batch, targets, .. } = micro;
        let x = hidden(self.decoder, &mut lock(), batch, &micro.states(self.decoder))?;
        // Logits are made for the rows whose turn it is.
        let logits = |rows: &[usize], out: &mut Vec<f32>| -> porism_models::Result<()> {
            let part = Batch { wanted: rows.iter().map(|&row| batch.wanted[row]).collect(), ..batch.clone() };
            let logits = self.decoder.finish(&mut *lock(), &x, &part, HeadRequest::Logits)?.into_rows()?;
            out.extend(logits.flatten_all()?.to_vec1::<f32>()?);
            Ok(())
        };
        let Teacher { share, temperature, top, .. } = *self;
        learn(&Distillation { targets, share, temperature, top, teacher: &logits })
    }
}
