//! A strip of columns of a weight as a row-major dense matrix: what a product with the weight itself, not with its
//! transpose, reads.

use super::decode::Decode;
use super::{LANES, MatrixRef, PANEL_COLS};
use crate::Isa;

/// Rows `row .. row + count` of the 32 columns of a strip, to `out[count, 32]`. Columns that are not there become
/// zeros. `row` is a multiple of 8, and `out` has room for a multiple of 8 rows.
pub(in crate::linear) fn decode_rows<D: Decode>(
    isa: Isa,
    weight: &MatrixRef<'_>,
    row: usize,
    count: usize,
    strip: usize,
    out: &mut [f32],
) {
    assert!(row.is_multiple_of(LANES) && row + count <= weight.rows && strip < weight.cols.div_ceil(PANEL_COLS));
    assert!(count.next_multiple_of(LANES) * PANEL_COLS <= out.len(), "decode_rows: room for whole eights of rows");
    let width = PANEL_COLS.min(weight.cols - strip * PANEL_COLS);
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 && width == PANEL_COLS {
        // SAFETY: the level says that the processor has AVX2 and F16C; the rest was just checked.
        unsafe { panels::<D>(weight, row, count, strip, out.as_mut_ptr()) };
        return;
    }
    let _ = isa;
    let row_bytes = weight.row_bytes();
    for (row, out) in (row..row + count).zip(out.chunks_exact_mut(PANEL_COLS)) {
        D::decode_row(&weight.bytes[row * row_bytes..(row + 1) * row_bytes], strip, &mut out[..width]);
        out[width..].fill(0.0);
    }
}

/// # Safety
/// AVX2 and F16C; rows and strip exist, all 32 columns too, and `out` has room for whole eights of rows.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn panels<D: Decode>(weight: &MatrixRef<'_>, row: usize, count: usize, strip: usize, out: *mut f32) {
    use std::arch::x86_64::_mm256_storeu_ps;

    use super::super::strip::strip_rows;
    for first in (0..count).step_by(LANES) {
        // Rows beyond the last repeat it.
        let rows = strip_rows(weight, (row + first) / LANES);
        // SAFETY: as the caller promises.
        unsafe {
            let piece = D::piece(&rows, strip);
            for i in 0..PANEL_COLS / 8 {
                for (r, v) in D::eight_rows(&piece, i).into_iter().enumerate() {
                    _mm256_storeu_ps(out.add((first + r) * PANEL_COLS + 8 * i), v);
                }
            }
        }
    }
}
