//! The policy that earns the most reward when straying from a reference costs beta a nat:
//! `pi = reference * exp(reward / beta) / Z` (Rafailov et al. 2023, equation 4; book, Part I, 7.5).

/// The best policy over answers. At `beta` 0 it is the reference among the answers with the highest reward, at infinity
/// the reference itself. Lists have equal lengths; the reference sums to one.
pub fn best(reference: &[f64], reward: &[f64], beta: f64) -> Vec<f64> {
    if beta == f64::INFINITY {
        return reference.to_vec();
    }
    let possible = reference.iter().zip(reward).filter(|(p, _)| **p > 0.0).map(|(_, r)| *r);
    let top = possible.fold(f64::NEG_INFINITY, f64::max);
    let tilt = |r: f64| match beta {
        0.0 if r < top => 0.0,
        0.0 => 1.0,
        beta => ((r - top) / beta).exp(),
    };
    let weights: Vec<f64> =
        reference.iter().zip(reward).map(|(&p, &r)| if p > 0.0 { p * tilt(r) } else { 0.0 }).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

/// What a policy earns on average.
pub fn expected(policy: &[f64], reward: &[f64]) -> f64 {
    crate::vector::dot(policy, reward)
}

/// How far a policy strays from a reference: the Kullback-Leibler divergence in nats.
pub fn divergence(policy: &[f64], reference: &[f64]) -> f64 {
    let terms = policy.iter().zip(reference).filter(|(p, _)| **p > 0.0);
    terms.map(|(p, q)| p * (p / q).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normalized(weights: &[f64]) -> Vec<f64> {
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    }

    proptest! {
        /// No other policy has a higher reward less beta times its divergence.
        #[test]
        fn nothing_is_better(
            reference in prop::collection::vec(0.01..1.0f64, 5),
            reward in prop::collection::vec(-2.0..2.0f64, 5),
            other in prop::collection::vec(0.0..1.0f64, 5),
            beta in 0.01..20.0f64,
        ) {
            prop_assume!(other.iter().sum::<f64>() > 0.1);
            let (reference, other) = (normalized(&reference), normalized(&other));
            let objective = |policy: &[f64]| expected(policy, &reward) - beta * divergence(policy, &reference);
            let best = best(&reference, &reward, beta);
            prop_assert!((best.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            prop_assert!(objective(&best) >= objective(&other) - 1e-12);
            // And it is worth beta ln Z.
            let z: f64 = reference.iter().zip(&reward).map(|(p, r)| p * (r / beta).exp()).sum();
            prop_assert!(!z.is_finite() || (objective(&best) - beta * z.ln()).abs() < 1e-9 * (1.0 + beta));
        }
    }

    #[test]
    fn the_ends_are_the_best_answer_and_the_reference() {
        let (reference, reward) = ([0.5, 0.3, 0.2], [0.0, 1.0, 1.0]);
        assert_eq!(best(&reference, &reward, f64::INFINITY), reference);
        assert_eq!(best(&reference, &reward, 0.0), [0.0, 0.6, 0.4]);
        let near = best(&reference, &reward, 1e-3);
        assert!((near[1] - 0.6).abs() < 1e-9 && near[0] < 1e-300);
        let far = best(&reference, &reward, 1e6);
        assert!(far.iter().zip(reference).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
