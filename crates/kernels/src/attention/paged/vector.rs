//! Eight numbers at a time: the operations that the kernels of a page are written with, as AVX2 registers and as
//! plain arrays.
//!
//! A kernel is generic over [`Vector`] and compiled for both, so that the twin is the same source and gives the same
//! bits.

use half::f16;

use super::softmax::{CURVE, ROUND};
use crate::Isa;

/// Eight f32.
///
/// # Safety
/// The processor has what the implementation is made of, and pointers point to eight numbers.
pub(super) trait Vector: Copy {
    /// Registers that there are, which is what the tiles of sums must fit into.
    const REGISTERS: usize;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn load_f16(from: *const f16) -> Self;
    unsafe fn load_i8(from: *const i8) -> Self;
    /// The low halves of eight bytes, 8 subtracted.
    unsafe fn load_low(from: *const u8) -> Self;
    /// The high halves of eight bytes, 8 subtracted.
    unsafe fn load_high(from: *const u8) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `self * factor + sum`, rounded once.
    unsafe fn fma(self, factor: Self, sum: Self) -> Self;
    /// The larger ones; `other` where there is a NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// `self * 2^n`, `n` being the low bits of a number to which [`ROUND`] was added.
    unsafe fn times_power(self, shifted: Self) -> Self;

    /// `2^self` for numbers up to zero; below -125 it is `2^-125`. Relative error below 2e-7, NaN stays NaN.
    #[inline(always)]
    unsafe fn exp2(self) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let x = Self::splat(-125.0).max(self);
            let shifted = x.add(Self::splat(ROUND));
            let r = x.sub(shifted.sub(Self::splat(ROUND)));
            let mut p = Self::splat(CURVE[5]);
            p = p.fma(r, Self::splat(CURVE[4]));
            p = p.fma(r, Self::splat(CURVE[3]));
            p = p.fma(r, Self::splat(CURVE[2]));
            p = p.fma(r, Self::splat(CURVE[1]));
            p = p.fma(r, Self::splat(CURVE[0]));
            p.times_power(shifted)
        }
    }
}

/// The twin: any processor.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 8]);

impl Plain {
    #[inline(always)]
    fn map(f: impl Fn(usize) -> f32) -> Plain {
        let mut v = [0.0; 8];
        for (l, v) in v.iter_mut().enumerate() {
            *v = f(l);
        }
        Plain(v)
    }
}

impl Vector for Plain {
    const REGISTERS: usize = 16;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Plain {
        Plain([x; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Plain {
        // SAFETY: eight numbers.
        Plain(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: eight numbers.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Plain {
        // SAFETY: eight numbers.
        let x = unsafe { from.cast::<[f16; 8]>().read_unaligned() };
        Plain::map(|l| x[l].to_f32())
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Plain {
        // SAFETY: eight numbers.
        let x = unsafe { from.cast::<[i8; 8]>().read_unaligned() };
        Plain::map(|l| f32::from(x[l]))
    }
    #[inline(always)]
    unsafe fn load_low(from: *const u8) -> Plain {
        // SAFETY: eight numbers.
        let x = unsafe { from.cast::<[u8; 8]>().read_unaligned() };
        Plain::map(|l| f32::from(x[l] & 15) - 8.0)
    }
    #[inline(always)]
    unsafe fn load_high(from: *const u8) -> Plain {
        // SAFETY: eight numbers.
        let x = unsafe { from.cast::<[u8; 8]>().read_unaligned() };
        Plain::map(|l| f32::from(x[l] >> 4) - 8.0)
    }
    #[inline(always)]
    unsafe fn add(self, other: Plain) -> Plain {
        Plain::map(|l| self.0[l] + other.0[l])
    }
    #[inline(always)]
    unsafe fn sub(self, other: Plain) -> Plain {
        Plain::map(|l| self.0[l] - other.0[l])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Plain) -> Plain {
        Plain::map(|l| self.0[l] * other.0[l])
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Plain, sum: Plain) -> Plain {
        Plain::map(|l| self.0[l].mul_add(factor.0[l], sum.0[l]))
    }
    #[inline(always)]
    unsafe fn max(self, other: Plain) -> Plain {
        Plain::map(|l| if self.0[l] > other.0[l] { self.0[l] } else { other.0[l] })
    }
    #[inline(always)]
    unsafe fn times_power(self, shifted: Plain) -> Plain {
        Plain::map(|l| f32::from_bits(self.0[l].to_bits().wrapping_add(shifted.0[l].to_bits() << 23)))
    }
}

#[cfg(target_arch = "x86_64")]
mod avx {
    use std::arch::x86_64::*;

    use half::f16;

    use super::Vector;

    /// One of `R` registers: AVX2, FMA and F16C; of 32 AVX-512 VL.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx<const R: usize>(__m256);

    // SAFETY (all blocks): the caller vouches for the features and for eight numbers behind a pointer.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl<const R: usize> Vector for Avx<R> {
        const REGISTERS: usize = R;
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            Avx(unsafe { _mm256_set1_ps(x) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Avx(unsafe { _mm256_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn load_f16(from: *const f16) -> Self {
            Avx(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) })
        }
        #[inline(always)]
        unsafe fn load_i8(from: *const i8) -> Self {
            Avx(unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) })
        }
        #[inline(always)]
        unsafe fn load_low(from: *const u8) -> Self {
            Avx(unsafe {
                let x = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()));
                let x = _mm256_and_si256(x, _mm256_set1_epi32(15));
                _mm256_cvtepi32_ps(_mm256_sub_epi32(x, _mm256_set1_epi32(8)))
            })
        }
        #[inline(always)]
        unsafe fn load_high(from: *const u8) -> Self {
            Avx(unsafe {
                let x = _mm256_srli_epi32::<4>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())));
                _mm256_cvtepi32_ps(_mm256_sub_epi32(x, _mm256_set1_epi32(8)))
            })
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            Avx(unsafe { _mm256_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            Avx(unsafe { _mm256_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            Avx(unsafe { _mm256_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn fma(self, factor: Self, sum: Self) -> Self {
            Avx(unsafe { _mm256_fmadd_ps(self.0, factor.0, sum.0) })
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            Avx(unsafe { _mm256_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn times_power(self, shifted: Self) -> Self {
            Avx(unsafe {
                let power = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted.0));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self.0), power))
            })
        }
    }
}

/// A piece of work written once for all vectors.
pub(super) trait Kernel {
    type Out;

    /// # Safety
    /// What the vector needs, and what the kernel says of its fields.
    unsafe fn run<V: Vector>(self) -> Self::Out;
}

/// Runs a kernel with the vectors of a level.
///
/// # Safety
/// What the kernel says of its fields.
#[inline]
pub(super) unsafe fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn with_avx<K: Kernel>(kernel: K) -> K::Out {
            // SAFETY: this function has the features; the rest is the caller's.
            unsafe { kernel.run::<avx::Avx<16>>() }
        }
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl")]
        unsafe fn with_avx512<K: Kernel>(kernel: K) -> K::Out {
            // SAFETY: this function has the features; the rest is the caller's.
            unsafe { kernel.run::<avx::Avx<32>>() }
        }
        let wide = || is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
        if isa >= Isa::Avx2
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            // SAFETY: the processor was just found to have the features; the rest is the caller's.
            return unsafe { if isa >= Isa::Avx2Vnni && wide() { with_avx512(kernel) } else { with_avx(kernel) } };
        }
    }
    let _ = isa;
    // SAFETY: plain code; the rest is the caller's.
    unsafe { kernel.run::<Plain>() }
}

/// Fetches the line of memory at `at` into the cache. Any address will do.
#[inline(always)]
pub(super) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing; SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
