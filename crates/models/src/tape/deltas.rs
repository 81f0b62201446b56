//! Deltas on the tape: what a projection's adapters add to its base, for the rows that run with them.

use candle_core::Tensor;
use porism_formats::Weight;
use porism_ops::{OpContext, add_columns, add_scaled, frozen_linear, linear, replace_rows, scale_columns, select_rows};

use super::parameters::{DeltaPart, Parameter, Parameters};
use super::row;
use crate::batch::Batch;
use crate::linear::{Delta, DeltaKind, Linear};
use crate::{Error, Result};

/// Dropout on the inputs of low-rank pairs that are trained, as PEFT has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The share that is dropped, from 0 to below 1.
    pub share: f32,
    /// What is dropped follows from it: another one for each pass, the same where a block runs again.
    pub key: u64,
}

impl Dropout {
    /// The key of one delta: no two of a model drop alike.
    fn key_of(self, linear: &Linear, index: usize) -> u64 {
        // FNV-1a, which every version of the program agrees on.
        let words = format!("{} {index}", linear.site);
        words.bytes().fold(self.key ^ 0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
    }
}

/// Rows that a delta applies to.
enum Rows {
    All,
    Some(Vec<u32>),
}

impl Rows {
    fn of(delta: &Delta, batch: &Batch) -> Rows {
        if delta.adapter.is_none() || batch.spans.iter().all(|s| s.adapter == delta.adapter) {
            return Rows::All;
        }
        let spans = batch.spans.iter().filter(|s| s.adapter == delta.adapter);
        Rows::Some(spans.flat_map(|s| s.rows.clone()).map(|row| row as u32).collect())
    }

    fn none(&self) -> bool {
        matches!(self, Rows::Some(rows) if rows.is_empty())
    }

    fn select(&self, context: &OpContext, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Rows::All => x.clone(),
            Rows::Some(rows) => select_rows(context, x, rows)?,
        })
    }

    fn replace(&self, x: &Tensor, part: Tensor) -> Result<Tensor> {
        Ok(match self {
            Rows::All => part,
            Rows::Some(rows) => replace_rows(x, &part, rows)?,
        })
    }
}

/// A projection with what its deltas need.
struct Deltas<'a> {
    context: &'a OpContext,
    parameters: &'a Parameters,
    linear: &'a Linear,
}

impl Deltas<'_> {
    fn trained(&self, index: usize, part: DeltaPart) -> Option<&Tensor> {
        let name = Parameter::Delta { site: self.linear.site, index, part };
        self.parameters.get(name).map(|var| var.as_tensor())
    }

    /// The row of a scale or bias, `[1, len]`.
    fn row(&self, index: usize, weight: &Weight, len: usize) -> Result<Tensor> {
        if weight.len() != len {
            return self.wrong(format!("{weight:?} for {len} features"));
        }
        match self.trained(index, DeltaPart::Row) {
            Some(row) => Ok(row.reshape((1, len))?),
            None => row(weight),
        }
    }

    fn project(&self, index: usize, part: DeltaPart, weight: &Weight, x: &Tensor) -> Result<Tensor> {
        Ok(match self.trained(index, part) {
            Some(w) => linear(self.context, x, w)?,
            None => frozen_linear(self.context, x, weight)?,
        })
    }

    fn wrong<T>(&self, what: String) -> Result<T> {
        Err(Error::Delta { site: self.linear.site.to_string(), what })
    }
}

/// The input with its scales applied, `[tokens, in]`.
pub(super) fn scale_input(
    context: &OpContext,
    parameters: &Parameters,
    linear: &Linear,
    x: &Tensor,
    batch: &Batch,
) -> Result<Tensor> {
    let deltas = Deltas { context, parameters, linear };
    let mut x = x.clone();
    for (index, delta) in linear.deltas.iter().enumerate() {
        let DeltaKind::InputScale(scale) = &delta.kind else { continue };
        let rows = Rows::of(delta, batch);
        if !rows.none() {
            let scale = deltas.row(index, scale, linear.in_features())?;
            let part = scale_columns(&rows.select(context, &x)?, &scale)?;
            x = rows.replace(&x, part)?;
        }
    }
    Ok(x)
}

/// A projection whose only delta is a trained low-rank pair for all rows, without dropout: one operation. `None` for others.
pub(super) fn low_rank(
    context: &OpContext,
    parameters: &Parameters,
    dropout: Option<Dropout>,
    linear: &Linear,
    x: &Tensor,
    batch: &Batch,
) -> Result<Option<Tensor>> {
    let ([delta], None) = (&linear.deltas[..], dropout) else { return Ok(None) };
    let DeltaKind::LowRank { scale, .. } = delta.kind else { return Ok(None) };
    let deltas = Deltas { context, parameters, linear };
    if !matches!(Rows::of(delta, batch), Rows::All) {
        return Ok(None);
    }
    let (Some(a), Some(b)) = (deltas.trained(0, DeltaPart::A), deltas.trained(0, DeltaPart::B)) else {
        return Ok(None);
    };
    Ok(Some(porism_ops::frozen_low_rank(context, x, &linear.weight, (a, b, scale))?))
}

/// The other deltas, in order, on the base's result y `[tokens, out]`; x is the scaled input.
pub(super) fn apply(
    context: &OpContext,
    parameters: &Parameters,
    dropout: Option<Dropout>,
    linear: &Linear,
    x: &Tensor,
    mut y: Tensor,
    batch: &Batch,
) -> Result<Tensor> {
    let deltas = Deltas { context, parameters, linear };
    let (inputs, outputs) = (linear.in_features(), linear.out_features());
    for (index, delta) in linear.deltas.iter().enumerate() {
        let rows = Rows::of(delta, batch);
        if rows.none() || matches!(delta.kind, DeltaKind::InputScale(_)) {
            continue;
        }
        let part = rows.select(context, &y)?;
        let part = match &delta.kind {
            DeltaKind::InputScale(_) => part,
            DeltaKind::OutputScale(scale) => scale_columns(&part, &deltas.row(index, scale, outputs)?)?,
            DeltaKind::Bias(bias) => add_columns(&part, &deltas.row(index, bias, outputs)?)?,
            DeltaKind::LowRank { a, b, scale } => {
                if a.cols() != inputs || b.rows() != outputs || b.cols() != a.rows() {
                    return deltas.wrong(format!("A is {a:?}, B is {b:?}, for {outputs} x {inputs}"));
                }
                let mut x = rows.select(context, x)?;
                if let Some(dropout) = dropout.filter(|_| deltas.trained(index, DeltaPart::A).is_some()) {
                    x = porism_ops::dropout(&x, dropout.share, dropout.key_of(linear, index))?;
                }
                let inner = deltas.project(index, DeltaPart::A, a, &x)?;
                let outer = deltas.project(index, DeltaPart::B, b, &inner)?;
                add_scaled(context, &part, *scale, &outer)?
            }
        };
        y = rows.replace(&y, part)?;
    }
    Ok(y)
}
