//! DoRA's row lengths and merged weights against their definition in f64, for dense and block weights.

use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::block::quantize;
use porism_kernels::{BlockType, Isa, Pool};
use porism_models::adapter::{DoraNorms, Merge, merged};
use porism_models::linear::{AdapterId, Delta, DeltaKind, Linear};
use porism_models::{BlockSite, Site};

const SITE: Site = Site::Block(0, BlockSite::Up);
const ID: AdapterId = AdapterId(3);

fn wave(n: usize, step: f64, size: f64) -> Vec<f32> {
    (0..n).map(|i| (size * (step * i as f64 + 0.1).sin()) as f32).collect()
}

fn base(block: BlockType, rows: usize, cols: usize) -> Weight {
    let mut bytes = Vec::new();
    if block == BlockType::Q4K {
        // No encoder: any bytes behind a scale of 0.01 and a smallest of 0.005 are weights.
        for i in 0..rows * cols / 256 {
            bytes.extend([0x1f, 0x21, 0x1f, 0x1d]);
            bytes.extend((0..140).map(|j| (i * 31 + j * 89) as u8));
        }
    } else {
        quantize(block, &wave(rows * cols, 0.77, 0.5), &mut bytes).expect("weights");
    }
    let end = bytes.len();
    Weight::new(Arc::new(bytes), 0..end, block, rows, cols).expect("a weight")
}

/// `W + s B A` in f64.
fn sum(weight: &Weight, a: &[f32], b: &[f32], scale: f32) -> Vec<f64> {
    let (rows, cols) = (weight.rows(), weight.cols());
    let rank = a.len() / cols;
    let w = weight.to_f32();
    (0..rows * cols)
        .map(|at| {
            let (i, j) = (at / cols, at % cols);
            let ba: f64 = (0..rank).map(|r| f64::from(b[i * rank + r]) * f64::from(a[r * cols + j])).sum();
            f64::from(w[at]) + f64::from(scale) * ba
        })
        .collect()
}

#[test]
fn norms_are_those_of_the_dense_sum() {
    let pool = Pool::new(2);
    for block in [BlockType::F32, BlockType::F16, BlockType::Q4_0, BlockType::Q4_1, BlockType::Q8_0, BlockType::Q4K] {
        for (rows, cols, rank) in [(9, 256, 1), (40, 512, 8), (3, 256, 33)] {
            for scale in [0.0, 2.0, -0.7] {
                let weight = base(block, rows, cols);
                let (a, b) = (wave(rank * cols, 0.31, 0.3), wave(rows * rank, 1.3, 0.4));
                let norms = DoraNorms::new(&weight).norms(&pool, Isa::detect(), &weight, &a, &b, scale).expect("norms");
                let dense = sum(&weight, &a, &b, scale);
                for (norm, row) in norms.iter().zip(dense.chunks_exact(cols)) {
                    let want = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                    assert!(
                        (f64::from(*norm) - want).abs() < 2e-6 * want,
                        "{block} {rows}x{cols} {rank}: {norm} {want}"
                    );
                }
            }
        }
    }
}

/// A row that the change takes away entirely has the length 0, not NaN.
#[test]
fn rows_of_nothing_have_no_length() {
    let pool = Pool::new(1);
    let weight = Weight::from_f32(&[0.5, -0.25, 3.0, 4.0], 2, 2).expect("a weight");
    let norms = DoraNorms::new(&weight);
    let got = norms.norms(&pool, Isa::detect(), &weight, &[0.5, -0.25], &[-1.0, 0.0], 1.0).expect("norms");
    assert_eq!(got, [0.0, 5.0]);
    for (a, b) in [(vec![0.0; 3], vec![0.0; 2]), (vec![], vec![]), (vec![0.0; 2], vec![0.0; 4])] {
        let error = norms.norms(&pool, Isa::detect(), &weight, &a, &b, 1.0).expect_err("shapes").to_string();
        assert!(error.contains("for 2 x 2"), "{error}");
    }
}

fn delta(adapter: Option<AdapterId>, kind: DeltaKind) -> Delta {
    Delta { adapter, kind }
}

#[test]
fn merged_is_the_dense_sum() {
    let pool = Pool::new(2);
    // More rows than a strip, and not a whole number of strips.
    let (rows, cols, rank) = (300, 256, 5);
    for block in [BlockType::F32, BlockType::Q4_1] {
        let weight = base(block, rows, cols);
        let (a, b) = (wave(rank * cols, 0.31, 0.3), wave(rows * rank, 1.3, 0.4));
        let (by_row, by_column) = (wave(rows, 0.2, 1.5), wave(cols, 0.9, 1.5));
        let row = |values: &[f32]| Weight::from_f32(values, 1, values.len()).expect("a row");
        let low_rank = |scale| DeltaKind::LowRank {
            a: Weight::from_f32(&a, rank, cols).expect("A"),
            b: Weight::from_f32(&b, rows, rank).expect("B"),
            scale,
        };
        let mut linear = Linear::new(SITE, weight.clone());
        linear.deltas = vec![
            delta(Some(ID), DeltaKind::InputScale(row(&by_column))),
            delta(Some(ID), low_rank(1.5)),
            delta(Some(AdapterId(9)), low_rank(100.0)),
            delta(Some(ID), DeltaKind::OutputScale(row(&by_row))),
            delta(None, DeltaKind::Bias(row(&wave(rows, 1.0, 1.0)))),
        ];
        let got = merged(&pool, Isa::detect(), &linear, ID).expect("merged");
        assert_eq!((got.block(), got.rows(), got.cols()), (BlockType::F32, rows, cols));
        let dense = sum(&weight, &a, &b, 1.5);
        for (at, (got, want)) in got.to_f32().iter().zip(&dense).enumerate() {
            let want = want * f64::from(by_row[at / cols]) * f64::from(by_column[at % cols]);
            assert!((f64::from(*got) - want).abs() < 1e-5, "{block} {at}: {got} {want}");
        }
        let mut strip = Vec::new();
        Merge::new(&linear, ID).expect("a merge").rows(&pool, Isa::detect(), 7..9, &mut strip).expect("rows");
        assert_eq!(strip, got.to_f32()[7 * cols..9 * cols]);
    }
}

#[test]
fn what_a_weight_cannot_take_up_is_refused() {
    let row = |n: usize| Weight::from_f32(&vec![1.0; n], 1, n).expect("a row");
    let refused = |deltas: Vec<Delta>| {
        let mut linear = Linear::new(SITE, base(BlockType::F32, 4, 3));
        linear.deltas = deltas;
        merged(&Pool::new(1), Isa::detect(), &linear, ID).expect_err("refused").to_string()
    };
    let bias = refused(vec![delta(Some(ID), DeltaKind::Bias(row(4)))]);
    assert_eq!(bias, "a delta of block 0 Up does not fit: a bias cannot be merged into a weight");
    let behind = vec![delta(None, DeltaKind::Bias(row(4))), delta(Some(ID), DeltaKind::OutputScale(row(4)))];
    assert!(refused(behind).contains("multiplies a bias"));
    assert!(refused(vec![delta(Some(ID), DeltaKind::OutputScale(row(3)))]).contains("a factor for each output"));
    assert!(refused(vec![delta(Some(ID), DeltaKind::InputScale(row(4)))]).contains("a factor for each input"));
    let low_rank = DeltaKind::LowRank { a: row(4), b: row(4), scale: 1.0 };
    assert!(refused(vec![delta(Some(ID), low_rank)]).contains("other shapes"));
}
