//! Activations as int8: blocks of 32 with a scale of their own.
//!
//! `x ~ scale * q`, `scale = max|x| / 127`, `q` rounded to nearest even, much as ggml's Q8_0
//! does, but with the scale kept in f32. Sums of the quants stand beside them, for formats whose quants
//! have a zero point or a minimum.

use crate::{Isa, Pool};

/// Activations in a block.
pub const QUANT_BLOCK: usize = 32;

/// Rows of activations, quantized. The buffers are reused from step to step.
#[derive(Clone, Debug, Default)]
pub struct QuantizedRows {
    tokens: usize,
    cols: usize,
    /// `[tokens, cols]`.
    pub(crate) quants: Vec<i8>,
    /// `[tokens, cols / 32]`.
    pub(crate) scales: Vec<f32>,
    /// Sums of 16 quants, `[tokens, cols / 16]`.
    pub(crate) sums: Vec<i32>,
    /// Sums of 32 quants, `[tokens, cols / 32]`.
    pub(crate) totals: Vec<i32>,
    /// Scale times the sum of the block's quants, `[tokens, cols / 32]`.
    pub(crate) scaled_sums: Vec<f32>,
}

impl QuantizedRows {
    /// Rows held.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Width of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes held by the buffers.
    pub fn bytes(&self) -> usize {
        self.quants.len() + 4 * (3 * self.scales.len() + self.sums.len())
    }

    /// The numbers that the contents stand for, `[tokens, cols]`.
    ///
    /// # Panics
    /// If `out` has another size.
    pub fn dequantize(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.quants.len());
        for ((out, quants), scale) in
            out.chunks_exact_mut(QUANT_BLOCK).zip(self.quants.chunks_exact(QUANT_BLOCK)).zip(&self.scales)
        {
            for (out, quant) in out.iter_mut().zip(quants) {
                *out = scale * f32::from(*quant);
            }
        }
    }

    /// Replaces the contents by `x`, `[tokens, cols]` row-major; `cols` must be a multiple of 32.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn quantize(&mut self, pool: &Pool, isa: Isa, x: &[f32], cols: usize) {
        assert!(cols > 0 && cols.is_multiple_of(QUANT_BLOCK) && x.len().is_multiple_of(cols));
        self.tokens = x.len() / cols;
        self.cols = cols;
        let blocks = x.len() / QUANT_BLOCK;
        self.quants.resize(x.len(), 0);
        self.scales.resize(blocks, 0.0);
        self.sums.resize(2 * blocks, 0);
        self.totals.resize(blocks, 0);
        self.scaled_sums.resize(blocks, 0.0);
        let out = Parts {
            quants: self.quants.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            sums: self.sums.as_mut_ptr(),
            totals: self.totals.as_mut_ptr(),
            scaled_sums: self.scaled_sums.as_mut_ptr(),
        };
        // A tile is worth waking a thread for at some thousands of numbers.
        let per_tile = 256;
        pool.run(blocks.div_ceil(per_tile), &|tile| {
            let range = tile * per_tile..((tile + 1) * per_tile).min(blocks);
            let x = &x[range.start * QUANT_BLOCK..range.end * QUANT_BLOCK];
            // SAFETY: these blocks lie inside every buffer (resized above) and belong to this tile only.
            unsafe { quantize_blocks(isa, x, &out.from(range.start)) };
        });
    }
}

/// Where the results of a block and of those after it go.
struct Parts {
    quants: *mut i8,
    scales: *mut f32,
    sums: *mut i32,
    totals: *mut i32,
    scaled_sums: *mut f32,
}
// SAFETY: tiles write disjoint blocks, and the buffers outlive the job.
unsafe impl Sync for Parts {}

impl Parts {
    /// The place of the block that comes `blocks` later.
    ///
    /// # Safety
    /// The buffers reach that far.
    #[inline(always)]
    unsafe fn from(&self, blocks: usize) -> Parts {
        // SAFETY: as the caller promises.
        unsafe {
            Parts {
                quants: self.quants.add(blocks * QUANT_BLOCK),
                scales: self.scales.add(blocks),
                sums: self.sums.add(2 * blocks),
                totals: self.totals.add(blocks),
                scaled_sums: self.scaled_sums.add(blocks),
            }
        }
    }

    /// Writes what goes with the quants of one block.
    ///
    /// # Safety
    /// The place exists and is the caller's.
    #[inline(always)]
    unsafe fn put(&self, scale: f32, sums: [i32; 2]) {
        // SAFETY: as the caller promises.
        unsafe {
            *self.scales = scale;
            *self.sums = sums[0];
            *self.sums.add(1) = sums[1];
            *self.totals = sums[0] + sums[1];
            *self.scaled_sums = scale * (sums[0] + sums[1]) as f32;
        }
    }
}

/// # Safety
/// `out` has room for the blocks of `x`, and nobody else writes there now.
unsafe fn quantize_blocks(isa: Isa, x: &[f32], out: &Parts) {
    let blocks = x.as_chunks::<QUANT_BLOCK>().0;
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 {
        // SAFETY: the level says that the processor has AVX2; the rest as the caller promises.
        return unsafe { avx2::quantize_blocks(blocks, out) };
    }
    let _ = isa;
    for (b, x) in blocks.iter().enumerate() {
        // SAFETY: as the caller promises.
        unsafe {
            let out = out.from(b);
            let quants = std::slice::from_raw_parts_mut(out.quants, QUANT_BLOCK);
            let (scale, sums) = quantize_block_scalar(x, quants);
            out.put(scale, sums);
        }
    }
}

fn quantize_block_scalar(x: &[f32], q: &mut [i8]) -> (f32, [i32; 2]) {
    let max = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let scale = max / 127.0;
    let inverse = if max == 0.0 { 0.0 } else { 127.0 / max };
    let mut sums = [0i32; 2];
    for (i, (q, v)) in q.iter_mut().zip(x).enumerate() {
        *q = (v * inverse).round_ties_even() as i8;
        sums[i / 16] += i32::from(*q);
    }
    (scale, sums)
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{Parts, QUANT_BLOCK};

    /// Each block as `quantize_block_scalar`, bit for bit.
    ///
    /// # Safety
    /// The processor has AVX2; `out` has room for the blocks, and nobody else writes there now.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn quantize_blocks(blocks: &[[f32; QUANT_BLOCK]], out: &Parts) {
        for (b, x) in blocks.iter().enumerate() {
            // SAFETY: 32 floats are read and 32 bytes written, where the caller promises room.
            unsafe {
                let out = out.from(b);
                let mut v = [_mm256_setzero_ps(); 4];
                for (i, v) in v.iter_mut().enumerate() {
                    *v = _mm256_loadu_ps(x.as_ptr().add(8 * i));
                }
                let sign = _mm256_set1_ps(-0.0);
                let first = _mm256_max_ps(_mm256_andnot_ps(sign, v[0]), _mm256_andnot_ps(sign, v[1]));
                let second = _mm256_max_ps(_mm256_andnot_ps(sign, v[2]), _mm256_andnot_ps(sign, v[3]));
                let m = _mm256_max_ps(first, second);
                let m = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
                let m = _mm_max_ps(m, _mm_movehl_ps(m, m));
                let max = _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
                let scale = max / 127.0;
                let inverse = _mm256_set1_ps(if max == 0.0 { 0.0 } else { 127.0 / max });
                let mut i = [_mm256_setzero_si256(); 4];
                for (i, v) in i.iter_mut().zip(v) {
                    *i = _mm256_cvtps_epi32(_mm256_mul_ps(v, inverse));
                }
                // The packs work within 128-bit lanes; the permutation puts the bytes back in order.
                let low = _mm256_packs_epi32(i[0], i[1]);
                let high = _mm256_packs_epi32(i[2], i[3]);
                let bytes = _mm256_packs_epi16(low, high);
                let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
                _mm256_storeu_si256(out.quants.cast(), bytes);
                out.put(scale, [sum(_mm256_add_epi32(i[0], i[1])), sum(_mm256_add_epi32(i[2], i[3]))]);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn sum(v: __m256i) -> i32 {
        let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        let v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0b01_00_11_10));
        _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0b10_11_00_01)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_agree_and_the_error_is_half_a_step() {
        let x: Vec<f32> = (0..192).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.03 * (1.0 + (i / 32) as f32)).collect();
        let pool = Pool::new(2);
        let mut reference = QuantizedRows::default();
        reference.quantize(&pool, Isa::Scalar, &x, 64);
        for (i, v) in x.iter().enumerate() {
            let scale = reference.scales[i / 32];
            assert!((v - scale * f32::from(reference.quants[i])).abs() <= scale * 0.5001);
        }
        for isa in Isa::available() {
            let mut other = QuantizedRows::default();
            other.quantize(&pool, isa, &x, 64);
            assert_eq!(reference.quants, other.quants, "{isa:?}");
            assert_eq!(reference.scales, other.scales);
            assert_eq!(reference.sums, other.sums);
            assert_eq!(reference.totals, other.totals);
            assert_eq!(reference.scaled_sums, other.scaled_sums);
        }
    }

    #[test]
    fn what_is_left_over_is_a_finer_digit() {
        let x: Vec<f32> = (0..64).map(|i| (i as f32 * 0.37).sin()).collect();
        let pool = Pool::new(1);
        let mut rows = QuantizedRows::default();
        rows.quantize(&pool, Isa::detect(), &x, 32);
        let mut first = vec![0.0; 64];
        rows.dequantize(&mut first);
        let rest: Vec<f32> = x.iter().zip(&first).map(|(x, f)| x - f).collect();
        rows.quantize(&pool, Isa::detect(), &rest, 32);
        let mut second = vec![0.0; 64];
        rows.dequantize(&mut second);
        for ((x, f), s) in x.iter().zip(&first).zip(&second) {
            assert!((x - f).abs() <= 0.51 / 127.0 && (x - f - s).abs() <= 0.51 / 127.0 / 254.0);
        }
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        let mut rows = QuantizedRows::default();
        rows.quantize(&Pool::new(1), Isa::detect(), &[0.0; 32], 32);
        assert_eq!((rows.scales[0], rows.sums[0], rows.quants[5]), (0.0, 0, 0));
    }
}
