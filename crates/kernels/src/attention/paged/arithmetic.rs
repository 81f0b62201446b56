//! The arithmetic of one page: scores, exponentials and weighted values of a group of heads.

use std::ops::Range;

use super::{BLOCK, CHUNK, PAGE};
use crate::Isa;
use crate::exp::exp;
use crate::lanes::{by_isa, max, sum};

/// `[BLOCK, dim]` to `[dim, BLOCK]`.
pub(super) fn transpose(isa: Isa, x: &[f32], dim: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 && dim.is_multiple_of(8) {
        assert!(x.len() == BLOCK * dim && out.len() == BLOCK * dim);
        // SAFETY: the level says that the processor has AVX; both slices hold `BLOCK * dim` numbers.
        return unsafe { transpose_avx(x, dim, out) };
    }
    let _ = isa;
    for (j, row) in x.chunks_exact(dim).enumerate() {
        for (d, v) in row.iter().enumerate() {
            out[d * BLOCK + j] = *v;
        }
    }
}

/// # Safety
/// AVX; `dim` is a multiple of 8, `x` and `out` hold `BLOCK * dim` numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn transpose_avx(x: &[f32], dim: usize, out: &mut [f32]) {
    use std::arch::x86_64::{_mm256_loadu_ps, _mm256_storeu_ps};
    // SAFETY: all loads and stores are of 8 numbers inside the slices.
    unsafe {
        for j in (0..BLOCK).step_by(8) {
            for d in (0..dim).step_by(8) {
                let mut rows = [std::arch::x86_64::_mm256_setzero_ps(); 8];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = _mm256_loadu_ps(x.as_ptr().add((j + i) * dim + d));
                }
                let columns = crate::transpose::transpose8(rows);
                for (i, column) in columns.iter().enumerate() {
                    _mm256_storeu_ps(out.as_mut_ptr().add((d + i) * BLOCK + j), *column);
                }
            }
        }
    }
}

by_isa! {
    /// Scores of one block for the heads of a group: `sum_d q[g][d] * keys[d][j]`, in order of `d`. Head `g`'s
    /// scores go to `scores[g * PAGE ..][.. BLOCK]`.
    pub(super) fn block_scores(q: &[f32], dim: usize, keys: &[f32], scores: &mut [f32]) {
        let heads = q.len() / dim;
        let mut g = 0;
        while g + 3 <= heads {
            some_scores::<3>(&q[g * dim..], dim, keys, &mut scores[g * PAGE..]);
            g += 3;
        }
        while g + 2 <= heads {
            some_scores::<2>(&q[g * dim..], dim, keys, &mut scores[g * PAGE..]);
            g += 2;
        }
        if g < heads {
            some_scores::<1>(&q[g * dim..], dim, keys, &mut scores[g * PAGE..]);
        }
    }
}

#[inline(always)]
fn some_scores<const N: usize>(q: &[f32], dim: usize, keys: &[f32], scores: &mut [f32]) {
    let mut acc = [[[0.0f32; 8]; BLOCK / 8]; N];
    let q: [&[f32]; N] = std::array::from_fn(|n| &q[n * dim..(n + 1) * dim]);
    for (d, keys) in keys.chunks_exact(BLOCK).enumerate().take(dim) {
        for n in 0..N {
            let q = q[n][d];
            for v in 0..BLOCK / 8 {
                for l in 0..8 {
                    acc[n][v][l] = keys[v * 8 + l].mul_add(q, acc[n][v][l]);
                }
            }
        }
    }
    for n in 0..N {
        scores[n * PAGE..n * PAGE + BLOCK].copy_from_slice(acc[n].as_flattened());
    }
}

by_isa! {
    /// Turns a page's seen scores into exponentials relative to their maximum; returns it and their sum.
    pub(super) fn exponentials(
        scores: &mut [f32],
        seen: &[Range<usize>],
        scale: f32,
        softcap: Option<f32>,
        bias: Option<&[f32]>,
        bias_at: isize,
    ) -> (f32, f32) {
        let mut top = f32::NEG_INFINITY;
        for range in seen {
            let scores = &mut scores[range.clone()];
            for s in scores.iter_mut() {
                *s *= scale;
            }
            if let Some(cap) = softcap {
                for s in scores.iter_mut() {
                    *s = cap * (*s / cap).tanh();
                }
            }
            if let Some(bias) = bias {
                add_bias(scores, bias, bias_at + range.start as isize);
            }
            top = top.max(max(scores));
        }
        let mut total = 0.0;
        for range in seen {
            let scores = &mut scores[range.clone()];
            for s in scores.iter_mut() {
                *s = exp(*s - top);
            }
            total += sum(scores);
        }
        (top, total)
    }
}

/// Adds numbers `at ..` of a head's bias to scores; below and beyond its ends stand its first and last.
#[inline(always)]
fn add_bias(scores: &mut [f32], bias: &[f32], at: isize) {
    let count = scores.len() as isize;
    let below = (-at).clamp(0, count) as usize;
    let inside = (bias.len() as isize - at).clamp(below as isize, count) as usize;
    for s in &mut scores[..below] {
        *s += bias[0];
    }
    if below < inside {
        for (s, b) in scores[below..inside].iter_mut().zip(&bias[(at + below as isize) as usize..]) {
            *s += b;
        }
    }
    for s in &mut scores[inside..] {
        *s += bias[bias.len() - 1];
    }
}

by_isa! {
    /// `sum_j p[g][j] * values[j]` over the seen entries in order, for the heads of a group.
    pub(super) fn weighted_values(p: &[f32], seen: &[Range<usize>], values: &[f32], width: usize, out: &mut [f32]) {
        let heads = p.len() / PAGE;
        let mut g = 0;
        while g + 3 <= heads {
            some_values::<3>(&p[g * PAGE..], seen, values, width, &mut out[g * width..]);
            g += 3;
        }
        while g + 2 <= heads {
            some_values::<2>(&p[g * PAGE..], seen, values, width, &mut out[g * width..]);
            g += 2;
        }
        if g < heads {
            some_values::<1>(&p[g * PAGE..], seen, values, width, &mut out[g * width..]);
        }
    }
}

#[inline(always)]
fn some_values<const N: usize>(p: &[f32], seen: &[Range<usize>], values: &[f32], width: usize, out: &mut [f32]) {
    for c in (0..width).step_by(CHUNK) {
        let mut acc = [[[0.0f32; 8]; CHUNK / 8]; N];
        for range in seen {
            for j in range.clone() {
                let v: &[f32; CHUNK] = values[j * width + c..][..CHUNK].try_into().expect("a chunk");
                for n in 0..N {
                    let p = p[n * PAGE + j];
                    for i in 0..CHUNK / 8 {
                        for l in 0..8 {
                            acc[n][i][l] = v[i * 8 + l].mul_add(p, acc[n][i][l]);
                        }
                    }
                }
            }
        }
        for n in 0..N {
            out[n * width + c..n * width + c + CHUNK].copy_from_slice(acc[n].as_flattened());
        }
    }
}
