//! Losses on logits `[rows, vocab]` and their gradients: the log-probability of given tokens, weighted
//! cross-entropy, and the Kullback-Leibler divergence from a teacher. Log-softmax is fused in, so
//! nothing of the logits' size is written in the forward pass.

use crate::disjoint::{Disjoint, for_rows, for_rows2};
use crate::exp::exp;
use crate::lanes::{by_isa, sum};
use crate::softmax::{STRETCH, max_and_log_sum};
use crate::{Isa, Pool};

/// `out[r] = log p(targets[r])` under the softmax of row `r`; natural logarithm.
///
/// # Panics
/// If the lengths do not fit or a target is not below `vocab`.
pub fn log_prob_of(pool: &Pool, isa: Isa, vocab: usize, logits: &[f32], targets: &[u32], out: &mut [f32]) {
    check(vocab, logits, targets);
    assert_eq!(out.len(), targets.len(), "log_prob_of: one number a row");
    per_row(pool, out, |row| log_prob_of_row(isa, &logits[row * vocab..(row + 1) * vocab], targets[row]));
}

/// The gradient of [`log_prob_of`]: `dlogits[r] = dy[r] * (onehot(targets[r]) - softmax(logits[r]))`.
///
/// # Panics
/// As [`log_prob_of`].
pub fn log_prob_of_backward(
    pool: &Pool,
    isa: Isa,
    vocab: usize,
    logits: &[f32],
    targets: &[u32],
    dy: &[f32],
    dlogits: &mut [f32],
) {
    check(vocab, logits, targets);
    assert!(dy.len() == targets.len() && dlogits.len() == logits.len(), "log_prob_of_backward: lengths do not fit");
    for_rows(pool, vocab, dlogits, |first, rows| {
        for (i, dlogits) in rows.chunks_exact_mut(vocab).enumerate() {
            let row = first + i;
            let logits = &logits[row * vocab..(row + 1) * vocab];
            log_prob_of_row_backward(isa, logits, targets[row], dy[row], dlogits);
        }
    });
}

/// [`log_prob_of`], and in the place of the logits its gradient as of [`log_prob_of_backward`]: there is no second array of
/// their size.
///
/// # Panics
/// As [`log_prob_of`].
pub fn log_prob_of_with_gradient(
    pool: &Pool,
    isa: Isa,
    vocab: usize,
    logits: &mut [f32],
    targets: &[u32],
    dy: &[f32],
    out: &mut [f32],
) {
    check(vocab, logits, targets);
    assert!(dy.len() == targets.len() && out.len() == targets.len(), "log_prob_of_with_gradient: one number a row");
    for_rows2(pool, vocab, logits, 1, out, |first, rows, out| {
        for (i, (logits, out)) in rows.chunks_exact_mut(vocab).zip(out).enumerate() {
            *out = log_prob_of_row_with_gradient(isa, targets[first + i], dy[first + i], logits);
        }
    });
}

/// `sum_r w_r * -log p(target_r) / sum_r w_r`; rows of weight zero are not looked at. Zero if the
/// weights sum to zero.
///
/// # Panics
/// As [`log_prob_of`].
pub fn cross_entropy(pool: &Pool, isa: Isa, vocab: usize, logits: &[f32], targets: &[u32], weights: &[f32]) -> f32 {
    check(vocab, logits, targets);
    assert_eq!(weights.len(), targets.len(), "cross_entropy: one weight a row");
    let mut log_probs = vec![0.0; targets.len()];
    per_row(pool, &mut log_probs, |row| {
        if weights[row] == 0.0 {
            return 0.0;
        }
        log_prob_of_row(isa, &logits[row * vocab..(row + 1) * vocab], targets[row])
    });
    let loss: f64 = log_probs.iter().zip(weights).map(|(&l, &w)| -f64::from(l) * f64::from(w)).sum();
    let total = total_weight(weights);
    if total == 0.0 { 0.0 } else { (loss / total) as f32 }
}

/// The gradient of [`cross_entropy`] times `dy`.
///
/// # Panics
/// As [`log_prob_of`].
pub fn cross_entropy_backward(
    pool: &Pool,
    isa: Isa,
    vocab: usize,
    logits: &[f32],
    targets: &[u32],
    weights: &[f32],
    dy: f32,
    dlogits: &mut [f32],
) {
    assert_eq!(weights.len(), targets.len(), "cross_entropy_backward: one weight a row");
    let total = total_weight(weights);
    let scale = if total == 0.0 { 0.0 } else { -f64::from(dy) / total };
    let dy: Vec<f32> = weights.iter().map(|&w| (scale * f64::from(w)) as f32).collect();
    log_prob_of_backward(pool, isa, vocab, logits, targets, &dy, dlogits);
}

/// The mean over rows of `KL(teacher || model) = sum_i p_i * (log p_i - log q_i)` with `q` the softmax of
/// the logits and `log p` given, `[rows, vocab]`. Entries of negative infinity count as zero.
///
/// # Panics
/// If the lengths do not fit.
pub fn kl(pool: &Pool, isa: Isa, vocab: usize, logits: &[f32], teacher_log_probs: &[f32]) -> f32 {
    assert!(
        vocab > 0 && logits.len().is_multiple_of(vocab) && teacher_log_probs.len() == logits.len(),
        "kl: lengths do not fit"
    );
    let mut rows = vec![0.0; logits.len() / vocab];
    per_row(pool, &mut rows, |row| {
        let at = row * vocab..(row + 1) * vocab;
        kl_row(isa, &logits[at.clone()], &teacher_log_probs[at])
    });
    let total: f64 = rows.iter().map(|&v| f64::from(v)).sum();
    (total / rows.len().max(1) as f64) as f32
}

/// The gradient of [`kl`] with respect to the logits, times `dy`: `(softmax(logits) * sum_i p_i - p) * dy / rows`.
///
/// # Panics
/// If the lengths do not fit.
pub fn kl_backward(
    pool: &Pool,
    isa: Isa,
    vocab: usize,
    logits: &[f32],
    teacher_log_probs: &[f32],
    dy: f32,
    dlogits: &mut [f32],
) {
    assert!(
        vocab > 0
            && logits.len().is_multiple_of(vocab)
            && teacher_log_probs.len() == logits.len()
            && dlogits.len() == logits.len(),
        "kl_backward: lengths do not fit"
    );
    let dy = dy / (logits.len() / vocab).max(1) as f32;
    for_rows(pool, vocab, dlogits, |first, rows| {
        for (i, dlogits) in rows.chunks_exact_mut(vocab).enumerate() {
            let at = (first + i) * vocab..(first + i + 1) * vocab;
            kl_row_backward(isa, &logits[at.clone()], &teacher_log_probs[at], dy, dlogits);
        }
    });
}

fn check(vocab: usize, logits: &[f32], targets: &[u32]) {
    assert!(vocab > 0 && logits.len() == targets.len() * vocab, "loss: {} logits do not fit", logits.len());
    assert!(targets.iter().all(|&t| (t as usize) < vocab), "loss: a target is outside the vocabulary of {vocab}");
}

fn total_weight(weights: &[f32]) -> f64 {
    weights.iter().map(|&w| f64::from(w)).sum()
}

/// One number for each row, each row a tile of its own: a row is a whole vocabulary.
fn per_row(pool: &Pool, out: &mut [f32], f: impl Fn(usize) -> f32 + Sync) {
    let rows = out.len();
    let parts = Disjoint::new(out);
    pool.run(rows, &|row| {
        // SAFETY: each tile writes the one number of its own row.
        let part = unsafe { parts.part(row..row + 1) };
        part[0] = f(row);
    });
}

by_isa! {
    fn log_prob_of_row(logits: &[f32], target: u32) -> f32 {
        let (top, log_sum) = max_and_log_sum(logits);
        (logits[target as usize] - top) - log_sum
    }
}

by_isa! {
    fn log_prob_of_row_backward(logits: &[f32], target: u32, dy: f32, dlogits: &mut [f32]) {
        if dy == 0.0 {
            dlogits.fill(0.0);
            return;
        }
        let (top, log_sum) = max_and_log_sum(logits);
        for (d, &z) in dlogits.iter_mut().zip(logits) {
            *d = exp((z - top) - log_sum) * -dy;
        }
        dlogits[target as usize] += dy;
    }
}

by_isa! {
    fn log_prob_of_row_with_gradient(target: u32, dy: f32, logits: &mut [f32]) -> f32 {
        let (top, log_sum) = max_and_log_sum(logits);
        let log_prob = (logits[target as usize] - top) - log_sum;
        if dy == 0.0 {
            logits.fill(0.0);
            return log_prob;
        }
        for z in logits.iter_mut() {
            *z = exp((*z - top) - log_sum) * -dy;
        }
        logits[target as usize] += dy;
        log_prob
    }
}

by_isa! {
    fn kl_row(logits: &[f32], teacher: &[f32]) -> f32 {
        let (top, log_sum) = max_and_log_sum(logits);
        let mut terms = [0.0f32; STRETCH];
        let mut divergence = 0.0f64;
        for (z, t) in logits.chunks(STRETCH).zip(teacher.chunks(STRETCH)) {
            let terms = &mut terms[..z.len()];
            for ((term, &z), &t) in terms.iter_mut().zip(z).zip(t) {
                let p = exp(t);
                *term = if p == 0.0 { 0.0 } else { p * (t - ((z - top) - log_sum)) };
            }
            divergence += f64::from(sum(terms));
        }
        divergence as f32
    }
}

by_isa! {
    fn kl_row_backward(logits: &[f32], teacher: &[f32], dy: f32, dlogits: &mut [f32]) {
        let (top, log_sum) = max_and_log_sum(logits);
        let mut mass = 0.0f64;
        for (d, t) in dlogits.chunks_mut(STRETCH).zip(teacher.chunks(STRETCH)) {
            for (d, &t) in d.iter_mut().zip(t) {
                *d = exp(t);
            }
            mass += f64::from(sum(d));
        }
        let mass = mass as f32;
        for (d, &z) in dlogits.iter_mut().zip(logits) {
            *d = dy * exp((z - top) - log_sum).mul_add(mass, -*d);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, finite_differences, wide};

    const VOCAB: usize = 23;
    const TARGETS: [u32; 4] = [0, 22, 7, 7];
    const WEIGHTS: [f32; 4] = [1.0, 0.0, 2.5, 0.5];

    fn log_probs(logits: &[f64]) -> Vec<f64> {
        logits
            .chunks_exact(VOCAB)
            .flat_map(|row| {
                let total = row.iter().map(|v| v.exp()).sum::<f64>().ln();
                row.iter().map(|v| v - total).collect::<Vec<_>>()
            })
            .collect()
    }

    fn twin_log_prob_of(logits: &[f64]) -> Vec<f64> {
        let all = log_probs(logits);
        TARGETS.iter().enumerate().map(|(r, &t)| all[r * VOCAB + t as usize]).collect()
    }

    fn twin_cross_entropy(logits: &[f64]) -> f64 {
        let (losses, weights) = (twin_log_prob_of(logits), wide(&WEIGHTS));
        losses.iter().zip(&weights).map(|(l, w)| -l * w).sum::<f64>() / weights.iter().sum::<f64>()
    }

    fn twin_kl(logits: &[f64], teacher: &[f64]) -> f64 {
        let student = log_probs(logits);
        let terms = teacher.iter().zip(&student).map(|(t, s)| if t.is_finite() { t.exp() * (t - s) } else { 0.0 });
        terms.sum::<f64>() / (logits.len() / VOCAB) as f64
    }

    /// A teacher's log-probabilities; the second row has a token that cannot be.
    fn teacher() -> Vec<f32> {
        let mut logits = wide(&Numbers::new(9).normal(4 * VOCAB));
        logits[VOCAB + 3] = f64::NEG_INFINITY;
        log_probs(&logits).iter().map(|&v| v as f32).collect()
    }

    #[test]
    fn a_gradient_in_the_place_of_logits_is_the_gradient() {
        let pool = Pool::new(2);
        let logits = Numbers::new(5).normal(4 * VOCAB);
        let dy = [0.7, 0.0, -1.5, 2.0];
        for isa in Isa::available() {
            let (mut want, mut log_probs) = (vec![0.0; logits.len()], [0.0; 4]);
            log_prob_of(&pool, isa, VOCAB, &logits, &TARGETS, &mut log_probs);
            log_prob_of_backward(&pool, isa, VOCAB, &logits, &TARGETS, &dy, &mut want);
            let (mut place, mut out) = (logits.clone(), [0.0; 4]);
            log_prob_of_with_gradient(&pool, isa, VOCAB, &mut place, &TARGETS, &dy, &mut out);
            assert_eq!((place, out), (want, log_probs), "{}", isa.name());
        }
    }

    #[test]
    fn forward_is_the_f64_twin() {
        let (pool, isa) = (Pool::new(2), Isa::detect());
        let logits = Numbers::new(1).normal(4 * VOCAB);
        let mut out = [0.0; 4];
        log_prob_of(&pool, isa, VOCAB, &logits, &TARGETS, &mut out);
        assert_close(&out, &twin_log_prob_of(&wide(&logits)), 3e-7, "log_prob_of");
        let loss = cross_entropy(&pool, isa, VOCAB, &logits, &TARGETS, &WEIGHTS);
        assert_close(&[loss], &[twin_cross_entropy(&wide(&logits))], 3e-7, "cross_entropy");
        let loss = kl(&pool, isa, VOCAB, &logits, &teacher());
        assert_close(&[loss], &[twin_kl(&wide(&logits), &wide(&teacher()))], 3e-7, "kl");
        let same: Vec<f32> = log_probs(&wide(&logits)).iter().map(|&v| v as f32).collect();
        assert!(kl(&pool, isa, VOCAB, &logits, &same).abs() < 1e-6, "no divergence from itself");
        assert_eq!(cross_entropy(&pool, isa, VOCAB, &logits, &TARGETS, &[0.0; 4]), 0.0);
    }

    #[test]
    fn backward_is_the_finite_difference() {
        let (pool, isa) = (Pool::new(2), Isa::detect());
        let mut numbers = Numbers::new(2);
        let (logits, dy) = (numbers.normal(4 * VOCAB), numbers.normal(4));
        let mut got = vec![0.0; logits.len()];
        log_prob_of_backward(&pool, isa, VOCAB, &logits, &TARGETS, &dy, &mut got);
        let along = |z: &[f64]| twin_log_prob_of(z).iter().zip(wide(&dy)).map(|(y, d)| y * d).sum::<f64>();
        assert_close(&got, &finite_differences(&logits, along), 1e-6, "log_prob_of");
        cross_entropy_backward(&pool, isa, VOCAB, &logits, &TARGETS, &WEIGHTS, 1.5, &mut got);
        let want = finite_differences(&logits, |z| 1.5 * twin_cross_entropy(z));
        assert_close(&got, &want, 1e-6, "cross_entropy");
        kl_backward(&pool, isa, VOCAB, &logits, &teacher(), 1.5, &mut got);
        let want = finite_differences(&logits, |z| 1.5 * twin_kl(z, &wide(&teacher())));
        assert_close(&got, &want, 1e-6, "kl");
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let mut numbers = Numbers::new(3);
        let (logits, teacher) = (numbers.normal(2 * 1300), numbers.normal(2 * 1300));
        let run = |isa, threads| {
            let pool = Pool::new(threads);
            let mut out = [vec![0.0; 2600], vec![0.0; 2600]];
            let [a, b] = &mut out;
            cross_entropy_backward(&pool, isa, 1300, &logits, &[5, 1299], &[1.0, 2.0], 1.0, a);
            kl_backward(&pool, isa, 1300, &logits, &teacher, 1.0, b);
            let loss = cross_entropy(&pool, isa, 1300, &logits, &[5, 1299], &[1.0, 2.0]);
            (out, loss, kl(&pool, isa, 1300, &logits, &teacher))
        };
        let want = run(Isa::Scalar, 1);
        for isa in Isa::available() {
            assert!(run(isa, 2) == want, "{}", isa.name());
        }
    }
}
