//! Two models side by side: the same tokens through both, and their logits a few rows at a time.

use std::sync::Mutex;

use porism_models::cpu::{CpuExecutor, CpuState, KvType};
use porism_models::{Batch, Decoder, HeadRequest};

use super::row::Row;
use crate::chunks::chunks;
use crate::{Error, Result};

/// Positions whose logits are held at a time.
const ROWS: usize = 32;

/// A model and how it is run.
#[derive(Debug)]
pub struct Side<'a> {
    decoder: &'a Decoder,
    steps: CpuExecutor,
    kv: KvType,
}

impl<'a> Side<'a> {
    /// A model on an executor, its keys and values kept as `kv` says.
    pub fn new(decoder: &'a Decoder, steps: CpuExecutor, kv: KvType) -> Side<'a> {
        Side { decoder, steps, kv }
    }

    fn tokens(&self) -> usize {
        self.decoder.head.linear.out_features()
    }
}

/// An error if the heads are not of one size.
pub(super) fn same_heads(a: &Side<'_>, b: &Side<'_>) -> Result<()> {
    let (a, b) = (a.tokens(), b.tokens());
    if a == b {
        return Ok(());
    }
    Err(Error::Options(format!(
        "the models do not share a vocabulary: their heads have {a} tokens and {b}; their distributions cannot be compared"
    )))
}

/// Appends a row for each of `window[first..]`, predicted from all tokens before it. `1 <= first <= window.len()`.
pub(super) fn compare(
    a: &mut Side<'_>,
    b: &mut Side<'_>,
    window: &[u32],
    first: usize,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let state = |side: &Side<'_>| [CpuState::new(&side.decoder.stack.config, side.kv)];
    let (mut state_a, mut state_b) = (state(a), state(b));
    for part in chunks(0..window.len() - 1) {
        let mut batch = Batch::single(&window[part.clone()], part.start as u32);
        batch.wanted.clear();
        let hidden_a = a.decoder.stack.forward(&mut a.steps, &batch, &mut state_a)?;
        let hidden_b = b.decoder.stack.forward(&mut b.steps, &batch, &mut state_b)?;
        let wanted: Vec<usize> = (part.start.max(first - 1)..part.end.max(first - 1)).collect();
        for strip in wanted.chunks(ROWS) {
            batch.wanted = strip.iter().map(|position| position - part.start).collect();
            let logits_a = a.decoder.finish(&mut a.steps, &hidden_a, &batch, HeadRequest::Logits)?.into_rows()?;
            let logits_b = b.decoder.finish(&mut b.steps, &hidden_b, &batch, HeadRequest::Logits)?.into_rows()?;
            let width = a.tokens();
            let found: Vec<Mutex<Row>> = strip.iter().map(|_| Mutex::default()).collect();
            a.steps.pool().run(strip.len(), &|i| {
                let range = i * width..(i + 1) * width;
                let row = Row::new(&logits_a.data()[range.clone()], &logits_b.data()[range], window[strip[i] + 1]);
                *found[i].lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = row;
            });
            rows.extend(found.into_iter().map(|row| row.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())));
        }
    }
    Ok(())
}
