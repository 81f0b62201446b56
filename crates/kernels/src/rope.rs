//! Rotary position embedding (Su et al. 2021): pairs of a head's features turn by an angle that grows
//! with the position. The backward is the inverse rotation.
//!
//! The angle of pair `i` at position `p` is the f32 product `p * inverse_frequency[i]`, as in
//! transformers; its sine and cosine are taken in f64 and rounded once. They are computed once for the
//! rows of a batch ([`RopeTable`]) and shared by all heads and layers.

use crate::disjoint::for_rows;
use crate::lanes::by_isa;
use crate::{Isa, Pool};

/// Which features of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RopeLayout {
    /// `2i` and `2i + 1`: GGUF files of the llama family, the paper.
    Adjacent,
    /// `i` and `i + rotary_dim / 2`: Hugging Face's files, GGUF files of most other families.
    Halves,
}

/// Which way to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// By the angle: the forward pass.
    Forward,
    /// By minus the angle: the backward pass.
    Inverse,
}

/// Cosines and sines of a batch's rows, `[rows, pairs]` each.
#[derive(Clone, Debug, Default)]
pub struct RopeTable {
    pairs: usize,
    rows: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// The table for `positions`, one a row, and radians a position for each pair; `factor` multiplies sines and
    /// cosines (1, or what YaRN and longrope make of attention's temperature).
    pub fn new(positions: &[u32], inverse_frequencies: &[f32], factor: f32) -> RopeTable {
        let mut table = RopeTable::default();
        table.fill(positions, inverse_frequencies, factor);
        table
    }

    /// [`RopeTable::new`] into this table's memory: no allocation once it has been this large.
    pub fn fill(&mut self, positions: &[u32], inverse_frequencies: &[f32], factor: f32) {
        self.pairs = inverse_frequencies.len();
        self.rows = positions.len();
        self.cos.clear();
        self.sin.clear();
        for &position in positions {
            for &frequency in inverse_frequencies {
                let angle = position as f32 * frequency;
                let (sin, cos) = f64::from(angle).sin_cos();
                self.cos.push(cos as f32 * factor);
                self.sin.push(sin as f32 * factor);
            }
        }
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Features of a head that turn: two a pair.
    pub fn rotary_dim(&self) -> usize {
        2 * self.pairs
    }
}

/// Inverse frequencies `theta^(-2i / rotary_dim)` of the unscaled embedding, as transformers computes
/// them: the power in f32, then its reciprocal.
pub fn inverse_frequencies(theta: f32, rotary_dim: usize) -> Vec<f32> {
    (0..rotary_dim / 2).map(|i| 1.0 / theta.powf((2 * i) as f32 / rotary_dim as f32)).collect()
}

/// Turns x `[rows, heads * head_dim]` in place; the first `rotary_dim` features of each head turn, the
/// others stay.
///
/// # Panics
/// If x does not have the table's rows or its width is no multiple of `head_dim`, or if `head_dim` is
/// less than the rotary dimension.
pub fn rotate(
    pool: &Pool,
    isa: Isa,
    layout: RopeLayout,
    rotation: Rotation,
    table: &RopeTable,
    head_dim: usize,
    x: &mut [f32],
) {
    if table.rows == 0 {
        assert!(x.is_empty(), "rotate: rows without positions");
        return;
    }
    let width = x.len() / table.rows;
    assert!(
        x.len().is_multiple_of(table.rows) && head_dim > 0 && width.is_multiple_of(head_dim),
        "rotate: {} numbers for {} rows of heads of {head_dim}",
        x.len(),
        table.rows
    );
    assert!(table.rotary_dim() <= head_dim, "rotate: rotary dimension {} of {head_dim}", table.rotary_dim());
    if width == 0 || table.pairs == 0 {
        return;
    }
    let sign = match rotation {
        Rotation::Forward => 1.0,
        Rotation::Inverse => -1.0,
    };
    for_rows(pool, width, x, |first, rows| {
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            let at = (first + i) * table.pairs..(first + i + 1) * table.pairs;
            let (cos, sin) = (&table.cos[at.clone()], &table.sin[at]);
            match layout {
                RopeLayout::Adjacent => rotate_adjacent(isa, cos, sin, sign, head_dim, row),
                RopeLayout::Halves => rotate_halves(isa, cos, sin, sign, head_dim, row),
            }
        }
    });
}

by_isa! {
    fn rotate_adjacent(cos: &[f32], sin: &[f32], sign: f32, head_dim: usize, row: &mut [f32]) {
        for head in row.chunks_exact_mut(head_dim) {
            let (pairs, _) = head.as_chunks_mut::<2>();
            for ((pair, &c), &s) in pairs.iter_mut().zip(cos).zip(sin) {
                let (a, b, s) = (pair[0], pair[1], sign * s);
                pair[0] = a.mul_add(c, -(b * s));
                pair[1] = b.mul_add(c, a * s);
            }
        }
    }
}

by_isa! {
    fn rotate_halves(cos: &[f32], sin: &[f32], sign: f32, head_dim: usize, row: &mut [f32]) {
        for head in row.chunks_exact_mut(head_dim) {
            let (low, rest) = head.split_at_mut(cos.len());
            for (((a, b), &c), &s) in low.iter_mut().zip(rest).zip(cos).zip(sin) {
                let (x, y, s) = (*a, *b, sign * s);
                *a = x.mul_add(c, -(y * s));
                *b = y.mul_add(c, x * s);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, finite_differences, wide};

    const HEAD_DIM: usize = 20;
    const ROTARY: usize = 12;
    const POSITIONS: [u32; 4] = [0, 1, 77, 8191];

    /// The rotation as a complex product, in f64.
    fn twin(layout: RopeLayout, x: &[f64], heads: usize) -> Vec<f64> {
        let frequencies = inverse_frequencies(10_000.0, ROTARY);
        let mut out = x.to_vec();
        for (row, &position) in POSITIONS.iter().enumerate() {
            for head in 0..heads {
                let at = (row * heads + head) * HEAD_DIM;
                for (i, &frequency) in frequencies.iter().enumerate() {
                    let (a, b) = match layout {
                        RopeLayout::Adjacent => (at + 2 * i, at + 2 * i + 1),
                        RopeLayout::Halves => (at + i, at + i + ROTARY / 2),
                    };
                    let angle = f64::from(position as f32 * frequency);
                    out[a] = x[a] * angle.cos() - x[b] * angle.sin();
                    out[b] = x[a] * angle.sin() + x[b] * angle.cos();
                }
            }
        }
        out
    }

    fn turned(isa: Isa, layout: RopeLayout, rotation: Rotation, x: &[f32]) -> Vec<f32> {
        let table = RopeTable::new(&POSITIONS, &inverse_frequencies(10_000.0, ROTARY), 1.0);
        let mut out = x.to_vec();
        rotate(&Pool::new(2), isa, layout, rotation, &table, HEAD_DIM, &mut out);
        out
    }

    #[test]
    fn both_layouts_agree_with_the_complex_product() {
        let x = Numbers::new(1).normal(POSITIONS.len() * 3 * HEAD_DIM);
        for layout in [RopeLayout::Adjacent, RopeLayout::Halves] {
            let got = turned(Isa::detect(), layout, Rotation::Forward, &x);
            assert_close(&got, &twin(layout, &wide(&x), 3), 5e-7, "rotated");
            assert_eq!(got[..HEAD_DIM * 3], x[..HEAD_DIM * 3], "position 0 stays");
            for isa in Isa::available() {
                assert_eq!(turned(isa, layout, Rotation::Forward, &x), got, "{}", isa.name());
            }
        }
    }

    #[test]
    fn the_inverse_is_the_gradient_and_undoes_the_rotation() {
        let mut numbers = Numbers::new(2);
        let x = numbers.normal(POSITIONS.len() * 2 * HEAD_DIM);
        let dy = numbers.normal(x.len());
        for layout in [RopeLayout::Adjacent, RopeLayout::Halves] {
            let dx = turned(Isa::detect(), layout, Rotation::Inverse, &dy);
            let loss = |x: &[f64]| twin(layout, x, 2).iter().zip(wide(&dy)).map(|(y, d)| y * d).sum::<f64>();
            assert_close(&dx, &finite_differences(&x, loss), 1e-6, "dx");
            let there = turned(Isa::detect(), layout, Rotation::Forward, &x);
            let back = turned(Isa::detect(), layout, Rotation::Inverse, &there);
            assert_close(&back, &wide(&x), 5e-7, "there and back");
        }
    }

    #[test]
    fn scores_depend_on_the_distance_alone() {
        let mut numbers = Numbers::new(3);
        let (q, k) = (numbers.normal(64), numbers.normal(64));
        let frequencies = inverse_frequencies(10_000.0, 64);
        let at = |x: &[f32], position: u32| {
            let mut x = x.to_vec();
            let table = RopeTable::new(&[position], &frequencies, 1.0);
            rotate(&Pool::new(1), Isa::detect(), RopeLayout::Halves, Rotation::Forward, &table, 64, &mut x);
            x
        };
        let score = |a: u32, b: u32| at(&q, a).iter().zip(at(&k, b)).map(|(x, y)| x * y).sum::<f32>();
        assert!((score(9, 4) - score(105, 100)).abs() < 1e-4);
        assert!((score(9, 4) - score(9, 5)).abs() > 1e-3);
    }
}
