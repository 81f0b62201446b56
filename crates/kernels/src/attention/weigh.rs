//! Scores of a tile of keys as weights: scaling, soft caps, a bias, and the online softmax.

use std::ops::Range;

use super::sight::Sight;
use crate::exp::exp2;
use crate::gemm::COLS;
use crate::lanes::by_isa;

/// What a score is multiplied by to become an exponent of two, taken from its row's largest. `tops` are in units of
/// the scores.
#[inline(always)]
pub(super) fn base(top: f32, factor: f32) -> f32 {
    // A row that sees nothing: any finite number keeps the differences defined.
    if top == f32::NEG_INFINITY { 0.0 } else { top * factor }
}

/// Raw scores to exponents of two: scaled, capped, biased. Only for heads that do more than to scale.
#[inline(always)]
pub(super) fn exponent(score: f32, scale: f32, softcap: Option<f32>, bias: f32) -> f32 {
    let scaled = match softcap {
        None => score * scale,
        // The library's tanh: capped scores are rare, and a product of exponentials loses bits near zero.
        Some(cap) => cap * (score * scale / cap).tanh(),
    };
    (scaled + bias) * std::f32::consts::LOG2_E
}

/// What a head's bias says of an entry that lies `distance` behind the row's own.
#[inline(always)]
pub(super) fn bias_at(bias: Option<&[f32]>, distance: isize) -> f32 {
    bias.map_or(0.0, |bias| {
        let max = (bias.len() / 2) as isize;
        bias[(distance.clamp(-max, max) + max) as usize]
    })
}

by_isa! {
    /// [`exponent`]s in place of raw scores `[keys, 16]`; the first key lies `distance` behind the first row's own.
    pub(super) fn shape(scale: f32, softcap: Option<f32>, bias: Option<&[f32]>, distance: isize, scores: &mut [f32]) {
        for (key, row) in scores.as_chunks_mut::<COLS>().0.iter_mut().enumerate() {
            for (column, s) in row.iter_mut().enumerate() {
                *s = exponent(*s, scale, softcap, bias_at(bias, distance + key as isize - column as isize));
            }
        }
    }
}

by_isa! {
    /// Turns scores `[keys, 16]` of one tile of keys into weights relative to the largest score of each column so
    /// far, and says what earlier sums of the column are to be multiplied by.
    pub(super) fn weigh(
        factor: f32,
        panel: &Sight,
        keys: Range<usize>,
        tops: &mut [f32; COLS],
        sums: &mut [f32; COLS],
        scores: &mut [f32],
    ) -> [f32; COLS] {
        let rows = scores.as_chunks_mut::<COLS>().0;
        if !panel.is_full(&keys) {
            for (key, row) in keys.zip(rows.iter_mut()) {
                for (column, s) in row.iter_mut().enumerate() {
                    *s = if panel.sees(column, key as u32) { *s } else { f32::NEG_INFINITY };
                }
            }
        }
        let mut top = *tops;
        for row in rows.iter() {
            for l in 0..COLS {
                top[l] = if row[l] > top[l] { row[l] } else { top[l] };
            }
        }
        let (mut from, mut grown, mut sum) = ([0.0; COLS], [0.0; COLS], [0.0f32; COLS]);
        for l in 0..COLS {
            from[l] = base(top[l], factor);
            grown[l] = exp2(tops[l].mul_add(factor, -from[l]));
        }
        for row in rows.iter_mut() {
            for l in 0..COLS {
                row[l] = exp2(row[l].mul_add(factor, -from[l]));
                sum[l] += row[l];
            }
        }
        for l in 0..COLS {
            sums[l] = sums[l].mul_add(grown[l], sum[l]);
        }
        *tops = top;
        grown
    }
}
