//! NF4 and FP4, the types of bitsandbytes and QLoRA (Dettmers et al. 2023): 64 weights, one f32 scale, four bits a
//! weight that are a place in a table of 16 numbers.
//!
//! ```text
//! byte 0..4    absmax, f32: the largest magnitude of the 64 weights
//! byte 4..36   the places, two a byte; the first of two in the UPPER half, unlike ggml's types
//! w[i] = absmax * table[place[i]]
//! ```
//!
//! bitsandbytes keeps the scales of a weight in a tensor of their own; here they stand before their places, so that a
//! row is one run of bytes. GGUF has no number for these types. What the scales become when they are rounded
//! themselves stands in [`nested`](super::nested).

/// Weights in a block.
pub(crate) const LEN: usize = 64;
/// Bytes of a block.
pub(crate) const BYTES: usize = 4 + LEN / 2;

/// NF4 (appendix E of the paper): quantiles of the normal distribution, brought to -1 to 1, with an exact zero.
pub const NF4_TABLE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// FP4 as bitsandbytes has it: a sign above three bits that stand for 0, 1/192, 2/3, 1, 1/3, 1/2, 1/6 and 1/4.
pub const FP4_TABLE: [f32; 16] = {
    let magnitudes = [0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0];
    let mut table = [0.0; 16];
    let mut i = 0;
    while i < 8 {
        table[i] = magnitudes[i] / 12.0;
        table[i + 8] = -table[i];
        i += 1;
    }
    table
};

/// A type's table, and how a number's place in it is found.
pub(crate) trait Table {
    /// The numbers by place.
    const VALUES: &'static [f32; 16];
    /// The places by ascending number. Of FP4's two zeros the one that bitsandbytes takes for zero comes first; the
    /// other one takes what is a little above it.
    const ASCENDING: [u8; 16];
    /// Halfway from each number to the next, ascending: a number on the border takes the lower place.
    const BORDERS: [f32; 15] = {
        let mut borders = [0.0; 15];
        let mut i = 0;
        while i < 15 {
            let (low, high) = (Self::ASCENDING[i] as usize, Self::ASCENDING[i + 1] as usize);
            borders[i] = (Self::VALUES[low] + Self::VALUES[high]) / 2.0;
            i += 1;
        }
        borders
    };
}

/// The table of NF4.
pub(crate) struct NF4;

impl Table for NF4 {
    const VALUES: &'static [f32; 16] = &NF4_TABLE;
    const ASCENDING: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
}

/// The table of FP4.
pub(crate) struct FP4;

impl Table for FP4 {
    const VALUES: &'static [f32; 16] = &FP4_TABLE;
    const ASCENDING: [u8; 16] = [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3];
}

/// The scale of a block.
pub(crate) fn absmax(block: &[u8]) -> f32 {
    f32::from_le_bytes([block[0], block[1], block[2], block[3]])
}

/// The scales of whole blocks, in order: what bitsandbytes keeps as `absmax`.
///
/// # Panics
/// If `blocks` is not a whole number of blocks.
pub fn scales(blocks: &[u8]) -> Vec<f32> {
    let (blocks, rest) = blocks.as_chunks::<BYTES>();
    assert!(rest.is_empty(), "scales: whole blocks");
    blocks.iter().map(|block| absmax(block)).collect()
}

/// Puts other scales into whole blocks.
///
/// # Panics
/// If there are not as many scales as blocks.
pub fn set_scales(blocks: &mut [u8], scales: &[f32]) {
    let (blocks, rest) = blocks.as_chunks_mut::<BYTES>();
    assert!(rest.is_empty() && blocks.len() == scales.len(), "set_scales: a scale for each block");
    for (block, scale) in blocks.iter_mut().zip(scales) {
        block[..4].copy_from_slice(&scale.to_le_bytes());
    }
}

/// Appends the places of whole blocks alone, two a byte: what bitsandbytes keeps as the weight.
///
/// # Panics
/// If `blocks` is not a whole number of blocks.
pub fn places(blocks: &[u8], out: &mut Vec<u8>) {
    let (blocks, rest) = blocks.as_chunks::<BYTES>();
    assert!(rest.is_empty(), "places: whole blocks");
    out.extend(blocks.iter().flat_map(|block| &block[4..]));
}

/// Appends blocks made of places, two a byte, and a scale for each `per_scale` blocks: bitsandbytes' larger blocks
/// (128, 256, ... weights) are several with one scale.
///
/// # Panics
/// If the places do not fill whole blocks or there are too few scales.
pub fn join(places: &[u8], scales: &[f32], per_scale: usize, out: &mut Vec<u8>) {
    let (places, rest) = places.as_chunks::<{ LEN / 2 }>();
    assert!(rest.is_empty() && places.len() <= scales.len() * per_scale, "join: whole blocks with a scale each");
    out.reserve(places.len() * BYTES);
    for (i, places) in places.iter().enumerate() {
        out.extend(scales[i / per_scale].to_le_bytes());
        out.extend(places);
    }
}

/// Decodes one block.
pub(crate) fn dequantize_block<T: Table>(block: &[u8], out: &mut [f32]) {
    let scale = absmax(block);
    for (out, &two) in out.as_chunks_mut::<2>().0.iter_mut().zip(&block[4..]) {
        *out = [T::VALUES[usize::from(two >> 4)] * scale, T::VALUES[usize::from(two & 15)] * scale];
    }
}

/// Appends one block of 64 finite numbers. Below 1e-38, where the inverse would not be finite, bitsandbytes
/// multiplies by 1e38, and so does this.
pub(crate) fn quantize_block<T: Table>(values: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let largest = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let inverse = 1.0 / largest.max(1e-38);
    out.extend(largest.to_le_bytes());
    let mut ranks = [0u8; LEN];
    for (rank, value) in ranks.iter_mut().zip(values) {
        let value = value * inverse;
        // No search: a count of borders below is what the compiler turns into vectors.
        *rank = T::BORDERS.iter().map(|&border| u8::from(border < value)).sum();
    }
    let place = |rank: u8| T::ASCENDING[usize::from(rank & 15)];
    out.extend(ranks.as_chunks::<2>().0.iter().map(|&[first, second]| place(first) << 4 | place(second)));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::{BlockType, QuantizeError, dequantize, quantize};
    use super::*;
    use crate::testing::Numbers;

    include!("fixtures/bitsandbytes.rs");

    /// The fixture's inputs, which `scripts/fixtures/four_bit.py` makes in the same way.
    fn inputs<T: Table>() -> Vec<f32> {
        let even = |i: u32| i.wrapping_mul(2_654_435_761) as i32 as f32 / 2_147_483_648.0;
        let uniform = (0..64).map(even);
        let peaked = (64..128).map(|i| even(i) * even(i) * even(i));
        let zeros = (0..64).map(|i| if i % 2 == 0 { 0.0 } else { -0.0 });
        let one_large = (0..64).map(|i| if i == 17 { -1e30 } else { even(i) * 1e28 });
        let denormal = (0..64u32).map(|i| f32::from_bits(37 * i));
        let negative = (0..64).map(|i| -even(i).abs() - 0.25);
        let mut borders = vec![1.0];
        borders.extend(T::BORDERS.iter().flat_map(|&b| [b.next_down(), b, b.next_up()]));
        borders.resize(64, 0.0);
        let huge = (0..64).map(|i| even(i) * 3e38);
        let tiny = (0..64).map(|i| even(i) * 5e-39);
        let mut all: Vec<f32> = uniform.chain(peaked).chain(zeros).chain(one_large).chain(denormal).collect();
        all.extend(negative);
        all.extend(borders);
        all.extend(huge.chain(tiny));
        all
    }

    fn hex(bytes: impl IntoIterator<Item = u8>) -> String {
        bytes.into_iter().map(|b| format!("{b:02x}")).collect()
    }

    fn agrees<T: Table>(block: BlockType, want_scales: &[u32], want_places: &[&str], want_weights: u64) {
        let mut bytes = Vec::new();
        quantize(block, &inputs::<T>(), &mut bytes).unwrap();
        let got: Vec<u32> = scales(&bytes).iter().map(|s| s.to_bits()).collect();
        assert_eq!(got, want_scales, "{block}: the scales");
        let mut got = Vec::new();
        places(&bytes, &mut got);
        for (i, (got, want)) in got.chunks(LEN / 2).zip(want_places).enumerate() {
            assert_eq!(hex(got.iter().copied()), *want, "{block}: the places of block {i}");
        }
        let mut weights = vec![0.0; bytes.len() / BYTES * LEN];
        dequantize(block, &bytes, &mut weights);
        // FNV-1a over the bits.
        let hash = weights
            .iter()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, w| (h ^ u64::from(w.to_bits())).wrapping_mul(0x100_0000_01b3));
        assert_eq!(hash, want_weights, "{block}: the weights");
        let mut again = Vec::new();
        join(&got, &scales(&bytes), 1, &mut again);
        assert_eq!(again, bytes, "{block}: apart and together");
    }

    #[test]
    fn blocks_are_those_of_bitsandbytes_bit_for_bit() {
        agrees::<NF4>(BlockType::NF4, &NF4_SCALES, &NF4_PLACES, NF4_WEIGHTS);
        agrees::<FP4>(BlockType::FP4, &FP4_SCALES, &FP4_PLACES, FP4_WEIGHTS);
    }

    #[test]
    fn each_weight_takes_the_nearest_number_of_its_table() {
        let values = Numbers::new(3).normal(64 * 20);
        for (block, table) in [(BlockType::NF4, NF4_TABLE), (BlockType::FP4, FP4_TABLE)] {
            let (mut bytes, mut out) = (Vec::new(), vec![0.0; values.len()]);
            quantize(block, &values, &mut bytes).unwrap();
            dequantize(block, &bytes, &mut out);
            for (values, (out, bytes)) in values.chunks(64).zip(out.chunks(64).zip(bytes.chunks(BYTES))) {
                let scale = absmax(bytes);
                for (v, out) in values.iter().zip(out) {
                    let least = table.iter().map(|t| (t * scale - v).abs()).fold(f32::INFINITY, f32::min);
                    assert!((out - v).abs() <= least + 1e-6 * scale, "{block}: {out} for {v}");
                }
            }
        }
    }

    #[test]
    fn a_larger_block_is_several_with_one_scale() {
        let places: Vec<u8> = (0..96).collect();
        let mut blocks = Vec::new();
        join(&places, &[2.0, 3.0], 2, &mut blocks);
        assert_eq!(scales(&blocks), [2.0, 2.0, 3.0]);
        set_scales(&mut blocks, &[1.0, 2.0, 3.0]);
        assert_eq!(scales(&blocks), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn what_has_no_scale_is_refused() {
        for block in [BlockType::NF4, BlockType::FP4] {
            let mut out = vec![1];
            let partial = quantize(block, &[1.0; 96], &mut out);
            assert_eq!(partial, Err(QuantizeError::PartialBlock { block, len: 96 }));
            for bad in [f32::NAN, f32::INFINITY] {
                let mut values = [0.5; 128];
                values[70] = bad;
                let error = quantize(block, &values, &mut out).unwrap_err();
                assert_eq!(error, QuantizeError::TooLarge { block, index: 64 }, "{bad}");
            }
            assert_eq!(out, [1], "nothing was appended");
        }
    }
}
