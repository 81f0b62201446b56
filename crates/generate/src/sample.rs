//! Choosing the next token from logits.
//!
//! The order is llama.cpp's: repetition penalty, top-k, top-p, min-p, temperature, draw. The draw's
//! randomness is a function of (seed, sequence, position), so a request's tokens do not depend on what ran
//! beside it or before it.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{Error, Result};

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keeps the k likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the likeliest tokens that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens less likely than this fraction of the likeliest one's probability; 0 drops none.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens among the last 64; 1 changes nothing
    /// (Keskar et al. 2019, section 4.1).
    pub repeat_penalty: f32,
    /// The key of the randomness.
    pub seed: u64,
}

/// Tokens that the repetition penalty looks back at.
const PENALTY_WINDOW: usize = 64;

impl Sampling {
    /// The likeliest token each time.
    pub const GREEDY: Sampling =
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.0, seed: 0 };
}

/// Tokens that may come next: the seam of constrained decoding.
pub trait TokenMask {
    /// Whether the token may come next.
    fn allows(&self, id: u32) -> bool;
}

/// Which draw this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Number of the sequence among those of one seed.
    pub sequence: u64,
    /// Tokens before the one that is drawn.
    pub position: u64,
}

impl Draw {
    /// A number in [0, 1), a function of the seed and of the draw.
    fn uniform(self, seed: u64) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(self.sequence);
        // A block of sixteen words for each position.
        random.set_word_pos(u128::from(self.position) * 16);
        random.random()
    }
}

impl Sampling {
    /// Chooses a token. `recent` are the tokens before it, the latest last.
    pub fn choose(&self, logits: &[f32], recent: &[u32], mask: Option<&dyn TokenMask>, draw: Draw) -> Result<u32> {
        if logits.iter().any(|l| l.is_nan()) {
            return Err(Error::NotANumber { position: draw.position as usize });
        }
        let mut candidates: Vec<(u32, f32)> =
            (0u32..).zip(logits.iter().copied()).filter(|(id, _)| mask.is_none_or(|m| m.allows(*id))).collect();
        if candidates.is_empty() {
            return Err(Error::NothingAllowed);
        }
        self.penalize(&mut candidates, recent);
        if self.temperature <= 0.0 {
            let likeliest = candidates.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a });
            return likeliest.map(|c| c.0).ok_or(Error::NothingAllowed);
        }
        let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if self.top_k > 0 && self.top_k < candidates.len() {
            candidates.select_nth_unstable_by(self.top_k - 1, order);
            candidates.truncate(self.top_k);
        }
        candidates.sort_unstable_by(order);
        let top = candidates[0].1;
        let weight = |logit: f32, temperature: f32| f64::from((logit - top) / temperature).exp();
        if self.top_p < 1.0 {
            let total: f64 = candidates.iter().map(|c| weight(c.1, 1.0)).sum();
            let mut reached = 0.0;
            let keep = candidates.iter().position(|c| {
                reached += weight(c.1, 1.0);
                reached >= f64::from(self.top_p) * total
            });
            candidates.truncate(keep.map_or(candidates.len(), |i| i + 1));
        }
        if self.min_p > 0.0 {
            candidates.retain(|c| c.1 == top || weight(c.1, 1.0) >= f64::from(self.min_p));
        }
        let weights: Vec<f64> = candidates.iter().map(|c| weight(c.1, self.temperature)).collect();
        let mut left = draw.uniform(self.seed) * weights.iter().sum::<f64>();
        for (candidate, weight) in candidates.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return Ok(candidate.0);
            }
        }
        // Rounding left a crumb beyond the last weight.
        Ok(candidates[candidates.len() - 1].0)
    }

    fn penalize(&self, candidates: &mut [(u32, f32)], recent: &[u32]) {
        if self.repeat_penalty == 1.0 {
            return;
        }
        let recent = &recent[recent.len().saturating_sub(PENALTY_WINDOW)..];
        for (id, logit) in candidates {
            if recent.contains(id) {
                *logit = if *logit > 0.0 { *logit / self.repeat_penalty } else { *logit * self.repeat_penalty };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };

    fn draws(sampling: &Sampling, logits: &[f32], n: u64) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        for position in 0..n {
            let draw = Draw { sequence: 3, position };
            counts[sampling.choose(logits, &[], None, draw).expect("a token") as usize] += 1;
        }
        counts
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [1.0f32, 0.0, -1.0, 2.0];
        for temperature in [0.5f32, 1.0, 2.0] {
            let n = 20_000;
            let counts = draws(&Sampling { temperature, ..PLAIN }, &logits, n);
            let total: f64 = logits.iter().map(|l| f64::from(l / temperature).exp()).sum();
            for (count, l) in counts.iter().zip(logits) {
                let p = f64::from(l / temperature).exp() / total;
                // Five standard deviations of a binomial count.
                let far = 5.0 * (n as f64 * p * (1.0 - p)).sqrt();
                assert!((*count as f64 - n as f64 * p).abs() < far, "temperature {temperature}: {counts:?}");
            }
        }
    }

    #[test]
    fn filters_keep_what_they_say() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let logits: Vec<f32> = [0.5f32, 0.25, 0.125, 0.125].iter().map(|p| p.ln()).collect();
        let kept = |s: &Sampling| draws(s, &logits, 500).iter().map(|&c| c > 0).collect::<Vec<_>>();
        assert_eq!(kept(&PLAIN), [true; 4]);
        assert_eq!(kept(&Sampling { top_k: 2, ..PLAIN }), [true, true, false, false]);
        assert_eq!(kept(&Sampling { top_p: 0.5, ..PLAIN }), [true, false, false, false]);
        assert_eq!(kept(&Sampling { top_p: 0.6, ..PLAIN }), [true, true, false, false]);
        assert_eq!(kept(&Sampling { min_p: 0.3, ..PLAIN }), [true, true, false, false]);
        assert_eq!(kept(&Sampling { min_p: 1.0, ..PLAIN }), [true, false, false, false]);
    }

    #[test]
    fn the_penalty_turns_a_close_race() {
        let greedy = Sampling { repeat_penalty: 1.5, ..Sampling::GREEDY };
        let draw = Draw { sequence: 0, position: 9 };
        assert_eq!(greedy.choose(&[2.0, 1.9, -1.0], &[0], None, draw).expect("a token"), 1);
        assert_eq!(greedy.choose(&[-1.0, -1.1], &[0], None, draw).expect("a token"), 1);
        assert_eq!(Sampling::GREEDY.choose(&[2.0, 1.9], &[0], None, draw).expect("a token"), 0);
    }

    #[test]
    fn a_mask_rules_and_an_empty_one_is_an_error() {
        struct Only(Option<u32>);
        impl TokenMask for Only {
            fn allows(&self, id: u32) -> bool {
                self.0 == Some(id)
            }
        }
        let draw = Draw { sequence: 0, position: 0 };
        assert_eq!(PLAIN.choose(&[9.0, 0.0], &[], Some(&Only(Some(1))), draw).expect("a token"), 1);
        assert!(matches!(PLAIN.choose(&[9.0, 0.0], &[], Some(&Only(None)), draw), Err(Error::NothingAllowed)));
        assert!(matches!(PLAIN.choose(&[f32::NAN], &[], None, draw), Err(Error::NotANumber { .. })));
    }

    #[test]
    fn a_draw_is_a_function_of_its_key() {
        let at = |seed, sequence, position| Draw { sequence, position }.uniform(seed);
        assert_eq!(at(1, 2, 3), at(1, 2, 3));
        let others = [at(2, 2, 3), at(1, 3, 3), at(1, 2, 4)];
        assert!(others.iter().all(|&o| o != at(1, 2, 3)));
    }
}
