//! Weights of every type as f32: one row at a time, or eight rows at a time with a vector lane a row.

use half::{bf16, f16};

use super::super::panel::{Format, PANEL_COLS};
#[cfg(target_arch = "x86_64")]
use crate::transpose::transpose8;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A type that decodes to f32.
pub(in crate::linear) trait Decode {
    /// 32 inputs of 8 rows on their way: what is worth holding between two calls of [`Decode::eight`].
    #[cfg(target_arch = "x86_64")]
    type Piece;

    /// Up to 32 weights of a row, from input `32 * block`.
    fn decode_row(row: &[u8], block: usize, out: &mut [f32]);

    /// Inputs `32 * block ..` of 8 rows.
    ///
    /// # Safety
    /// AVX2 and F16C; each pointer starts a row with at least `32 * (block + 1)` weights, or, where only the
    /// first inputs are asked of [`Decode::eight`], with as many as these.
    #[cfg(target_arch = "x86_64")]
    unsafe fn piece(rows: &[*const u8; 8], block: usize) -> Self::Piece;

    /// Inputs `8 * i ..` of a piece, a vector an input.
    ///
    /// # Safety
    /// AVX2 and F16C; `i` is below 4, and the rows hold these inputs.
    #[cfg(target_arch = "x86_64")]
    unsafe fn eight(piece: &Self::Piece, i: usize) -> [__m256; 8];

    /// 32 inputs of 8 rows on their way through memory, as narrow as they come.
    #[cfg(target_arch = "x86_64")]
    type Laid;

    /// Lays out inputs `32 * block ..` of 8 rows.
    ///
    /// # Safety
    /// As [`Decode::piece`], and `to` may be written.
    #[cfg(target_arch = "x86_64")]
    unsafe fn lay(rows: &[*const u8; 8], block: usize, to: *mut Self::Laid);

    /// Input `k` of what [`Decode::lay`] wrote, a lane a row.
    ///
    /// # Safety
    /// AVX2 and F16C; `k` is below 32.
    #[cfg(target_arch = "x86_64")]
    unsafe fn input(laid: *const Self::Laid, k: usize) -> __m256;

    /// The same inputs, a vector a row.
    ///
    /// # Safety
    /// As [`Decode::eight`].
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn eight_rows(piece: &Self::Piece, i: usize) -> [__m256; 8] {
        // SAFETY: passed on.
        unsafe { transpose8(Self::eight(piece, i)) }
    }
}

/// The first `n` of 32 inputs of 8 rows; input `k` goes to `out[k * stride]`.
///
/// # Safety
/// AVX2 and F16C; each pointer starts a row with at least `32 * block + n` weights, each row's bytes before
/// them belong to it; `out` has room for `n` vectors.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(in crate::linear) unsafe fn decode_panel<D: Decode>(
    rows: &[*const u8; 8],
    bytes: usize,
    block: usize,
    n: usize,
    out: *mut __m256,
    stride: usize,
) {
    // SAFETY: whole eights lie inside the rows; the rest, which only dense types have, is read number by number.
    unsafe {
        if n >= 8 {
            let piece = D::piece(rows, block);
            for i in 0..n / 8 {
                for (j, v) in D::eight(&piece, i).into_iter().enumerate() {
                    *out.add((8 * i + j) * stride) = v;
                }
            }
        }
        if !n.is_multiple_of(8) {
            let mut tail = [[0.0f32; 8]; PANEL_COLS];
            let mut numbers = [0.0f32; PANEL_COLS];
            for (lane, &row) in rows.iter().enumerate() {
                D::decode_row(std::slice::from_raw_parts(row, bytes), block, &mut numbers[..n]);
                for k in n / 8 * 8..n {
                    tail[k][lane] = numbers[k];
                }
            }
            for (k, lanes) in tail.iter().enumerate().take(n).skip(n / 8 * 8) {
                *out.add(k * stride) = _mm256_loadu_ps(lanes.as_ptr());
            }
        }
    }
}

/// A panel with a row in each lane: dword `r` of vector `i` of the quants holds inputs `4i .. 4i + 3` of row `r`.
#[cfg(target_arch = "x86_64")]
pub(in crate::linear) struct Lanes {
    quants: [__m256i; 8],
    scales: [__m256; 2],
    mins: [__m256; 2],
}

/// The quants of a block format.
pub(in crate::linear) struct Quants<F>(std::marker::PhantomData<F>);

impl<F: Format> Decode for Quants<F> {
    #[cfg(target_arch = "x86_64")]
    type Piece = Lanes;

    fn decode_row(row: &[u8], block: usize, out: &mut [f32]) {
        let b = F::unpack_row(row, block);
        for (k, v) in out.iter_mut().enumerate() {
            let scale = b.scales[k / (PANEL_COLS / F::GROUPS)];
            *v = scale * (i32::from(b.quants[k]) - F::ZERO) as f32;
            if F::HAS_MIN {
                *v += b.mins[k / (PANEL_COLS / F::GROUPS)];
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn piece(rows: &[*const u8; 8], block: usize) -> Lanes {
        // SAFETY: passed on; rows of block formats are whole panels.
        unsafe {
            let panel = F::unpack_panel(rows, block);
            Lanes { quants: panel.lanes(), scales: panel.scales.scales, mins: panel.scales.mins }
        }
    }

    #[cfg(target_arch = "x86_64")]
    type Laid = [__m256; PANEL_COLS];

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn lay(rows: &[*const u8; 8], block: usize, to: *mut [__m256; PANEL_COLS]) {
        // SAFETY: passed on.
        unsafe { lay_f32::<Self>(rows, block, to) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn input(laid: *const [__m256; PANEL_COLS], k: usize) -> __m256 {
        // SAFETY: the caller promises that there is such an input.
        unsafe { (*laid)[k] }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn eight(panel: &Lanes, i: usize) -> [__m256; 8] {
        // SAFETY: register operations only.
        unsafe {
            let group = i / (4 / F::GROUPS);
            let mut values = [_mm256_setzero_ps(); 8];
            for (j, value) in values.iter_mut().enumerate() {
                let four = panel.quants[2 * i + j / 4];
                let q = match j % 4 {
                    0 => _mm256_and_si256(four, _mm256_set1_epi32(255)),
                    1 => _mm256_and_si256(_mm256_srli_epi32(four, 8), _mm256_set1_epi32(255)),
                    2 => _mm256_and_si256(_mm256_srli_epi32(four, 16), _mm256_set1_epi32(255)),
                    _ => _mm256_srli_epi32(four, 24),
                };
                let q = if F::ZERO == 0 { q } else { _mm256_sub_epi32(q, _mm256_set1_epi32(F::ZERO)) };
                *value = _mm256_mul_ps(panel.scales[group], _mm256_cvtepi32_ps(q));
                if F::HAS_MIN {
                    *value = _mm256_add_ps(*value, panel.mins[group]);
                }
            }
            values
        }
    }
}

/// [`Decode::lay`] as f32.
///
/// # Safety
/// As there.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn lay_f32<D: Decode + ?Sized>(rows: &[*const u8; 8], block: usize, to: *mut [__m256; PANEL_COLS]) {
    // SAFETY: passed on.
    unsafe {
        let piece = D::piece(rows, block);
        for i in 0..PANEL_COLS / 8 {
            for (j, v) in D::eight(&piece, i).into_iter().enumerate() {
                to.cast::<__m256>().add(8 * i + j).write(v);
            }
        }
    }
}

/// 32 inputs of 8 rows of 16-bit numbers, each input's eight numbers side by side; the order of the inputs is that of
/// [`place`].
#[cfg(target_arch = "x86_64")]
pub(in crate::linear) type Narrow = [__m256i; 16];

/// Where input `k` lies, in eights of numbers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn place(k: usize) -> usize {
    k / 16 * 16 + k % 8 * 2 + k % 16 / 8
}

/// # Safety
/// AVX2; each pointer starts a row with at least `32 * (block + 1)` numbers of 16 bits, and `to` may be written.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn lay_narrow(rows: &[*const u8; 8], block: usize, to: *mut Narrow) {
    // SAFETY: as the caller promises.
    unsafe {
        let to = to.cast::<__m256i>();
        for half in 0..2 {
            let mut v = [_mm256_setzero_si256(); 8];
            for (v, row) in v.iter_mut().zip(rows) {
                *v = _mm256_loadu_si256(row.add(64 * block + 32 * half).cast());
            }
            // Inputs of pairs of rows, then of fours, then of all eight; the upper halves are 8 inputs further on.
            for four in 0..2 {
                let mut pairs = [_mm256_setzero_si256(); 4];
                for (i, pair) in pairs.iter_mut().enumerate() {
                    let (a, b) = (v[2 * i], v[2 * i + 1]);
                    *pair = if four == 0 { _mm256_unpacklo_epi16(a, b) } else { _mm256_unpackhi_epi16(a, b) };
                }
                let [a, b, c, d] = pairs;
                let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
                let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
                let to = to.add(8 * half + 4 * four);
                to.write(_mm256_unpacklo_epi64(ab_low, cd_low));
                to.add(1).write(_mm256_unpackhi_epi64(ab_low, cd_low));
                to.add(2).write(_mm256_unpacklo_epi64(ab_high, cd_high));
                to.add(3).write(_mm256_unpackhi_epi64(ab_high, cd_high));
            }
        }
    }
}

macro_rules! dense {
    ($name:ident, $bytes:literal, $decode:expr, $load8:ident, $laid:ty, $lay:path) => {
        pub(in crate::linear) struct $name;
        impl Decode for $name {
            #[cfg(target_arch = "x86_64")]
            type Piece = [*const u8; 8];

            fn decode_row(row: &[u8], block: usize, out: &mut [f32]) {
                let at = $bytes * PANEL_COLS * block;
                for (v, b) in out.iter_mut().zip(row[at..].chunks_exact($bytes)) {
                    *v = $decode(b);
                }
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn piece(rows: &[*const u8; 8], block: usize) -> [*const u8; 8] {
                let mut at = *rows;
                for p in &mut at {
                    *p = p.wrapping_add($bytes * PANEL_COLS * block);
                }
                at
            }

            #[cfg(target_arch = "x86_64")]
            type Laid = $laid;

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn lay(rows: &[*const u8; 8], block: usize, to: *mut $laid) {
                // SAFETY: passed on.
                unsafe { $lay(rows, block, to) }
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn input(laid: *const $laid, k: usize) -> __m256 {
                let at = if $bytes == 2 { place(k) } else { k };
                // SAFETY: the caller promises that there is such an input; eight numbers each.
                unsafe { $load8(laid.cast::<u8>().add(8 * $bytes * at)) }
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn eight(rows: &[*const u8; 8], i: usize) -> [__m256; 8] {
                // SAFETY: passed on.
                unsafe { transpose8(Self::eight_rows(rows, i)) }
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn eight_rows(rows: &[*const u8; 8], i: usize) -> [__m256; 8] {
                // SAFETY: each row holds the eight weights from there on, as the caller promises.
                unsafe {
                    let mut v = [_mm256_setzero_ps(); 8];
                    for (v, row) in v.iter_mut().zip(rows) {
                        *v = $load8(row.add($bytes * 8 * i));
                    }
                    v
                }
            }
        }
    };
}
dense!(
    DenseF32,
    4,
    |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
    load_f32,
    [__m256; PANEL_COLS],
    lay_f32::<Self>
);
dense!(DenseF16, 2, |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f32(), load_f16, Narrow, lay_narrow);
dense!(DenseBF16, 2, |b: &[u8]| bf16::from_le_bytes([b[0], b[1]]).to_f32(), load_bf16, Narrow, lay_narrow);

/// # Safety
/// AVX; 32 bytes lie at `p`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn load_f32(p: *const u8) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe { _mm256_loadu_ps(p.cast()) }
}

/// # Safety
/// F16C; 16 bytes lie at `p`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn load_f16(p: *const u8) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
}

/// # Safety
/// AVX2; 16 bytes lie at `p`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn load_bf16(p: *const u8) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())), 16)) }
}

/// `$body` with `$decode` standing for the [`Decode`] of a block type.
macro_rules! with_decode {
    ($block:expr, $decode:ident => $body:expr) => {
        match $block {
            $crate::BlockType::F32 => {
                type $decode = $crate::linear::f32::decode::DenseF32;
                $body
            }
            $crate::BlockType::F16 => {
                type $decode = $crate::linear::f32::decode::DenseF16;
                $body
            }
            $crate::BlockType::BF16 => {
                type $decode = $crate::linear::f32::decode::DenseBF16;
                $body
            }
            $crate::BlockType::NF4 => {
                type $decode = $crate::linear::f32::four_bit::FourBit<$crate::block::four_bit::NF4>;
                $body
            }
            $crate::BlockType::FP4 => {
                type $decode = $crate::linear::f32::four_bit::FourBit<$crate::block::four_bit::FP4>;
                $body
            }
            other => $crate::linear::panel::with_format!(other, F => {
                type $decode = $crate::linear::f32::decode::Quants<F>;
                $body
            }),
        }
    };
}
pub(in crate::linear) use with_decode;
