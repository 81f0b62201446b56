//! What is minimised: a loss from the logits of wanted rows, a few rows at a time, so that no `[rows, vocabulary]` is kept.

use candle_core::{Device, Tensor};
use porism_ops::{OpContext, inner_product, kl, log_prob_of};

use super::check_targets;
use crate::steps::HeadRequest;
use crate::{Error, Result};

/// A loss over the wanted rows of a batch.
pub trait Objective: Sync {
    /// Which of the wanted rows need logits over the vocabulary, in order; the others count for nothing.
    ///
    /// # Errors
    /// It was made for other rows, or nothing counts.
    fn counted(&self, rows: usize, vocab: usize) -> Result<Vec<usize>>;

    /// The part of the loss that some of the counted rows make, `[1, 1]`, from their logits `[n, vocab]`; all parts add up to the
    /// loss.
    ///
    /// # Errors
    /// An operation fails.
    fn part(&self, context: &OpContext, logits: &Tensor, rows: &[usize]) -> Result<Tensor>;

    /// Where that part is a sum of log-likelihoods of one token a row: the tokens, and what each log-likelihood is multiplied with.
    fn likelihoods(&self, rows: &[usize]) -> Option<(Vec<u32>, Vec<f32>)> {
        let _ = rows;
        None
    }
}

impl<T: Objective + ?Sized> Objective for &T {
    fn counted(&self, rows: usize, vocab: usize) -> Result<Vec<usize>> {
        (**self).counted(rows, vocab)
    }

    fn part(&self, context: &OpContext, logits: &Tensor, rows: &[usize]) -> Result<Tensor> {
        (**self).part(context, logits, rows)
    }

    fn likelihoods(&self, rows: &[usize]) -> Option<(Vec<u32>, Vec<f32>)> {
        (**self).likelihoods(rows)
    }
}

fn unfit(rows: usize) -> Error {
    Error::Batch(format!("the targets do not fit the {rows} wanted rows"))
}

/// `CrossEntropy` and `KlTo`; the other requests are no losses.
impl Objective for HeadRequest<'_> {
    fn counted(&self, rows: usize, vocab: usize) -> Result<Vec<usize>> {
        match self {
            HeadRequest::CrossEntropy { targets, weights } if targets.len() == rows && weights.len() == rows => {
                let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
                if !total.is_finite() || total == 0.0 {
                    return Err(Error::Batch(format!(
                        "the weights of {rows} rows sum to {total}: there is nothing to learn"
                    )));
                }
                // Rows that count for nothing, a prompt's for example, need no logits.
                Ok((0..rows).filter(|&row| weights[row] != 0.0).collect())
            }
            HeadRequest::KlTo { log_probs } if log_probs.len() == rows * vocab => Ok((0..rows).collect()),
            HeadRequest::CrossEntropy { .. } | HeadRequest::KlTo { .. } => Err(unfit(rows)),
            _ => Err(Error::Batch("only cross-entropy and KL are losses".into())),
        }
    }

    fn part(&self, context: &OpContext, logits: &Tensor, rows: &[usize]) -> Result<Tensor> {
        match self {
            HeadRequest::CrossEntropy { .. } => match self.likelihoods(rows) {
                Some((targets, factors)) => weighted_likelihood(context, logits, &targets, factors),
                None => Err(unfit(rows.len())),
            },
            HeadRequest::KlTo { log_probs } => {
                let (_, vocab) = logits.dims2()?;
                let own = rows.iter().flat_map(|&row| &log_probs[row * vocab..(row + 1) * vocab]);
                let own: Vec<f32> = own.copied().collect();
                let all = log_probs.len() / vocab;
                Ok(kl(context, logits, &own)?.affine(rows.len() as f64 / all as f64, 0.0)?)
            }
            _ => Err(Error::Batch("only cross-entropy and KL are losses".into())),
        }
    }

    fn likelihoods(&self, rows: &[usize]) -> Option<(Vec<u32>, Vec<f32>)> {
        let HeadRequest::CrossEntropy { targets, weights } = self else { return None };
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        Some(rows.iter().map(|&row| (targets[row], -(f64::from(weights[row]) / total) as f32)).unzip())
    }
}

/// The sum over rows of a factor times the log-likelihood of a target.
fn weighted_likelihood(context: &OpContext, logits: &Tensor, targets: &[u32], factors: Vec<f32>) -> Result<Tensor> {
    check_targets(logits, targets)?;
    let factors = Tensor::from_vec(factors, (targets.len(), 1), &Device::Cpu)?;
    Ok(inner_product(&log_prob_of(context, logits, targets)?, &factors)?)
}

/// Appends a teacher's logits of some wanted rows, `[n, vocab]`.
pub type TeacherLogits<'a> = &'a (dyn Fn(&[usize], &mut Vec<f32>) -> Result<()> + Sync);

/// Learning from a teacher's distributions beside the right tokens (Hinton et al. 2015, section 2):
/// `(1 - share) CE + share T^2 KL(teacher || model)`, the means over all wanted rows, both distributions of the KL at temperature T.
pub struct Distillation<'a> {
    /// One right token a row.
    pub targets: &'a [u32],
    /// The teacher's part, from 0 to 1.
    pub share: f32,
    /// T: what both logits are divided by.
    pub temperature: f32,
    /// Only the teacher's likeliest tokens of a row, so many, and these as if there were no others; `None`: all.
    pub top: Option<usize>,
    /// The teacher.
    pub teacher: TeacherLogits<'a>,
}

impl Objective for Distillation<'_> {
    fn counted(&self, rows: usize, _: usize) -> Result<Vec<usize>> {
        if self.targets.len() != rows || rows == 0 {
            return Err(unfit(rows));
        }
        let fits = (0.0..=1.0).contains(&self.share) && self.temperature.is_finite() && self.temperature > 0.0;
        if !fits || self.top == Some(0) {
            return Err(Error::Batch(format!(
                "a teacher with the share {}, the temperature {} and {:?} tokens teaches nothing",
                self.share, self.temperature, self.top
            )));
        }
        Ok((0..rows).collect())
    }

    fn part(&self, context: &OpContext, logits: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let (_, vocab) = logits.dims2()?;
        let all = self.targets.len() as f64;
        let share = ((1.0 - f64::from(self.share)) / all) as f32;
        let targets: Vec<u32> = rows.iter().map(|&row| self.targets[row]).collect();
        let right = weighted_likelihood(context, logits, &targets, vec![-share; rows.len()])?;
        let mut taught = Vec::new();
        (self.teacher)(rows, &mut taught)?;
        if taught.len() != rows.len() * vocab {
            return Err(Error::Batch(format!(
                "the teacher gives {} logits for {} rows of {vocab}: it has another vocabulary",
                taught.len(),
                rows.len()
            )));
        }
        for row in taught.chunks_exact_mut(vocab) {
            soften(row, self.temperature, self.top);
        }
        let softened = logits.affine(1.0 / f64::from(self.temperature), 0.0)?;
        let weight = f64::from(self.share) * f64::from(self.temperature).powi(2) * rows.len() as f64 / all;
        let taught = kl(context, &softened, &taught)?.affine(weight, 0.0)?;
        Ok(right.add(&taught)?)
    }
}

/// Logits to natural log-probabilities at a temperature, of the `top` likeliest tokens if these are asked for (at the border the
/// first of equals), the others ruled out.
fn soften(row: &mut [f32], temperature: f32, top: Option<usize>) {
    row.iter_mut().for_each(|value| *value /= temperature);
    if let Some(top) = top.filter(|&top| top < row.len()) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.select_nth_unstable_by(top - 1, |&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        order[top..].iter().for_each(|&at| row[at] = f32::NEG_INFINITY);
    }
    let most = row.iter().fold(f32::NEG_INFINITY, |most, &value| most.max(value));
    let sum: f64 = row.iter().map(|&value| f64::from(value - most).exp()).sum();
    let log_sum = (f64::from(most) + sum.ln()) as f32;
    row.iter_mut().for_each(|value| *value -= log_sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_softened_and_cut() {
        let mut row = [2.0, 0.0, 2.0, -4.0];
        soften(&mut row, 2.0, None);
        let sum: f32 = row.iter().map(|v| v.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6 && ((row[0] - row[1]) - 1.0).abs() < 1e-6);
        let mut row = [2.0, 0.0, 2.0, -4.0];
        soften(&mut row, 1.0, Some(1));
        assert_eq!(row, [0.0, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }
}
