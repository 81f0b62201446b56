//! Transposing eight vectors of eight numbers in registers.

use std::arch::x86_64::*;

/// Eight rows of eight to eight columns.
///
/// # Safety
/// AVX.
#[inline(always)]
pub(crate) unsafe fn transpose8(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: register operations only.
    unsafe {
        let t: [__m256; 8] = std::array::from_fn(|i| {
            let (a, b) = (r[i / 2 * 2], r[i / 2 * 2 + 1]);
            if i % 2 == 0 { _mm256_unpacklo_ps(a, b) } else { _mm256_unpackhi_ps(a, b) }
        });
        let u: [__m256; 8] = std::array::from_fn(|i| {
            let (a, b) = (t[i / 4 * 4 + i % 4 / 2], t[i / 4 * 4 + i % 4 / 2 + 2]);
            if i % 2 == 0 { _mm256_shuffle_ps(a, b, 0b01_00_01_00) } else { _mm256_shuffle_ps(a, b, 0b11_10_11_10) }
        });
        std::array::from_fn(|i| {
            let (a, b) = (u[i % 4], u[i % 4 + 4]);
            if i < 4 { _mm256_permute2f128_ps(a, b, 0x20) } else { _mm256_permute2f128_ps(a, b, 0x31) }
        })
    }
}
