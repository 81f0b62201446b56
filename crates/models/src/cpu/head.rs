//! The head on the CPU executor: two-digit products, and strips of rows wherever less than all logits is wanted.

use porism_kernels::loss;

use super::{CpuExecutor, Rows, check_targets};
use crate::batch::Batch;
use crate::linear::Linear;
use crate::parts::Head;
use crate::site::ProbeGroup;
use crate::steps::{HeadOutput, HeadRequest, Score, Steps, likeliest, top_k};
use crate::{Error, Result};

/// Rows of the vocabulary projection that are worked on at a time when only a number a row is wanted.
const HEAD_ROWS: usize = 32;

impl CpuExecutor {
    /// An int8 product whose input is rounded to two digits: the int8 one, and what that leaves over as a second.
    /// For the head, where rounding goes straight into the logits; since the weights are read once for both
    /// digits, it costs little.
    pub(super) fn two_digit_product(&mut self, linear: &Linear, x: &Rows) -> Result<Rows> {
        if linear.in_features() != x.width() {
            return Err(Error::Batch(format!(
                "{} takes {} features, got {}",
                linear.site,
                linear.in_features(),
                x.width()
            )));
        }
        let n = x.data().len();
        let mut digits = self.shelf.rows(2 * x.tokens(), x.width());
        let (first, rest) = digits.data_mut().split_at_mut(n);
        first.copy_from_slice(x.data());
        self.quantized.quantize(&self.pool, self.isa, x.data(), x.width());
        self.quantized.dequantize(rest);
        rest.iter_mut().zip(x.data()).for_each(|(r, x)| *r = x - *r);
        let [sums] = self.base_many([linear], &digits);
        let mut out = self.shelf.rows(x.tokens(), linear.out_features());
        let (first, rest) = sums.data().split_at(out.data().len());
        for ((out, first), rest) in out.data_mut().iter_mut().zip(first).zip(rest) {
            *out = first + rest;
        }
        Ok(out)
    }

    /// Logits of the rows `rows` of the head's normed input.
    fn strip(&mut self, head: &Head, normed: &Rows, rows: std::ops::Range<usize>, batch: &Batch) -> Result<Rows> {
        let selected: Vec<usize> = rows.collect();
        let part = self.select_rows(normed, &selected)?;
        self.logits(head, &part, &batch.select(&selected))
    }

    /// The step's body.
    pub(super) fn strips(
        &mut self,
        head: &Head,
        x: &Rows,
        batch: &Batch,
        request: HeadRequest<'_>,
    ) -> Result<HeadOutput<Rows>> {
        let normed = self.norm(&head.norm, x)?;
        self.probe(ProbeGroup::HeadInput, &normed)?;
        let n = normed.tokens();
        let vocab = head.linear.out_features();
        if let HeadRequest::Logits = request {
            return self.logits(head, &normed, batch).map(HeadOutput::Rows);
        }
        let (given, wanted) = match request {
            HeadRequest::LogProbOf(t) | HeadRequest::Score(t) => (t.len(), n),
            HeadRequest::CrossEntropy { targets, weights } => (targets.len().min(weights.len()), n),
            HeadRequest::KlTo { log_probs } => (log_probs.len(), n * vocab),
            _ => (n, n),
        };
        if given != wanted {
            return Err(Error::Batch(format!("{given} targets where {wanted} are needed")));
        }
        // No [rows, vocab] is ever kept: a few rows of logits at a time, reduced at once.
        let mut top = Vec::new();
        let mut best = Vec::new();
        let mut numbers = self.shelf.rows(n, 1);
        for first in (0..n).step_by(HEAD_ROWS) {
            let rows = first..(first + HEAD_ROWS).min(n);
            let logits = self.strip(head, &normed, rows.clone(), batch)?;
            match request {
                HeadRequest::Logits => {}
                HeadRequest::TopK(k) => {
                    let log_probs = self.log_softmax(logits)?;
                    top.extend((0..rows.len()).map(|i| top_k(log_probs.row(i), k)));
                }
                HeadRequest::LogProbOf(targets)
                | HeadRequest::Score(targets)
                | HeadRequest::CrossEntropy { targets, .. } => {
                    let targets = &targets[rows.clone()];
                    check_targets(&logits, targets)?;
                    if let HeadRequest::Score(_) = request {
                        best.extend((0..rows.len()).map(|i| likeliest(logits.row(i))));
                    }
                    let out = &mut numbers.data_mut()[rows];
                    loss::log_prob_of(&self.pool, self.isa, vocab, logits.data(), targets, out);
                }
                HeadRequest::KlTo { log_probs } => {
                    for (i, row) in rows.enumerate() {
                        let teacher = &log_probs[row * vocab..(row + 1) * vocab];
                        numbers.data_mut()[row] = loss::kl(&self.pool, self.isa, vocab, logits.row(i), teacher);
                    }
                }
            }
        }
        let mean = |numbers: &[f32], weight: &dyn Fn(usize) -> f64| {
            let total: f64 = (0..n).map(weight).sum();
            let sum: f64 = numbers.iter().enumerate().map(|(i, v)| weight(i) * f64::from(*v)).sum();
            if total == 0.0 { 0.0 } else { (sum / total) as f32 }
        };
        let scalar = match request {
            HeadRequest::TopK(_) => return Ok(HeadOutput::TopK(top)),
            HeadRequest::Score(_) => {
                let score = |(&log_prob, likeliest)| Score { log_prob, likeliest };
                return Ok(HeadOutput::Scores(numbers.data().iter().zip(best).map(score).collect()));
            }
            HeadRequest::CrossEntropy { weights, .. } => -mean(numbers.data(), &|i| f64::from(weights[i])),
            HeadRequest::KlTo { .. } => mean(numbers.data(), &|_| 1.0),
            _ => return Ok(HeadOutput::Rows(numbers)),
        };
        let mut out = self.shelf.rows(1, 1);
        out.data_mut()[0] = scalar;
        Ok(HeadOutput::Rows(out))
    }
}
