//! Quantiles of a sample, and how sure they are.

/// The value below which a share `p` of the sorted sample lies, between neighbours in proportion; 0 for no sample.
pub(super) fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = p * last as f64;
    let below = (at.floor() as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

/// The standard error of [`quantile`]: the bootstrap's, without drawing (Maritz and Jarrett 1978).
///
/// Of `n` draws from the sample the k-th smallest is at most the sample's i-th if at most `n - k` of them lie above it, which
/// is a sum of binomial probabilities; so its distribution is known exactly.
pub(super) fn quantile_error(sorted: &[f64], p: f64) -> f64 {
    let n = sorted.len();
    if n < 2 {
        return 0.0;
    }
    let at = (p * (n - 1) as f64).round() as usize;
    let above = n - 1 - at;
    let log_factorials = log_factorials(n);
    // What lies ten standard deviations of the binomial away has no weight.
    let reach = 10 + (10.0 * ((at + 1) as f64 * (above + 1) as f64 / n as f64).sqrt()) as usize;
    let (mut mean, mut square, mut known) = (0.0, 0.0, 1.0);
    for i in (at.saturating_sub(reach)..(at + reach + 1).min(n)).rev() {
        let less = if i == 0 { 0.0 } else { at_most(above, n, (n - i) as f64 / n as f64, &log_factorials) };
        mean += (known - less) * sorted[i];
        square += (known - less) * sorted[i] * sorted[i];
        known = less;
    }
    (square - mean * mean).max(0.0).sqrt()
}

/// `ln k!` for `k` from 0 to `n`.
fn log_factorials(n: usize) -> Vec<f64> {
    let mut sum = 0.0;
    std::iter::once(0.0)
        .chain((1..=n).map(|k| {
            sum += (k as f64).ln();
            sum
        }))
        .collect()
}

/// The probability that of `n` draws with chance `q` at most `k` succeed.
fn at_most(k: usize, n: usize, q: f64, log_factorials: &[f64]) -> f64 {
    let (log_q, log_rest) = (q.ln(), (-q).ln_1p());
    let term = |j: usize| {
        let ways = log_factorials[n] - log_factorials[j] - log_factorials[n - j];
        (ways + j as f64 * log_q + (n - j) as f64 * log_rest).exp()
    };
    // Downwards from k or from the likeliest below it: on either side terms only shrink.
    let likeliest = ((n as f64 * q) as usize).min(k);
    let mut sum = 0.0;
    for j in (0..=likeliest).rev() {
        let t = term(j);
        sum += t;
        if t < 1e-18 * sum {
            break;
        }
    }
    for j in likeliest + 1..=k {
        let t = term(j);
        sum += t;
        if t < 1e-18 * sum {
            break;
        }
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.quantile([1, 2, 4, 8], [0, 0.25, 0.5, 0.9, 1])
        let sample = [1.0, 2.0, 4.0, 8.0];
        for (p, want) in [(0.0, 1.0), (0.25, 1.75), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert!((quantile(&sample, p) - want).abs() < 1e-12, "{p}");
        }
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(quantile(&[3.0], 0.999), 3.0);
    }

    #[test]
    fn the_error_is_that_of_all_samples_that_can_be_drawn() {
        let sample = [1.0, 2.0, 4.0, 8.0, 9.0];
        for p in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let k = (p * 4.0f64).round() as usize;
            let (mut sum, mut square) = (0.0, 0.0);
            for draw in 0..5usize.pow(5) {
                let mut drawn: Vec<f64> = (0..5).map(|d| sample[draw / 5usize.pow(d) % 5]).collect();
                drawn.sort_by(f64::total_cmp);
                sum += drawn[k];
                square += drawn[k] * drawn[k];
            }
            let count = 5f64.powi(5);
            let want = (square / count - (sum / count).powi(2)).sqrt();
            let got = quantile_error(&sample, p);
            assert!((got - want).abs() < 1e-9, "{p}: {got} and not {want}");
        }
    }

    #[test]
    fn a_large_sample_has_the_error_of_theory() {
        // Of n uniform numbers the quantile p has the error sqrt(p (1 - p) / n).
        let n = 100_000;
        let sample: Vec<f64> = (0..n).map(|i| (i as f64 + 0.5) / n as f64).collect();
        for p in [0.5, 0.99, 0.999] {
            let want = (p * (1.0 - p) / n as f64).sqrt();
            let got = quantile_error(&sample, p);
            assert!((got / want - 1.0).abs() < 0.01, "{p}: {got} and not {want}");
        }
    }
}
