//! The codecs against fixtures that the Python package `gguf` made (`scripts/fixtures/dequantize.py`).

use crate::testing::{Numbers, halves_at};

use super::{BlockType, QuantizeError, dequantize, quantize};

struct Record {
    block: BlockType,
    bytes: Vec<u8>,
    weights: Vec<f32>,
}

fn records(mut file: &[u8]) -> Vec<Record> {
    let mut take = |count: usize| {
        let (taken, rest) = file.split_at_checked(count)?;
        file = rest;
        Some(taken.to_vec())
    };
    let mut records = Vec::new();
    while let Some(head) = take(8) {
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let block = BlockType::from_ggml_id(word(0)).unwrap();
        let count = word(4) as usize;
        let bytes = take(count * block.block_bytes()).unwrap();
        let weights = take(count * block.block_len() * 4).unwrap();
        let weights = weights.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        records.push(Record { block, bytes, weights });
    }
    records
}

#[test]
fn decodes_bit_for_bit() {
    let records = records(include_bytes!("fixtures/decode.bin"));
    assert_eq!(records.len(), 8, "F16, BF16 and the first six block types");
    for Record { block, bytes, weights } in records {
        let mut out = vec![0.0; weights.len()];
        dequantize(block, &bytes, &mut out);
        for (i, (out, expected)) in out.iter().zip(&weights).enumerate() {
            // An infinite scale times a quant of zero is a NaN, whose bits are nobody's business.
            let same = out.to_bits() == expected.to_bits() || out.is_nan() && expected.is_nan();
            assert!(same, "{block}, weight {i}: {out:?}, expected {expected:?}");
        }
    }
}

/// FNV-1a over 32-bit words.
fn hash(weights: &[f32]) -> u64 {
    weights.iter().fold(0xcbf2_9ce4_8422_2325, |h, w| (h ^ u64::from(w.to_bits())).wrapping_mul(0x100_0000_01b3))
}

/// Random blocks of every type with scales below 2, among them zero, minus zero and the largest: enough of them
/// for every point of every grid. The fixture holds a hash of what each 64 blocks decode to.
#[test]
fn decodes_random_blocks_bit_for_bit() {
    let (records, rest) = include_bytes!("fixtures/decode_hashes.bin").as_chunks::<{ 4 + 16 * 8 }>();
    assert!(rest.is_empty());
    let mut kinds = Vec::new();
    for record in records {
        let block = BlockType::from_ggml_id(u32::from_le_bytes(record[..4].try_into().unwrap())).unwrap();
        kinds.push(block);
        let mut bytes = Numbers::new(u64::from(block.ggml_id().unwrap())).bytes(1024 * block.block_bytes());
        for (i, bytes) in bytes.chunks_exact_mut(block.block_bytes()).enumerate() {
            for &at in halves_at(block) {
                match i % 64 {
                    0 => bytes[at..at + 2].copy_from_slice(&[0, 0]),
                    1 => bytes[at..at + 2].copy_from_slice(&[0, 0x80]),
                    2 if block == BlockType::IQ1M => bytes[at..at + 2].copy_from_slice(&[0xff, 0x3b]),
                    2 => bytes[at..at + 2].copy_from_slice(&[0xff, 0x7b]),
                    _ => bytes[at + 1] &= 0xbf,
                }
            }
        }
        let mut weights = vec![0.0; 1024 * block.block_len()];
        dequantize(block, &bytes, &mut weights);
        let hashes = weights.chunks(64 * block.block_len()).map(hash);
        let expected = record[4..].as_chunks::<8>().0.iter().map(|h| u64::from_le_bytes(*h));
        for (run, (hash, expected)) in hashes.zip(expected).enumerate() {
            assert_eq!(hash, expected, "{block}, blocks {}..", 64 * run);
        }
    }
    let all: Vec<_> = BlockType::ALL.into_iter().filter(|b| !b.is_dense() && b.ggml_id().is_some()).collect();
    assert_eq!(kinds, all);
}

#[test]
fn encodes_byte_for_byte() {
    let records = records(include_bytes!("fixtures/encode.bin"));
    let kinds: Vec<BlockType> = records.iter().map(|r| r.block).collect();
    let encoders: Vec<_> = BlockType::ALL.into_iter().filter(|b| b.has_encoder() && b.ggml_id().is_some()).collect();
    assert_eq!(kinds, encoders);
    for Record { block, bytes, weights } in records {
        let mut out = vec![7];
        quantize(block, &weights, &mut out).unwrap();
        assert_eq!(out[0], 7, "what was there stays");
        assert_eq!(out.len() - 1, bytes.len());
        let size = block.block_bytes();
        for (i, (out, expected)) in out[1..].chunks(size).zip(bytes.chunks(size)).enumerate() {
            assert_eq!(out, expected, "{block}, block {i}: {:?}", &weights[i * block.block_len()..]);
        }
    }
}

#[test]
fn f32_passes_through() {
    let values = [0.0f32, -0.0, 1.5, f32::MIN_POSITIVE, f32::INFINITY, f32::from_bits(0x7fc0_1234)];
    let mut bytes = Vec::new();
    quantize(BlockType::F32, &values, &mut bytes).unwrap();
    let mut out = [0.0; 6];
    dequantize(BlockType::F32, &bytes, &mut out);
    assert_eq!(out.map(f32::to_bits), values.map(f32::to_bits));
}

#[test]
fn nans_stay_nans() {
    for block in [BlockType::F16, BlockType::BF16] {
        // A NaN with the lowest payload bit only: narrowing must not make an infinity of it.
        let mut bytes = Vec::new();
        quantize(block, &[f32::from_bits(0x7f80_0001)], &mut bytes).unwrap();
        let mut out = [0.0];
        dequantize(block, &bytes, &mut out);
        assert!(out[0].is_nan(), "{block}");
    }
}

#[test]
fn refuses_what_blocks_cannot_hold() {
    let mut out = vec![1, 2];
    for block in [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q8_0] {
        let partial = quantize(block, &[1.0; 33], &mut out);
        assert_eq!(partial, Err(QuantizeError::PartialBlock { block, len: 33 }));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -3e38] {
            let mut values = [0.5; 64];
            values[40] = bad;
            let error = quantize(block, &values, &mut out).unwrap_err();
            assert_eq!(error, QuantizeError::TooLarge { block, index: 32 }, "{bad}");
            assert!(error.to_string().contains("32..64"), "{error}");
        }
    }
    let error = quantize(BlockType::Q6K, &[0.0; 256], &mut out).unwrap_err();
    assert_eq!(error, QuantizeError::NoEncoder(BlockType::Q6K));
    assert_eq!(out, [1, 2], "nothing was appended");
}

#[test]
#[should_panic(expected = "do not hold 31 weights")]
fn lengths_must_agree() {
    dequantize(BlockType::Q8_0, &[0; 34], &mut [0.0; 31]);
}
