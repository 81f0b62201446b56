//! AdamW whose moments take a byte each (Dettmers et al. 2022): in blocks of 256 elements with the largest magnitude as
//! scale, the first in the signed dynamic map, the second in the unsigned one.
//!
//! A step decodes a block of both, does the arithmetic of [`adamw`](super::adamw) on it, and rounds what comes out to the
//! nearest code. The values see the moments before they are rounded.

use super::adamw::{AdamW, Coefficients, update};
use super::dynamic::{decode, encode};
use super::{BLOCK, TILE, for_tiles};
use crate::disjoint::Disjoint;
use crate::lanes::by_isa;
use crate::{Isa, Pool};

/// Both moments of a tensor of n elements. All zeros are new ones.
#[derive(Debug)]
pub struct Moments8bit<'a> {
    /// n codes of the first moment.
    pub first: &'a mut [u8],
    /// n codes of the second moment.
    pub second: &'a mut [u8],
    /// The first moment's largest magnitude in each block: n / 256, rounded up.
    pub first_absmax: &'a mut [f32],
    /// The second moment's.
    pub second_absmax: &'a mut [f32],
}

/// One step of values and both moments; `values` and `gradient` have one length.
///
/// # Panics
/// If the lengths do not fit.
pub fn adamw8bit(pool: &Pool, isa: Isa, step: &AdamW, values: &mut [f32], gradient: &[f32], moments: Moments8bit<'_>) {
    let (len, blocks) = (values.len(), values.len().div_ceil(BLOCK));
    let Moments8bit { first, second, first_absmax, second_absmax } = moments;
    assert!(gradient.len() == len && first.len() == len && second.len() == len, "adamw8bit: lengths differ");
    assert!(first_absmax.len() == blocks && second_absmax.len() == blocks, "adamw8bit: {blocks} blocks");
    let by = step.coefficients();
    let (values, first, second) = (Disjoint::new(values), Disjoint::new(first), Disjoint::new(second));
    let (first_absmax, second_absmax) = (Disjoint::new(first_absmax), Disjoint::new(second_absmax));
    for_tiles(pool, len, |at| {
        let scales = at.start / BLOCK..at.end.div_ceil(BLOCK);
        // SAFETY: each tile has elements of its own, and being whole blocks (but for the last) scales of its own; the
        // pool runs each tile once.
        let (values, part) = unsafe {
            let part = Moments8bit {
                first: first.part(at.clone()),
                second: second.part(at.clone()),
                first_absmax: first_absmax.part(scales.clone()),
                second_absmax: second_absmax.part(scales),
            };
            (values.part(at.clone()), part)
        };
        update_blocks(isa, by, values, &gradient[at], part);
    });
}

const _: () = assert!(TILE.is_multiple_of(BLOCK));

by_isa! {
    fn update_blocks(by: Coefficients, values: &mut [f32], gradient: &[f32], moments: Moments8bit<'_>) {
        let (mut m, mut v) = ([0.0; BLOCK], [0.0; BLOCK]);
        let codes = moments.first.chunks_mut(BLOCK).zip(moments.second.chunks_mut(BLOCK));
        let scales = moments.first_absmax.iter_mut().zip(moments.second_absmax);
        let elements = values.chunks_mut(BLOCK).zip(gradient.chunks(BLOCK));
        for ((values, gradient), ((first, second), (first_absmax, second_absmax))) in elements.zip(codes.zip(scales)) {
            let (m, v) = (&mut m[..values.len()], &mut v[..values.len()]);
            decode::<true>(first, *first_absmax, m);
            decode::<false>(second, *second_absmax, v);
            update(by, values, gradient, m, v);
            *first_absmax = encode::<true>(m, first);
            *second_absmax = encode::<false>(v, second);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dynamic_map;
    use super::*;
    use crate::testing::Numbers;

    const SETTINGS: AdamW = AdamW {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        gradient_scale: 1.0,
        step: 0,
    };

    struct State {
        values: Vec<f32>,
        codes: [Vec<u8>; 2],
        absmax: [Vec<f32>; 2],
    }

    impl State {
        fn new(values: Vec<f32>) -> State {
            let (n, blocks) = (values.len(), values.len().div_ceil(BLOCK));
            State { values, codes: [vec![0; n], vec![0; n]], absmax: [vec![0.0; blocks], vec![0.0; blocks]] }
        }

        fn step(&mut self, pool: &Pool, isa: Isa, step: &AdamW, gradient: &[f32]) {
            let ([first, second], [first_absmax, second_absmax]) = (&mut self.codes, &mut self.absmax);
            let moments = Moments8bit { first, second, first_absmax, second_absmax };
            adamw8bit(pool, isa, step, &mut self.values, gradient, moments);
        }

        fn moment(&self, which: usize) -> Vec<f32> {
            let map = dynamic_map(which == 0);
            let value = |(i, &code): (usize, &u8)| map[usize::from(code)] * self.absmax[which][i / BLOCK];
            self.codes[which].iter().enumerate().map(value).collect()
        }
    }

    #[test]
    fn a_step_is_adamw_between_decoding_and_rounding() {
        let (pool, isa, n) = (Pool::new(2), Isa::detect(), 5000);
        let mut numbers = Numbers::new(1);
        let mut state = State::new(numbers.normal(n));
        for step in 1..=4 {
            let settings = AdamW { step, ..SETTINGS };
            let gradient: Vec<f32> = numbers.normal(n).iter().map(|g| g * g * g).collect();
            let (mut values, mut m, mut v) = (state.values.clone(), state.moment(0), state.moment(1));
            super::super::adamw(&pool, isa, &settings, &mut values, &gradient, &mut m, &mut v);
            state.step(&pool, isa, &settings, &gradient);
            assert_eq!(state.values, values, "step {step}");
            for (which, exact) in [m, v].iter().enumerate() {
                let map = dynamic_map(which == 0);
                for (i, (&x, got)) in exact.iter().zip(state.moment(which)).enumerate() {
                    let largest = exact[i / BLOCK * BLOCK..].iter().take(BLOCK).fold(0.0f32, |a, x| a.max(x.abs()));
                    let error = |y: f32| (f64::from(y) - f64::from(x / largest)).abs();
                    let least = map.iter().map(|&y| error(y)).fold(f64::INFINITY, f64::min);
                    assert!(error(got / largest) <= least + 1e-6, "step {step}, moment {which}, element {i}");
                }
            }
        }
    }

    #[test]
    fn every_level_and_number_of_threads_gives_the_same_bits() {
        let run = |isa: Isa, threads: usize| {
            let pool = Pool::new(threads);
            let mut numbers = Numbers::new(2);
            let mut state = State::new(numbers.normal(9001));
            for step in 1..=3 {
                let gradient = numbers.normal(9001);
                state.step(&pool, isa, &AdamW { step, ..SETTINGS }, &gradient);
            }
            (state.values, state.codes, state.absmax)
        };
        let want = run(Isa::Scalar, 1);
        for isa in Isa::available() {
            assert!(run(isa, 3) == want, "{}", isa.name());
        }
    }
}
