//! Transposing eight vectors of eight numbers in registers.

use std::arch::x86_64::*;

/// Eight rows of eight to eight columns. Written without closures, which would not inherit the caller's vector
/// instructions.
///
/// # Safety
/// AVX.
#[inline(always)]
pub(crate) unsafe fn transpose8(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: register operations only.
    unsafe {
        let [a0, a1] = [_mm256_unpacklo_ps(r[0], r[1]), _mm256_unpackhi_ps(r[0], r[1])];
        let [a2, a3] = [_mm256_unpacklo_ps(r[2], r[3]), _mm256_unpackhi_ps(r[2], r[3])];
        let [a4, a5] = [_mm256_unpacklo_ps(r[4], r[5]), _mm256_unpackhi_ps(r[4], r[5])];
        let [a6, a7] = [_mm256_unpacklo_ps(r[6], r[7]), _mm256_unpackhi_ps(r[6], r[7])];
        // The lower and the upper pairs of two vectors.
        const LOW: i32 = 0b01_00_01_00;
        const HIGH: i32 = 0b11_10_11_10;
        let [b0, b1] = [_mm256_shuffle_ps::<LOW>(a0, a2), _mm256_shuffle_ps::<HIGH>(a0, a2)];
        let [b2, b3] = [_mm256_shuffle_ps::<LOW>(a1, a3), _mm256_shuffle_ps::<HIGH>(a1, a3)];
        let [b4, b5] = [_mm256_shuffle_ps::<LOW>(a4, a6), _mm256_shuffle_ps::<HIGH>(a4, a6)];
        let [b6, b7] = [_mm256_shuffle_ps::<LOW>(a5, a7), _mm256_shuffle_ps::<HIGH>(a5, a7)];
        [
            _mm256_permute2f128_ps::<0x20>(b0, b4),
            _mm256_permute2f128_ps::<0x20>(b1, b5),
            _mm256_permute2f128_ps::<0x20>(b2, b6),
            _mm256_permute2f128_ps::<0x20>(b3, b7),
            _mm256_permute2f128_ps::<0x31>(b0, b4),
            _mm256_permute2f128_ps::<0x31>(b1, b5),
            _mm256_permute2f128_ps::<0x31>(b2, b6),
            _mm256_permute2f128_ps::<0x31>(b3, b7),
        ]
    }
}
