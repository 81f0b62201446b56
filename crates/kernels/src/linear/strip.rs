//! Strips: 8 output rows, one a vector lane. How the rows of several products are cut into tiles of strips,
//! where a strip reads and where its results go.

use super::{MatrixRef, Product};

/// Output rows in a panel: the lanes of a vector.
pub(super) const LANES: usize = 8;

/// A pointer that tiles on several threads write through, each to its own part.
#[derive(Clone, Copy)]
pub(super) struct OutPtr(pub(super) *mut f32);
// SAFETY: tiles write disjoint ranges, and the pool returns before the slice behind it is used again.
unsafe impl Send for OutPtr {}
// SAFETY: as above.
unsafe impl Sync for OutPtr {}

/// A tile of the work list: strips `first .. first + count` of product `product`.
#[derive(Clone, Copy)]
pub(super) struct StripTile {
    pub(super) product: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

/// Cuts all products into tiles of at most `strips` strips of 8 rows.
pub(super) fn strip_tiles(products: &[Product<'_>], strips: usize) -> Vec<StripTile> {
    let mut tiles = Vec::new();
    for (product, p) in products.iter().enumerate() {
        let total = p.weight.rows.div_ceil(LANES);
        let mut first = 0;
        while first < total {
            let count = strips.min(total - first);
            tiles.push(StripTile { product, first, count });
            first += count;
        }
    }
    tiles
}

/// Where the rows of a strip start; lanes beyond the last row repeat it and are not stored.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn strip_rows(w: &MatrixRef<'_>, strip: usize) -> [*const u8; LANES] {
    let row_bytes = w.row_bytes();
    std::array::from_fn(|r| {
        let row = (strip * LANES + r).min(w.rows - 1);
        w.bytes[row * row_bytes..].as_ptr()
    })
}

/// Writes a strip's results of one token.
///
/// # Safety
/// AVX; the token and the strip lie inside the output, and nobody else writes there now.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn store(w: &MatrixRef<'_>, strip: usize, token: usize, acc: std::arch::x86_64::__m256, out: OutPtr) {
    use std::arch::x86_64::_mm256_storeu_ps;
    let first = strip * LANES;
    // SAFETY: as the caller promises; a part strip writes only the rows that exist.
    unsafe {
        let to = out.0.add(token * w.rows + first);
        if first + LANES <= w.rows {
            _mm256_storeu_ps(to, acc);
        } else {
            let mut lanes = [0.0f32; LANES];
            _mm256_storeu_ps(lanes.as_mut_ptr(), acc);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, w.rows - first);
        }
    }
}

/// What [`store`] wrote.
///
/// # Safety
/// As there.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn load(w: &MatrixRef<'_>, strip: usize, token: usize, out: OutPtr) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::_mm256_loadu_ps;
    let first = strip * LANES;
    // SAFETY: as the caller promises; of a part strip only the rows that exist are read.
    unsafe {
        let from = out.0.add(token * w.rows + first);
        if first + LANES <= w.rows {
            return _mm256_loadu_ps(from);
        }
        let mut lanes = [0.0f32; LANES];
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), w.rows - first);
        _mm256_loadu_ps(lanes.as_ptr())
    }
}
