//! NF4 and FP4 as f32: places looked up in a table of 16 floats, times the block's scale.

use std::marker::PhantomData;

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::decode::Decode;
#[cfg(target_arch = "x86_64")]
use super::decode::lay_f32;
use crate::block::four_bit::{BYTES, LEN, Table, absmax};
use crate::linear::panel::PANEL_COLS;
#[cfg(target_arch = "x86_64")]
use crate::linear::panel::{dwords, lanes_16};

/// Panels in a block.
const PANELS: usize = LEN / PANEL_COLS;

/// A type of four bits.
pub(in crate::linear) struct FourBit<T>(PhantomData<T>);

/// The places of 32 inputs of 8 rows, a lane a row: dword `r` of vector `i` holds inputs `8i .. 8i + 7` of row `r`, the
/// first of each two in the upper half of a byte. And the rows' scales.
#[cfg(target_arch = "x86_64")]
pub(in crate::linear) struct Places {
    places: [__m256i; 4],
    scales: __m256,
}

/// Where the block of a panel begins, and where in it the panel's places do.
fn offsets(panel: usize) -> (usize, usize) {
    (panel / PANELS * BYTES, 4 + panel % PANELS * (PANEL_COLS / 2))
}

impl<T: Table> Decode for FourBit<T> {
    fn decode_row(row: &[u8], block: usize, out: &mut [f32]) {
        let (start, places) = offsets(block);
        let bytes = &row[start..start + BYTES];
        let scale = absmax(bytes);
        for (k, out) in out.iter_mut().enumerate() {
            let two = bytes[places + k / 2];
            let place = if k % 2 == 0 { two >> 4 } else { two & 15 };
            *out = T::VALUES[usize::from(place)] * scale;
        }
    }

    #[cfg(target_arch = "x86_64")]
    type Piece = Places;

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn piece(rows: &[*const u8; 8], block: usize) -> Places {
        let (start, places) = offsets(block);
        // SAFETY: rows are whole blocks, so that the scale and 16 bytes of places lie in each, as the caller promises.
        unsafe { Places { places: lanes_16(rows, start + places), scales: _mm256_castsi256_ps(dwords(rows, start)) } }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn eight(piece: &Places, i: usize) -> [__m256; 8] {
        // SAFETY: register operations, and loads of the two halves of a table of 16.
        unsafe {
            let low = _mm256_loadu_ps(T::VALUES.as_ptr());
            let high = _mm256_loadu_ps(T::VALUES.as_ptr().add(8));
            let mut values = [_mm256_setzero_ps(); 8];
            for (j, value) in values.iter_mut().enumerate() {
                // Where in the dword the place begins. Three bits choose in a half of the table, and the fourth, brought to
                // the sign, chooses the half; what stands above is not looked at.
                let from = (j / 2 * 8 + if j % 2 == 0 { 4 } else { 0 }) as i32;
                let place = _mm256_srl_epi32(piece.places[i], _mm_cvtsi32_si128(from));
                let half = _mm256_sll_epi32(piece.places[i], _mm_cvtsi32_si128(28 - from));
                let number = _mm256_blendv_ps(
                    _mm256_permutevar8x32_ps(low, place),
                    _mm256_permutevar8x32_ps(high, place),
                    _mm256_castsi256_ps(half),
                );
                *value = _mm256_mul_ps(number, piece.scales);
            }
            values
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
}
