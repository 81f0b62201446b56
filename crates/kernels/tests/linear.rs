//! The products: every level against the scalar reference, both modes against f64, and the independence
//! of a row from its batch and from the number of threads.

use porism_kernels::linear::{self, MatrixRef, Product, QuantizedRows};
use porism_kernels::{BlockType, Isa, Pool, block};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Random bytes that decode to numbers of ordinary size: random quants, small scales.
fn weight_bytes(block: BlockType, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    let blocks = rows * cols / block.block_len();
    let mut bytes = Vec::new();
    let half = |v: f32| half::f16::from_f32(v).to_le_bytes();
    for _ in 0..blocks {
        let start = bytes.len();
        bytes.extend((0..block.block_bytes()).map(|_| random.next() as u8));
        let b = &mut bytes[start..];
        match block {
            BlockType::F32 => b.copy_from_slice(&random.float().to_le_bytes()),
            BlockType::F16 => b.copy_from_slice(&half(random.float())),
            BlockType::BF16 => b.copy_from_slice(&half::bf16::from_f32(random.float()).to_le_bytes()),
            _ => set_scales(block, b, || 0.02 * random.float()),
        }
    }
    bytes
}

/// Sets the f16 numbers of a block.
fn set_scales(block: BlockType, b: &mut [u8], mut scale: impl FnMut() -> f32) {
    let halves: &[usize] = match block {
        // Powers of two from 2^-11 to 2^-4.
        BlockType::MXFP4 => {
            b[0] = 117 + b[0] % 8;
            return;
        }
        // Spread over the upper bits of four words.
        BlockType::IQ1M => {
            let d = half::f16::from_f32(scale()).to_bits();
            for word in 0..4 {
                b[49 + 2 * word] = b[49 + 2 * word] & 15 | ((d >> (4 * word) & 15) as u8) << 4;
            }
            return;
        }
        BlockType::NF4 | BlockType::FP4 => {
            b[..4].copy_from_slice(&scale().to_le_bytes());
            return;
        }
        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => &[0, 2],
        BlockType::Q2K => &[80, 82],
        BlockType::Q3K => &[108],
        BlockType::Q6K => &[208],
        BlockType::TQ1_0 => &[52],
        BlockType::TQ2_0 => &[64],
        _ => &[0],
    };
    for &at in halves {
        b[at..at + 2].copy_from_slice(&half::f16::from_f32(scale()).to_le_bytes());
    }
}

/// Shapes with part strips, part tiles and, for dense types, part panels.
fn shapes(block: BlockType) -> Vec<(usize, usize)> {
    match block.block_len() {
        1 => vec![(1, 1), (7, 5), (19, 67), (96, 64)],
        32 => vec![(1, 32), (13, 64), (41, 96), (144, 576)],
        64 => vec![(1, 64), (13, 128), (41, 192), (144, 576)],
        _ => vec![(3, 256), (21, 512)],
    }
}

fn both(pool: &Pool, isa: Isa, w: MatrixRef<'_>, x: &[f32], tokens: usize) -> (Vec<f32>, Option<Vec<f32>>) {
    let mut exact = vec![f32::NAN; tokens * w.rows];
    linear::forward_f32(pool, isa, w, x, &mut exact);
    let int8 = linear::takes_int8(w.block).then(|| {
        let mut rows = QuantizedRows::default();
        rows.quantize(pool, isa, x, w.cols);
        let mut out = vec![f32::NAN; tokens * w.rows];
        linear::forward_int8_many(pool, isa, &rows, &mut [Product { weight: w, out: &mut out }]);
        out
    });
    (exact, int8)
}

#[test]
fn levels_agree_to_the_bit_and_with_f64() {
    let mut random = Random(7);
    for block in BlockType::ALL {
        for (rows, cols) in shapes(block) {
            let bytes = weight_bytes(block, rows, cols, &mut random);
            let w = MatrixRef { bytes: &bytes, block, rows, cols };
            let mut dense = vec![0.0; rows * cols];
            block::dequantize(block, &bytes, &mut dense);
            for tokens in [1, 2, 3, 4, 5, 13] {
                let x: Vec<f32> = (0..tokens * cols).map(|_| random.float()).collect();
                let reference = both(&Pool::new(1), Isa::Scalar, w, &x, tokens);
                for isa in Isa::available() {
                    for threads in [1, 2] {
                        let other = both(&Pool::new(threads), isa, w, &x, tokens);
                        assert_eq!(reference, other, "{block} {rows}x{cols}, {tokens} tokens, {isa:?}");
                    }
                }
                for t in 0..tokens {
                    for r in 0..rows {
                        let pairs = || dense[r * cols..(r + 1) * cols].iter().zip(&x[t * cols..(t + 1) * cols]);
                        let sum: f64 = pairs().map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                        let size: f64 = pairs().map(|(w, x)| f64::from((w * x).abs())).sum();
                        let exact = f64::from(reference.0[t * rows + r]);
                        assert!((exact - sum).abs() <= 1e-5 * size, "{block}: {exact} for {sum}");
                        if let Some(int8) = &reference.1 {
                            let weight: f64 = dense[r * cols..(r + 1) * cols].iter().map(|w| f64::from(w.abs())).sum();
                            let error = (f64::from(int8[t * rows + r]) - sum).abs();
                            // Each activation is off by at most half a step, 1 / 254 of its block's largest.
                            assert!(error <= weight / 253.0, "{block} int8: error {error}, weights {weight}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_exact_product_sees_the_codecs_numbers() {
    let mut random = Random(13);
    let (rows, cols) = (11, 512);
    let mut x = vec![0.0; cols * cols];
    (0..cols).for_each(|i| x[i * cols + i] = 1.0);
    for block in BlockType::ALL {
        let bytes = weight_bytes(block, rows, cols, &mut random);
        let w = MatrixRef { bytes: &bytes, block, rows, cols };
        let mut dense = vec![0.0; rows * cols];
        block::dequantize(block, &bytes, &mut dense);
        for isa in Isa::available() {
            let mut y = vec![f32::NAN; cols * rows];
            linear::forward_f32(&Pool::new(2), isa, w, &x, &mut y);
            let same = (0..rows).all(|r| (0..cols).all(|c| y[c * rows + r] == dense[r * cols + c]));
            assert!(same, "{block} {isa:?}");
        }
    }
}

#[test]
fn extreme_quants_do_not_saturate() {
    // The largest quants against the largest activations: where a 16-bit sum would overflow first.
    for block in BlockType::ALL.into_iter().filter(|&b| linear::takes_int8(b)) {
        let (rows, cols) = (8, 256);
        for fill in [0xffu8, 0x7f, 0x80, 0x00] {
            let mut bytes = vec![fill; rows * block.row_bytes(cols).unwrap()];
            for b in bytes.chunks_exact_mut(block.block_bytes()) {
                set_scales(block, b, || 0.01);
            }
            let w = MatrixRef { bytes: &bytes, block, rows, cols };
            for sign in [1.0f32, -1.0] {
                let x = vec![sign; cols];
                let reference = both(&Pool::new(1), Isa::Scalar, w, &x, 1);
                for isa in Isa::available() {
                    assert_eq!(reference, both(&Pool::new(1), isa, w, &x, 1), "{block} {fill:#x} {isa:?}");
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_see_its_batch() {
    let mut random = Random(11);
    let isa = Isa::detect();
    for block in BlockType::ALL {
        let (rows, cols) = (40, 256);
        let bytes = weight_bytes(block, rows, cols, &mut random);
        let w = MatrixRef { bytes: &bytes, block, rows, cols };
        let x: Vec<f32> = (0..16 * cols).map(|_| random.float()).collect();
        let alone: Vec<_> = (0..16).map(|t| both(&Pool::new(1), isa, w, &x[t * cols..(t + 1) * cols], 1)).collect();
        for tokens in 2..=16 {
            let together = both(&Pool::new(2), isa, w, &x[..tokens * cols], tokens);
            for (t, alone) in alone.iter().enumerate().take(tokens) {
                assert_eq!(together.0[t * rows..(t + 1) * rows], alone.0, "{block}, row {t} of {tokens}");
                if let (Some(together), Some(alone)) = (&together.1, &alone.1) {
                    assert_eq!(together[t * rows..(t + 1) * rows], *alone, "{block} int8, row {t} of {tokens}");
                }
            }
        }
    }
}
