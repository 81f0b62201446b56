//! What a processor can do at most: the loops behind the limits that a benchmark is compared with.
//!
//! Nothing is timed here. Each function does a known amount of work on all threads and gives back
//! something that depends on all of it, so that no part can be left out. The arithmetic runs in registers,
//! in as many independent chains as hide an instruction's latency, with the instructions that the
//! products of [`crate::linear`] use on the same [`Isa`].

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lanes::by_isa;
use crate::{Isa, Pool};

/// Words that one tile of [`read`] takes: a mebibyte.
const READ_TILE: usize = 1 << 17;
/// Tiles for each thread in the arithmetic loops, so that a thread that starts late takes fewer.
const TILES: usize = 8;
/// f32 lanes or 4-byte sums of a vector.
const LANES: usize = 8;
/// Those of a vector of 512 bits.
#[cfg(target_arch = "x86_64")]
const WIDE: usize = 16;

/// Lanes of the vectors that a level's arithmetic runs in.
const fn lanes(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2Vnni => WIDE,
        _ => LANES,
    }
}
/// Chains of f32 multiply-adds: latency 4 or 5, two a cycle, and 16 registers.
const F32_CHAINS: usize = 12;
/// Chains of int8 multiply-adds without a dot product instruction.
const INT8_CHAINS: usize = 6;
/// Chains with one.
#[cfg(target_arch = "x86_64")]
const VNNI_CHAINS: usize = 12;

/// Reads all words once, on all threads; returns their exclusive or.
pub fn read(pool: &Pool, isa: Isa, words: &[u64]) -> u64 {
    let total = AtomicU64::new(0);
    pool.run(words.len().div_ceil(READ_TILE), &|i| {
        let part = &words[i * READ_TILE..words.len().min((i + 1) * READ_TILE)];
        total.fetch_xor(exclusive_or(isa, part), Ordering::Relaxed);
    });
    total.into_inner()
}

by_isa! {
    fn exclusive_or(words: &[u64]) -> u64 {
        let mut acc = [0u64; 32];
        let (blocks, rest) = words.as_chunks::<32>();
        for block in blocks {
            for (a, w) in acc.iter_mut().zip(block) {
                *a ^= w;
            }
        }
        acc.iter().chain(rest).fold(0, |a, b| a ^ b)
    }
}

/// `rounds` rounds of f32 multiply-adds a tile, on all threads; returns the number of operations done,
/// a multiply-add counted as two.
pub fn f32_multiply_add(pool: &Pool, isa: Isa, rounds: usize) -> u64 {
    let tiles = TILES * pool.threads();
    pool.run(tiles, &|_| {
        black_box(f32_rounds(isa, rounds));
    });
    (tiles * rounds * F32_CHAINS * lanes(isa) * 2) as u64
}

/// `rounds` rounds of int8 multiply-adds into 32 bits a tile, on all threads; returns the number of
/// operations done, a multiply-add counted as two.
pub fn int8_multiply_add(pool: &Pool, isa: Isa, rounds: usize) -> u64 {
    let tiles = TILES * pool.threads();
    pool.run(tiles, &|_| {
        black_box(int8_rounds(isa, rounds));
    });
    (tiles * rounds * int8_chains(isa) * lanes(isa) * 4 * 2) as u64
}

/// Chain `c` starts at `c`; each round halves the distance of every chain from 1. The sum of all.
fn f32_rounds(isa: Isa, rounds: usize) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        if isa == Isa::Avx2Vnni && is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor was just found to have the feature.
            return total(unsafe { x86::f32_rounds_wide(rounds) }.as_flattened());
        }
        if isa == Isa::Avx2 && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor was just found to have both features.
            return total(unsafe { x86::f32_rounds(rounds) }.as_flattened());
        }
    }
    let _ = isa;
    let half = black_box(0.5f32);
    let mut acc: [[f32; LANES]; F32_CHAINS] = std::array::from_fn(|c| [c as f32; LANES]);
    for _ in 0..rounds {
        for chain in &mut acc {
            for v in chain {
                // The product is exact, so this is what a fused multiply-add gives.
                *v = *v * half + half;
            }
        }
    }
    total(acc.as_flattened())
}

fn total(lanes: &[f32]) -> f32 {
    lanes.iter().sum()
}

const fn int8_chains(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2Vnni => VNNI_CHAINS,
        _ => INT8_CHAINS,
    }
}

/// In round `r`, chain `c` adds `(r mod 256) * (c + 1 or -(c + 1))` in each of a lane's four places; the
/// sum of all lanes. The left factors are unsigned, the right ones signed bytes, small enough that no
/// instruction saturates.
fn int8_rounds(isa: Isa, rounds: usize) -> i32 {
    let sum = |lanes: &[i32]| lanes.iter().fold(0i32, |a, &b| a.wrapping_add(b));
    #[cfg(target_arch = "x86_64")]
    {
        if isa == Isa::Avx2Vnni
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512f")
        {
            // SAFETY: the processor was just found to have these features.
            return sum(unsafe { x86::vnni_rounds(rounds) }.as_flattened());
        }
        if isa == Isa::Avx2 && is_x86_feature_detected!("avx2") {
            // SAFETY: the processor was just found to have the feature.
            return sum(unsafe { x86::int8_rounds(rounds) }.as_flattened());
        }
    }
    let _ = isa;
    sum(int8_reference::<INT8_CHAINS>(rounds).as_flattened())
}

const fn int8_factor(chain: usize) -> i8 {
    let magnitude = chain as i8 + 1;
    if chain.is_multiple_of(2) { magnitude } else { -magnitude }
}

fn int8_reference<const CHAINS: usize>(rounds: usize) -> [[i32; LANES]; CHAINS] {
    let factors: [i8; CHAINS] = black_box(std::array::from_fn(int8_factor));
    let mut acc = [[0i32; LANES]; CHAINS];
    let mut left = [0u8; 4 * LANES];
    for _ in 0..rounds {
        for (chain, factor) in acc.iter_mut().zip(factors) {
            for (lane, left) in chain.iter_mut().zip(left.as_chunks::<4>().0) {
                for &l in left {
                    *lane = lane.wrapping_add(i32::from(l) * i32::from(factor));
                }
            }
        }
        for l in &mut left {
            *l = l.wrapping_add(1);
        }
    }
    acc
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{F32_CHAINS, INT8_CHAINS, LANES, VNNI_CHAINS, WIDE, int8_factor};

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn f32_rounds(rounds: usize) -> [[f32; LANES]; F32_CHAINS] {
        let half = _mm256_set1_ps(black_box(0.5));
        let mut acc = [half; F32_CHAINS];
        for (c, a) in acc.iter_mut().enumerate() {
            *a = _mm256_set1_ps(c as f32);
        }
        for _ in 0..rounds {
            for a in &mut acc {
                *a = _mm256_fmadd_ps(*a, half, half);
            }
        }
        // SAFETY: both types are 12 times 8 floats without padding.
        unsafe { std::mem::transmute::<[__m256; F32_CHAINS], [[f32; LANES]; F32_CHAINS]>(acc) }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn int8_rounds(rounds: usize) -> [[i32; LANES]; INT8_CHAINS] {
        let (one, ones) = (_mm256_set1_epi8(1), _mm256_set1_epi16(1));
        let mut left = _mm256_setzero_si256();
        let mut factors = [left; INT8_CHAINS];
        for (c, f) in factors.iter_mut().enumerate() {
            *f = _mm256_set1_epi8(black_box(int8_factor(c)));
        }
        let mut acc = [left; INT8_CHAINS];
        for _ in 0..rounds {
            for (a, &f) in acc.iter_mut().zip(&factors) {
                *a = _mm256_add_epi32(*a, _mm256_madd_epi16(_mm256_maddubs_epi16(left, f), ones));
            }
            left = _mm256_add_epi8(left, one);
        }
        // SAFETY: both types are 6 times 8 integers without padding.
        unsafe { std::mem::transmute::<[__m256i; INT8_CHAINS], [[i32; LANES]; INT8_CHAINS]>(acc) }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn f32_rounds_wide(rounds: usize) -> [[f32; WIDE]; F32_CHAINS] {
        let half = _mm512_set1_ps(black_box(0.5));
        let mut acc = [half; F32_CHAINS];
        for (c, a) in acc.iter_mut().enumerate() {
            *a = _mm512_set1_ps(c as f32);
        }
        for _ in 0..rounds {
            for a in &mut acc {
                *a = _mm512_fmadd_ps(*a, half, half);
            }
        }
        // SAFETY: both types are 12 times 16 floats without padding.
        unsafe { std::mem::transmute::<[__m512; F32_CHAINS], [[f32; WIDE]; F32_CHAINS]>(acc) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn vnni_rounds(rounds: usize) -> [[i32; WIDE]; VNNI_CHAINS] {
        let one = _mm512_set1_epi8(1);
        let mut left = _mm512_setzero_si512();
        let mut factors = [left; VNNI_CHAINS];
        for (c, f) in factors.iter_mut().enumerate() {
            *f = _mm512_set1_epi8(black_box(int8_factor(c)));
        }
        let mut acc = [left; VNNI_CHAINS];
        for _ in 0..rounds {
            for (a, &f) in acc.iter_mut().zip(&factors) {
                *a = _mm512_dpbusd_epi32(*a, left, f);
            }
            left = _mm512_add_epi8(left, one);
        }
        // SAFETY: both types are 12 times 16 integers without padding.
        unsafe { std::mem::transmute::<[__m512i; VNNI_CHAINS], [[i32; WIDE]; VNNI_CHAINS]>(acc) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_sees_every_word_on_every_level() {
        let pool = Pool::new(3);
        for len in [0, 1, 31, 32, 1000, READ_TILE, 2 * READ_TILE + 77] {
            let words: Vec<u64> = (0..len as u64).map(|i| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            let want = words.iter().fold(0, |a, b| a ^ b);
            for isa in Isa::available() {
                assert_eq!(read(&pool, isa, &words), want, "{} words on {}", len, isa.name());
            }
        }
    }

    #[test]
    fn float_chains_go_halfway_to_one_each_round() {
        for isa in Isa::available() {
            for rounds in [0, 1, 5, 20] {
                let chain = |c: usize| 1.0 + (c as f64 - 1.0) * 0.5f64.powi(rounds as i32);
                let want: f64 = (0..F32_CHAINS).map(|c| lanes(isa) as f64 * chain(c)).sum();
                let got = f64::from(f32_rounds(isa, rounds));
                assert!((got - want).abs() < 2e-3, "{rounds} rounds on {}: {got}, {want}", isa.name());
            }
        }
    }

    #[test]
    fn int8_chains_count_every_product() {
        for isa in Isa::available() {
            for rounds in [0, 1, 2, 255, 256, 257, 1000] {
                let lefts: i64 = (0..rounds as i64).map(|r| r % 256).sum();
                let factors: i64 = (0..int8_chains(isa)).map(|c| i64::from(int8_factor(c))).sum();
                let want = lefts * factors * 4 * lanes(isa) as i64;
                assert_eq!(i64::from(int8_rounds(isa, rounds)), want, "{rounds} rounds on {}", isa.name());
            }
        }
    }

    #[test]
    fn operations_are_those_of_all_tiles() {
        let pool = Pool::new(2);
        assert_eq!(f32_multiply_add(&pool, Isa::Scalar, 3), 16 * 3 * 12 * 8 * 2);
        assert_eq!(int8_multiply_add(&pool, Isa::Scalar, 3), 16 * 3 * 6 * 8 * 4 * 2);
    }
}
