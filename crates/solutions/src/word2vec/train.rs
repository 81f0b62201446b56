//! Training: one pair and its negatives at a time, as word2vec's own program does it.
//!
//! The loss of a pair is `-log sigmoid(v . u) - sum log sigmoid(-v . u_n)` with the center's vector v, the context's u
//! and those of words drawn by their counts to the power 3/4; its gradients are `(sigmoid(v . u) - label) u` and `.. v`.

use super::Corpus;
use crate::logistic::sigmoid;
use crate::random::Random;

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Numbers a word.
    pub width: usize,
    /// How far apart words of a pair are at most.
    pub window: usize,
    /// Words drawn against each pair.
    pub negatives: usize,
    /// Passes over the text.
    pub epochs: usize,
    /// The step size at first; it falls to zero.
    pub lr: f64,
    /// Of all draws.
    pub seed: u64,
    /// Whether one matrix is both: a word has the same vector as center and as context.
    pub tied: bool,
}

/// What was learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// A vector a word, as center.
    pub centers: Vec<Vec<f64>>,
    /// A vector a word, as context; empty if the matrices are tied.
    contexts: Vec<Vec<f64>>,
    /// The mean loss of a pair in each epoch.
    pub losses: Vec<f64>,
}

impl Embeddings {
    fn new(words: usize, training: &Training, random: &mut Random) -> Embeddings {
        let width = training.width;
        let mut row = || (0..width).map(|_| (random.uniform() - 0.5) / width as f64).collect();
        let centers = (0..words).map(|_| row()).collect();
        let contexts = if training.tied { Vec::new() } else { vec![vec![0.0; width]; words] };
        Embeddings { centers, contexts, losses: Vec::new() }
    }

    /// The vector of a word as context.
    pub fn context(&self, word: usize) -> &[f64] {
        if self.contexts.is_empty() { &self.centers[word] } else { &self.contexts[word] }
    }

    fn context_mut(&mut self, word: usize) -> &mut [f64] {
        if self.contexts.is_empty() { &mut self.centers[word] } else { &mut self.contexts[word] }
    }

    /// The score of a word as context of itself.
    pub fn self_score(&self, word: usize) -> f64 {
        crate::vector::dot(&self.centers[word], self.context(word))
    }

    /// One step for a pair and its negatives; gives the loss before.
    fn step(&mut self, center: usize, context: usize, negatives: &[usize], lr: f64) -> f64 {
        let v = self.centers[center].clone();
        let mut back = vec![0.0; v.len()];
        let mut loss = 0.0;
        let drawn = negatives.iter().map(|&word| (word, false));
        for (word, label) in std::iter::once((context, true)).chain(drawn) {
            let u = self.context_mut(word);
            let score = crate::vector::dot(&v, u);
            loss += crate::logistic::loss(score, label);
            let error = sigmoid(score) - f64::from(u8::from(label));
            for ((back, u), v) in back.iter_mut().zip(u).zip(&v) {
                *back += error * *u;
                *u -= lr * error * v;
            }
        }
        self.centers[center].iter_mut().zip(&back).for_each(|(v, b)| *v -= lr * b);
        loss
    }
}

/// Words drawn by their counts to the power 3/4.
struct Urn {
    sums: Vec<f64>,
}

impl Urn {
    fn new(counts: &[usize]) -> Urn {
        let mut sum = 0.0;
        let sums = counts.iter().map(|&n| {
            sum += (n as f64).powf(0.75);
            sum
        });
        Urn { sums: sums.collect() }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let place = random.uniform() * self.sums.last().copied().unwrap_or(0.0);
        self.sums.partition_point(|&s| s <= place).min(self.sums.len().saturating_sub(1))
    }
}

/// Trains on a text.
pub fn train(corpus: &Corpus, training: &Training) -> Embeddings {
    let mut random = Random::new(training.seed);
    let mut embeddings = Embeddings::new(corpus.words.len(), training, &mut random);
    let mut pairs = corpus.pairs(training.window);
    let urn = Urn::new(&corpus.counts);
    let all = (pairs.len() * training.epochs).max(1) as f64;
    let mut done = 0;
    let mut negatives = Vec::new();
    for _ in 0..training.epochs {
        // Shuffled (Fisher and Yates), or words would be learnt in the order of the text.
        for i in (1..pairs.len()).rev() {
            pairs.swap(i, random.below(i + 1));
        }
        let mut loss = 0.0;
        for &(center, context) in &pairs {
            negatives.clear();
            negatives.extend((0..training.negatives).map(|_| urn.draw(&mut random)).filter(|&n| n != context));
            let lr = training.lr * (1.0 - f64::from(done) / all).max(1e-4);
            loss += embeddings.step(center, context, &negatives, lr);
            done += 1;
        }
        embeddings.losses.push(loss / pairs.len().max(1) as f64);
    }
    embeddings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::{binary_cross_entropy, context, gradient, variable};
    use candle_core::Tensor;
    use porism_ops::{linear, select_rows};

    /// A step is the loss's gradient, as the tape has it, times the step size.
    #[test]
    fn a_step_goes_against_the_gradient_of_the_tape() {
        let training = Training { width: 5, window: 1, negatives: 2, epochs: 1, lr: 0.1, seed: 3, tied: false };
        let mut random = Random::new(4);
        let mut before = Embeddings::new(6, &training, &mut random);
        let mut draw = |n: usize| (0..n).map(|_| random.normal()).collect::<Vec<f64>>();
        before.centers = (0..6).map(|_| draw(5)).collect();
        before.contexts = (0..6).map(|_| draw(5)).collect();
        let (center, word, negatives) = (1, 2, [4, 5]);
        let mut after = before.clone();
        let lr = 1e-3;
        let loss = after.step(center, word, &negatives, lr);

        let context = context();
        let centers = variable(6, &before.centers.concat()).expect("a variable");
        let contexts = variable(6, &before.contexts.concat()).expect("a variable");
        let v = select_rows(&context, &centers, &[center as u32]).expect("a row");
        let mut total: Option<Tensor> = None;
        for (word, yes) in [(word, true), (negatives[0], false), (negatives[1], false)] {
            let u = select_rows(&context, &contexts, &[word as u32]).expect("a row");
            let z = linear(&context, &v, &u).expect("a score");
            let one = binary_cross_entropy(&context, &z, yes).expect("a loss");
            total = Some(match total {
                Some(sum) => sum.add(&one).expect("a sum"),
                None => one,
            });
        }
        let total = total.expect("a loss");
        let value = crate::tape::numbers(&total).expect("a number")[0];
        assert!((value - loss).abs() < 1e-5, "{value} {loss}");
        let gradients = total.backward().expect("gradients");
        let moved = |before: &[Vec<f64>], after: &[Vec<f64>]| -> Vec<f64> {
            before.concat().iter().zip(after.concat()).map(|(b, a)| (b - a) / lr).collect()
        };
        for (of, by_hand) in
            [(&centers, moved(&before.centers, &after.centers)), (&contexts, moved(&before.contexts, &after.contexts))]
        {
            let by_tape = gradient(&gradients, of).expect("a gradient");
            for (a, b) in by_tape.iter().zip(&by_hand) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }

    #[test]
    fn the_urn_has_counts_to_three_quarters() {
        let urn = Urn::new(&[1, 16, 81]);
        let mut random = Random::new(9);
        let mut drawn = [0usize; 3];
        (0..36_000).for_each(|_| drawn[urn.draw(&mut random)] += 1);
        // 1 : 8 : 27 of 36,000; four standard deviations are below 400.
        for (n, want) in drawn.into_iter().zip([1_000, 8_000, 27_000]) {
            assert!(n.abs_diff(want) < 400, "{drawn:?}");
        }
    }
}
