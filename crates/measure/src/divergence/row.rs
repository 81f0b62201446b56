//! One position: two distributions over the same tokens.

use crate::{Error, Result};

/// What two models say of one position.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Row {
    /// `KL(a || b)`, in nats.
    pub(super) kl: f64,
    /// Whether both have the same likeliest token.
    pub(super) same_top: bool,
    /// The log-probability of the token that came.
    pub(super) log_prob_a: f64,
    /// The same of the other.
    pub(super) log_prob_b: f64,
}

impl Row {
    /// From the logits of both and the token that came.
    pub(super) fn new(a: &[f32], b: &[f32], token: u32) -> Row {
        let (of_a, of_b) = (Normalizer::new(a), Normalizer::new(b));
        let mut kl = 0.0;
        for (&a, &b) in a.iter().zip(b) {
            let log_a = of_a.log_prob(a);
            let p = log_a.exp();
            // What has no probability adds nothing, however little the other gives it.
            if p > 0.0 {
                kl += p * (log_a - of_b.log_prob(b));
            }
        }
        Row {
            // Rounding can bring equal distributions below zero.
            kl: if kl < 0.0 { 0.0 } else { kl },
            same_top: of_a.top == of_b.top,
            log_prob_a: of_a.log_prob(a[token as usize]),
            log_prob_b: of_b.log_prob(b[token as usize]),
        }
    }

    /// An error if something is no finite number.
    pub(super) fn check(&self, chunk: usize, token: usize) -> Result<()> {
        for value in [self.log_prob_a, self.log_prob_b, self.kl] {
            if !value.is_finite() {
                return Err(Error::NotFinite { chunk, token, value: value as f32 });
            }
        }
        Ok(())
    }
}

/// What turns logits into log-probabilities.
struct Normalizer {
    log_sum: f64,
    top: usize,
}

impl Normalizer {
    fn new(logits: &[f32]) -> Normalizer {
        let mut top = 0;
        for (i, &logit) in logits.iter().enumerate() {
            if logit > logits[top] {
                top = i;
            }
        }
        let most = f64::from(logits[top]);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum();
        Normalizer { log_sum: most + sum.ln(), top }
    }

    fn log_prob(&self, logit: f32) -> f64 {
        f64::from(logit) - self.log_sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_coins() {
        // (1/2, 1/2) against (3/4, 1/4): ln(4/3) / 2.
        let row = Row::new(&[1.0, 1.0], &[3f32.ln(), 0.0], 1);
        assert!((row.kl - (4f64 / 3.0).ln() / 2.0).abs() < 1e-7, "{row:?}");
        assert!((row.log_prob_a - 0.5f64.ln()).abs() < 1e-12 && (row.log_prob_b - 0.25f64.ln()).abs() < 1e-7);
        assert!(row.same_top, "of equals the first is taken");
        assert!(!Row::new(&[0.0, 1.0], &[1.0, 0.0], 0).same_top);
    }

    #[test]
    fn the_same_is_exactly_zero() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1000) as f32 * 0.01).collect();
        let row = Row::new(&logits, &logits, 3);
        assert_eq!((row.kl, row.same_top, row.log_prob_a), (0.0, true, row.log_prob_b));
    }

    #[test]
    fn what_is_impossible_for_one_only_is_an_error_of_the_other_alone() {
        let (sure, open) = ([0.0, f32::NEG_INFINITY], [0.0, 0.0]);
        assert!((Row::new(&sure, &open, 0).kl - 2f64.ln()).abs() < 1e-12);
        assert!(Row::new(&open, &sure, 0).check(1, 0).is_err(), "infinitely far");
        assert!(Row::new(&[f32::NAN, 0.0], &open, 0).check(1, 0).is_err());
    }
}
