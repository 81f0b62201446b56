//! The dense types: F32, F16 and BF16, little-endian, one number an element.
//!
//! F16 is IEEE binary16 and BF16 the upper half of an `f32`; both widen exactly. Narrowing rounds to
//! nearest, ties to even. A NaN stays a NaN.

use half::bf16;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Widens F32 elements (a copy). `bytes` holds four bytes for each element of `out`.
pub fn dequantize_f32(bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * 4, "F32 bytes and elements");
    for (bytes, out) in bytes.as_chunks::<4>().0.iter().zip(out) {
        *out = f32::from_le_bytes(*bytes);
    }
}

/// Widens F16 elements. `bytes` holds two bytes for each element of `out`.
pub fn dequantize_f16(bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * 2, "F16 bytes and elements");
    // The bytes need not be aligned: they pass through a small buffer, so that the conversion
    // itself runs over slices and uses the machine's instruction where there is one.
    let mut buffer = [f16::ZERO; 256];
    for (bytes, out) in bytes.chunks(512).zip(out.chunks_mut(256)) {
        let halves = &mut buffer[..out.len()];
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves.convert_to_f32_slice(out);
    }
}

/// Widens BF16 elements. `bytes` holds two bytes for each element of `out`.
pub fn dequantize_bf16(bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * 2, "BF16 bytes and elements");
    for (bytes, out) in bytes.as_chunks::<2>().0.iter().zip(out) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

/// Appends `values` as F32.
pub(super) fn quantize_f32(values: &[f32], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
}

/// Appends `values` rounded to F16. Above 65519.99 they become infinite.
pub(super) fn quantize_f16(values: &[f32], out: &mut Vec<u8>) {
    let mut buffer = [f16::ZERO; 256];
    for values in values.chunks(256) {
        let halves = &mut buffer[..values.len()];
        halves.convert_from_f32_slice(values);
        out.extend(halves.iter().flat_map(|h| h.to_le_bytes()));
    }
}

/// Appends `values` rounded to BF16.
pub(super) fn quantize_bf16(values: &[f32], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()));
}
