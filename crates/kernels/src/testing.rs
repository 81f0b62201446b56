//! Test support: seeded numbers and finite differences in f64. Compiled for tests only.

use crate::BlockType;

/// A small generator of reproducible numbers (splitmix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Random bytes: those of each number in turn, lowest first.
    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..n.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(n);
        bytes
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }

    /// Nearly standard normal numbers (the sum of twelve uniform ones).
    pub(crate) fn normal(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| ((0..12).map(|_| self.uniform()).sum::<f64>() - 6.0) as f32).collect()
    }
}

/// Where the f16 numbers of a block of ggml lie. Of IQ1_M's, which is spread over four words, the upper bits.
pub(crate) fn halves_at(block: BlockType) -> &'static [usize] {
    match block {
        BlockType::MXFP4 => &[],
        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => &[0, 2],
        BlockType::Q2K => &[80, 82],
        BlockType::Q3K => &[108],
        BlockType::Q6K => &[208],
        BlockType::TQ1_0 => &[52],
        BlockType::TQ2_0 => &[64],
        BlockType::IQ1M => &[54],
        _ => &[0],
    }
}

/// Sets the scales of a block of a format to numbers from `scale`, so that it decodes to ordinary weights.
pub(crate) fn set_scales(block: BlockType, bytes: &mut [u8], mut scale: impl FnMut() -> f32) {
    match block {
        // The nearest power of two.
        BlockType::MXFP4 => bytes[0] = (127.0 + scale().abs().log2()) as u8,
        BlockType::IQ1M => {
            let d = half::f16::from_f32(scale()).to_bits();
            for word in 0..4 {
                let byte = &mut bytes[49 + 2 * word];
                *byte = *byte & 15 | ((d >> (4 * word) & 15) as u8) << 4;
            }
        }
        BlockType::NF4 | BlockType::FP4 => bytes[..4].copy_from_slice(&scale().to_le_bytes()),
        _ => {
            for &at in halves_at(block) {
                bytes[at..at + 2].copy_from_slice(&half::f16::from_f32(scale()).to_le_bytes());
            }
        }
    }
}

/// Numbers as f64.
pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// The gradient of `f` at `x` by central differences in f64.
pub(crate) fn finite_differences(x: &[f32], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut at = wide(x);
    (0..at.len())
        .map(|i| {
            let (here, step) = (at[i], 1e-5);
            at[i] = here + step;
            let above = f(&at);
            at[i] = here - step;
            let below = f(&at);
            at[i] = here;
            (above - below) / (2.0 * step)
        })
        .collect()
}

/// Asserts that each number is within `tolerance * (1 + |expected|)` of what is expected.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(g) - w).abs();
        assert!(error <= tolerance * (1.0 + w.abs()), "{what}[{i}]: {g} where {w} was expected");
    }
}
