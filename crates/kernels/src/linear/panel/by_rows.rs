//! Panels made row by row from a format's groups, the same code on every level: all formats without vector
//! instructions of their own, and the scalar form of the others.

use super::{Format, PANEL_COLS, RowBlock};
#[cfg(target_arch = "x86_64")]
use super::{Panel, transpose_32};
use crate::block::grid::{IQ1M, IQ1S, IQ2S, IQ2XS, IQ2XXS, IQ3S, IQ3XXS};
use crate::block::group::Codec;

/// [`Format::unpack_row`] of a format that has a codec.
#[inline(always)]
pub(super) fn unpack_row<C: Codec>(row: &[u8], block: usize, zero: i32) -> RowBlock {
    let groups = C::LEN / PANEL_COLS;
    let at = C::BYTES * (block / groups);
    let group = C::group(&row[at..at + C::BYTES], block % groups);
    let mut quants = [0; PANEL_COLS];
    for (quant, value) in quants.iter_mut().zip(group.values) {
        *quant = (i32::from(value) + zero) as u8;
    }
    RowBlock { quants, scales: group.scales, mins: group.mins }
}

/// [`Format::unpack_panel`] of a format that has a codec.
///
/// # Safety
/// As there.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn unpack_panel<C: Codec>(rows: &[*const u8; 8], block: usize, zero: i32) -> Panel {
    use std::arch::x86_64::_mm256_loadu_ps;
    let bytes = C::BYTES * (block / (C::LEN / PANEL_COLS) + 1);
    let mut quants = [[0u8; PANEL_COLS]; 8];
    let mut scales = [[0f32; 8]; 2];
    let mut mins = [[0f32; 8]; 2];
    for (r, row) in rows.iter().enumerate() {
        // SAFETY: the caller promises that the block lies inside the row.
        let row = unpack_row::<C>(unsafe { std::slice::from_raw_parts(*row, bytes) }, block, zero);
        quants[r] = row.quants;
        for half in 0..2 {
            scales[half][r] = row.scales[half];
            mins[half][r] = row.mins[half];
        }
    }
    let mut starts = [std::ptr::null(); 8];
    for (start, quants) in starts.iter_mut().zip(&quants) {
        *start = quants.as_ptr();
    }
    // SAFETY: the caller promises AVX2; the pointers are those of 32 bytes each.
    unsafe {
        Panel {
            quants: transpose_32(&starts, 0),
            scales: [_mm256_loadu_ps(scales[0].as_ptr()), _mm256_loadu_ps(scales[1].as_ptr())],
            mins: [_mm256_loadu_ps(mins[0].as_ptr()), _mm256_loadu_ps(mins[1].as_ptr())],
        }
    }
}

macro_rules! by_rows {
    ($name:ident, zero $zero:literal, groups $groups:literal, run $run:literal) => {
        impl Format for $name {
            const ZERO: i32 = $zero;
            const GROUPS: usize = $groups;
            const HAS_MIN: bool = <$name as Codec>::HAS_MIN;
            const RUN: usize = $run;

            fn unpack_row(row: &[u8], block: usize) -> RowBlock {
                unpack_row::<$name>(row, block, $zero)
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn unpack_panel(rows: &[*const u8; 8], block: usize) -> Panel {
                // SAFETY: passed on.
                unsafe { unpack_panel::<$name>(rows, block, $zero) }
            }
        }
    };
}

// The points reach 62, so quants are below 127: 7 bits.
by_rows!(IQ2XXS, zero 64, groups 1, run 1);
by_rows!(IQ2XS, zero 64, groups 2, run 1);
by_rows!(IQ2S, zero 64, groups 2, run 1);
by_rows!(IQ3XXS, zero 64, groups 1, run 1);
by_rows!(IQ3S, zero 16, groups 1, run 4);
by_rows!(IQ1S, zero 9, groups 1, run 4);
by_rows!(IQ1M, zero 9, groups 2, run 4);
