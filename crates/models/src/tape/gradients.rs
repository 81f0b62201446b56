//! A loss and its gradients, block by block.
//!
//! Each block has a tape of its own: it starts at a fresh leaf and ends at the block's result, and its
//! backward is that of `sum(result * gradient from above)`. So no graph is deeper than a block, and one whose
//! graph is not kept runs again when its turn comes (Chen et al. 2016, "Training deep nets with sublinear
//! memory cost"). The head takes its rows a few at a time, since their logits are the largest thing there is.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use porism_ops::{inner_product, quietly};

use super::objective::Objective;
use super::{TapeExecutor, TapeState, check_vocabulary};
use crate::batch::Batch;
use crate::decoder::Decoder;
use crate::site::ProbeGroup;
use crate::steps::{HeadRequest, Steps};
use crate::{Error, Result};

/// What is held of a block between its forward and its backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockMemory {
    /// Everything on its tape.
    Keep,
    /// Its input only; the block runs a second time.
    Recompute,
}

/// Rows of logits that exist at a time.
const HEAD_ROWS: usize = 256;

/// The loss of an objective (a [`HeadRequest`] for cross-entropy or KL, say) and the gradients of everything trained that took part:
/// [`super::Parameters`], seeds, tensors of slots. Look a tensor's gradient up by the tensor.
///
/// `states` are where the sequences stand before the batch; they are not changed.
pub fn loss_gradients(
    decoder: &Decoder,
    steps: &mut TapeExecutor,
    batch: &Batch,
    states: &[TapeState],
    objective: impl Objective,
    memory: impl Fn(usize) -> BlockMemory + Sync,
) -> Result<(f32, GradStore)> {
    steps.parameters.drop_gradients();
    let (loss, mut gradients) = summing(decoder, steps, batch, states, (&objective, 1.0), &memory)?;
    for (tensor, sum) in steps.parameters.sums() {
        let sum = sum.take();
        if !sum.is_empty() {
            let _ = gradients.insert(tensor, Tensor::from_vec(sum, tensor.shape(), tensor.device())?);
        }
    }
    Ok((loss, gradients))
}

/// The loss of an objective; `share` of its gradients is added to those that [`super::Parameters::take_gradients`] will give. So of
/// several batches no more is held than of one.
///
/// # Errors
/// As for [`loss_gradients`]; what was added up is then good for nothing.
pub fn add_gradients(
    decoder: &Decoder,
    steps: &mut TapeExecutor,
    batch: &Batch,
    states: &[TapeState],
    (objective, share): (impl Objective, f32),
    memory: impl Fn(usize) -> BlockMemory + Sync,
) -> Result<f32> {
    let (loss, gradients) = summing(decoder, steps, batch, states, (&objective, share), &memory)?;
    for (tensor, sum) in steps.parameters.sums() {
        if let Some(gradient) = gradients.get(tensor) {
            sum.add(&steps.context, gradient)?;
        }
    }
    Ok(loss)
}

/// The loss and the gradients that come by the tape; those of whole weights are added to their sums.
fn summing(
    decoder: &Decoder,
    steps: &mut TapeExecutor,
    batch: &Batch,
    states: &[TapeState],
    objective: (&dyn Objective, f32),
    memory: &(dyn Fn(usize) -> BlockMemory + Sync),
) -> Result<(f32, GradStore)> {
    steps.summing = true;
    let found = quietly(|| on_one_thread(decoder, steps, batch, states, objective, memory));
    steps.summing = false;
    found
}

/// [`summing`] on the thread that calls it; the operations' work is on their pool.
fn on_one_thread(
    decoder: &Decoder,
    steps: &mut TapeExecutor,
    batch: &Batch,
    states: &[TapeState],
    objective: (&dyn Objective, f32),
    memory: &dyn Fn(usize) -> BlockMemory,
) -> Result<(f32, GradStore)> {
    batch.check(states.len())?;
    let embedded = decoder.stack.embed(steps, batch)?;
    let mut passed = Vec::with_capacity(decoder.stack.blocks.len());
    let mut x = embedded.detach();
    for i in 0..decoder.stack.blocks.len() {
        // The first block's input needs a gradient only if something is trained below it.
        let input = if i > 0 || embedded.track_op() { Var::from_tensor(&x)?.into_inner() } else { x };
        let y = decoder.stack.block(i, steps, input.clone(), batch, &mut states.to_vec())?;
        x = y.detach();
        passed.push((input, (memory(i) == BlockMemory::Keep).then_some(y)));
    }

    let input = Var::from_tensor(&x)?.into_inner();
    let (loss, mut total) = head(decoder, steps, batch, &input, objective)?;
    let above = gradient(&mut total, &input)?;
    // An observer has seen every activation once; a second run of a block is not news.
    let probe = steps.set_probe(None);
    let above = down(decoder, steps, batch, states, passed, above, &mut total);
    steps.set_probe(probe);
    if embedded.track_op() {
        total.extend(inner_product(&embedded, &above?)?.backward()?)?;
    } else {
        above?;
    }
    Ok((loss, total))
}

/// The loss of an objective alone. Nothing of a block is held once the next has its input.
///
/// # Errors
/// As for [`loss_gradients`].
pub fn loss(
    decoder: &Decoder,
    steps: &mut TapeExecutor,
    batch: &Batch,
    states: &[TapeState],
    objective: impl Objective,
) -> Result<f32> {
    let x = hidden(decoder, steps, batch, states)?;
    quietly(|| head_loss(decoder, steps, batch, &x, &objective, &mut |_| Ok(())))
}

/// What the last block gives, `[rows, width]`: [`Decoder::finish`] makes logits of it. Nothing hangs on it.
///
/// # Errors
/// As for [`loss_gradients`].
pub fn hidden(decoder: &Decoder, steps: &mut TapeExecutor, batch: &Batch, states: &[TapeState]) -> Result<Tensor> {
    quietly(|| {
        batch.check(states.len())?;
        let mut x = decoder.stack.embed(steps, batch)?.detach();
        for i in 0..decoder.stack.blocks.len() {
            x = decoder.stack.block(i, steps, x, batch, &mut states.to_vec())?.detach();
        }
        Ok(x)
    })
}

/// The backward passes of the blocks, last to first; gives the gradient of the first one's input.
fn down(
    decoder: &Decoder,
    steps: &mut TapeExecutor,
    batch: &Batch,
    states: &[TapeState],
    passed: Vec<(Tensor, Option<Tensor>)>,
    mut above: Tensor,
    total: &mut GradStore,
) -> Result<Tensor> {
    for (i, (input, kept)) in passed.into_iter().enumerate().rev() {
        let y = match kept {
            Some(y) => y,
            None => decoder.stack.block(i, steps, input.clone(), batch, &mut states.to_vec())?,
        };
        if !y.track_op() {
            break;
        }
        let mut part = inner_product(&y, &above)?.backward()?;
        if input.is_variable() {
            above = gradient(&mut part, &input)?;
        }
        total.extend(part)?;
    }
    Ok(above)
}

fn gradient(store: &mut GradStore, of: &Tensor) -> Result<Tensor> {
    store.remove(of).ok_or_else(|| Error::Batch("a block's input has no gradient".into()))
}

/// The loss of the wanted rows of x, and a share of its gradients.
fn head(
    decoder: &Decoder,
    steps: &mut TapeExecutor,
    batch: &Batch,
    x: &Tensor,
    (objective, share): (&dyn Objective, f32),
) -> Result<(f32, GradStore)> {
    let mut gradients: Option<GradStore> = None;
    let loss = head_loss(decoder, steps, batch, x, objective, &mut |value| {
        let found = value.affine(f64::from(share), 0.0)?.backward()?;
        match &mut gradients {
            Some(all) => all.extend(found)?,
            none => *none = Some(found),
        }
        Ok(())
    })?;
    let gradients = gradients.ok_or_else(|| Error::Batch("no row is wanted".into()))?;
    Ok((loss, gradients))
}

/// The loss of the wanted rows of x; `see` gets each part of it while its tape is there.
fn head_loss(
    decoder: &Decoder,
    steps: &mut TapeExecutor,
    batch: &Batch,
    x: &Tensor,
    objective: &dyn Objective,
    see: &mut dyn FnMut(&Tensor) -> Result<()>,
) -> Result<f32> {
    let (context, vocab) = (steps.context().clone(), decoder.head.linear.out_features());
    // A head that is a projection and nothing else has an operation together with the loss.
    let plain = decoder.head.softcap.is_none() && decoder.head.linear.deltas.is_empty();
    let counted = objective.counted(batch.wanted.len(), vocab)?;
    let mut loss = 0.0;
    for rows in counted.chunks(HEAD_ROWS) {
        let part = Batch { wanted: rows.iter().map(|&row| batch.wanted[row]).collect(), ..batch.clone() };
        let value = match objective.likelihoods(rows) {
            Some((targets, factors)) if plain => {
                check_vocabulary(&targets, vocab)?;
                let wanted = steps.select_rows(x, &part.wanted)?;
                let normed = steps.norm(&decoder.head.norm, &wanted)?;
                steps.probe(ProbeGroup::HeadInput, &normed)?;
                steps.head_likelihood(&decoder.head.linear, &normed, &targets, &factors)?
            }
            _ => {
                let logits = decoder.finish(steps, x, &part, HeadRequest::Logits)?.into_rows()?;
                objective.part(&context, &logits, rows)?
            }
        };
        loss += f64::from(value.get(0)?.get(0)?.to_scalar::<f32>()?);
        see(&value)?;
    }
    Ok(loss as f32)
}
