//! Groups: a block's weights 32 at a time, as small integers with their scales.
//!
//! All formats but the oldest are read through this form, by the decoder to f32 and by the products alike,
//! so that a layout is written down once.

use half::f16;

/// Weights in a group.
pub(crate) const GROUP: usize = 32;

/// 32 weights: number `i` is `scales[i / 16] * values[i] + mins[i / 16]`, the product rounded before the sum.
pub(crate) struct Group {
    pub(crate) values: [i8; GROUP],
    pub(crate) scales: [f32; 2],
    /// Zeros where the format has no minima; they are then not added.
    pub(crate) mins: [f32; 2],
}

impl Group {
    /// A group with one scale and no minimum.
    #[inline(always)]
    pub(crate) fn new(values: [i8; GROUP], scale: f32) -> Group {
        Group { values, scales: [scale; 2], mins: [0.0; 2] }
    }
}

/// A format whose blocks are made of groups.
pub(crate) trait Codec {
    /// Weights in a block.
    const LEN: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether there are minima.
    const HAS_MIN: bool = false;

    /// Group `index` (below `LEN / 32`) of a block of `BYTES` bytes.
    fn group(block: &[u8], index: usize) -> Group;
}

/// Decodes one block.
pub(super) fn dequantize_block<C: Codec>(bytes: &[u8], out: &mut [f32]) {
    assert!(bytes.len() == C::BYTES && out.len() == C::LEN, "one block");
    for (index, out) in out.chunks_exact_mut(GROUP).enumerate() {
        let group = C::group(bytes, index);
        for (i, (out, value)) in out.iter_mut().zip(group.values).enumerate() {
            *out = group.scales[i / 16] * f32::from(value);
            if C::HAS_MIN {
                *out += group.mins[i / 16];
            }
        }
    }
}

/// The f16 at `bytes[at..at + 2]` as f32.
#[inline(always)]
pub(super) fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The u16 at `bytes[at..at + 2]`.
#[inline(always)]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The u32 at `bytes[at..at + 4]`.
#[inline(always)]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The low halves of 16 bytes, then the high ones.
#[inline(always)]
pub(super) fn nibbles(bytes: &[u8]) -> [u8; GROUP] {
    let mut out = [0; GROUP];
    for (i, byte) in bytes[..GROUP / 2].iter().enumerate() {
        out[i] = byte & 15;
        out[i + GROUP / 2] = byte >> 4;
    }
    out
}
