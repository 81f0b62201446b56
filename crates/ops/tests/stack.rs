//! A small decoder with LoRA, made of the operations: the loss and its derivative along random directions in
//! all parameters at once, against the same decoder in f64.

mod twin;

use std::sync::Arc;

use candle_core::{Tensor, Var};
use porism_formats::Weight;
use porism_kernels::activation::Activation;
use porism_kernels::attention::Mask;
use porism_kernels::attention::dense::{Dense, DenseSpan};
use porism_kernels::rope::{RopeLayout, RopeTable, inverse_frequencies};
use porism_ops::*;
use twin::{Matrix, Random, matrix};

const WIDTH: usize = 16;
const FFN: usize = 24;
const VOCAB: usize = 11;
const RANK: usize = 3;
const EPS: f32 = 1e-5;
const IDS: [u32; 8] = [1, 4, 4, 10, 0, 7, 3, 4];
const TARGETS: [u32; 8] = [4, 4, 10, 0, 7, 3, 4, 2];
const WEIGHTS: [f32; 8] = [0.0, 1.0, 1.0, 1.0, 0.5, 1.0, 0.0, 1.0];
const POSITIONS: [u32; 8] = [0, 1, 2, 3, 4, 0, 1, 2];

fn spec() -> Dense {
    Dense { heads: 4, kv_heads: 2, head_dim: 4, scale: 0.5, softcap: None, bias: None }
}

fn spans() -> [DenseSpan; 2] {
    [DenseSpan::whole(Mask::Causal, 0..5), DenseSpan::whole(Mask::Causal, 5..8)]
}

/// Trainable: table, norm, LoRA A and B on the query, value, gate, up, down, head. Frozen: query's base,
/// key, output, the other norms.
struct Frozen {
    query: Weight,
    key: Weight,
    output: Weight,
    norm: Weight,
}

fn on_the_tape(context: &OpContext, p: &[Tensor], frozen: &Frozen) -> Tensor {
    let [table, norm, a, b, value, gate, up, down, head] = p else { panic!("nine parameters") };
    let rope_table = Arc::new(RopeTable::new(&POSITIONS, &inverse_frequencies(100.0, 4), 1.0));
    let turn = |x: &Tensor| rope(context, x, RopeLayout::Halves, &rope_table, 4).unwrap();
    let x = select_rows(context, table, &IDS).unwrap();
    let normed = rms_norm(context, &x, norm, EPS).unwrap();
    let low = linear(context, &linear(context, &normed, a).unwrap(), b).unwrap();
    let q = (frozen_linear(context, &normed, &frozen.query).unwrap() + (low * 2.0).unwrap()).unwrap();
    let k = frozen_linear(context, &normed, &frozen.key).unwrap();
    let v = linear(context, &normed, value).unwrap();
    let mixed = attention(context, &spec(), &spans(), &turn(&q), &turn(&k), &v).unwrap();
    let x = (x + frozen_linear(context, &mixed, &frozen.output).unwrap()).unwrap();
    let normed = rms_norm_frozen(context, &x, &frozen.norm, EPS).unwrap();
    let (gate, up) = (linear(context, &normed, gate).unwrap(), linear(context, &normed, up).unwrap());
    let hidden = act_mul(context, Activation::Silu, &gate, &up).unwrap();
    let x = (x + linear(context, &hidden, down).unwrap()).unwrap();
    let normed = rms_norm_frozen(context, &x, &frozen.norm, EPS).unwrap();
    let logits = linear(context, &normed, head).unwrap();
    cross_entropy(context, &logits, &TARGETS, &WEIGHTS).unwrap()
}

fn in_f64(p: &[Matrix], frozen: &Frozen) -> f64 {
    let [table, norm, a, b, value, gate, up, down, head] = p else { panic!("nine parameters") };
    let dense = |w: &Weight| Matrix::new(w.rows(), w.cols(), w.to_f32().into_iter().map(f64::from).collect());
    let frequencies = inverse_frequencies(100.0, 4);
    let turn = |x: &Matrix| x.rope(RopeLayout::Halves, &POSITIONS, &frequencies, 4);
    let eps = f64::from(EPS);
    let x = table.select(&IDS);
    let normed = x.rms_norm(norm, eps);
    let q = normed.linear(&dense(&frozen.query)).add(&normed.linear(a).linear(b).scaled(2.0));
    let k = normed.linear(&dense(&frozen.key));
    let mixed = twin::attention(Mask::Causal, &spec(), &spans(), &turn(&q), &turn(&k), &normed.linear(value));
    let x = x.add(&mixed.linear(&dense(&frozen.output)));
    let normed = x.rms_norm(&dense(&frozen.norm), eps);
    let x = x.add(&normed.linear(gate).silu_mul(&normed.linear(up)).linear(down));
    x.rms_norm(&dense(&frozen.norm), eps).linear(head).cross_entropy(&TARGETS, &WEIGHTS)
}

#[test]
fn the_derivative_along_random_directions() {
    let mut random = Random(20);
    let mut weight = |rows: usize, cols: usize| {
        let values: Vec<f32> = random.numbers(rows * cols).iter().map(|v| 0.3 * v).collect();
        Weight::from_f32(&values, rows, cols).unwrap()
    };
    let frozen = Frozen {
        query: weight(WIDTH, WIDTH),
        key: weight(8, WIDTH),
        output: weight(WIDTH, WIDTH),
        norm: weight(1, WIDTH),
    };
    let shapes = [
        (VOCAB, WIDTH),
        (1, WIDTH),
        (RANK, WIDTH),
        (WIDTH, RANK),
        (8, WIDTH),
        (FFN, WIDTH),
        (FFN, WIDTH),
        (WIDTH, FFN),
        (VOCAB, WIDTH),
    ];
    let vars: Vec<Var> = shapes.iter().map(|&(rows, cols)| random.var(rows, cols)).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let here: Vec<Matrix> = tensors.iter().map(matrix).collect();

    let run = |threads: usize| {
        let loss = on_the_tape(&OpContext::new(threads), &tensors, &frozen);
        let gradients = loss.backward().unwrap();
        let gradients: Vec<Matrix> = vars.iter().map(|v| matrix(gradients.get(v).unwrap())).collect();
        (matrix(&loss).v[0], gradients)
    };
    let (loss, gradients) = run(2);
    let want = in_f64(&here, &frozen);
    assert!((loss - want).abs() < 1e-5 * want, "loss {loss} where {want} was expected");
    let (_, again) = run(1);
    assert!(gradients.iter().zip(&again).all(|(a, b)| a.v == b.v), "the number of threads changes bits");

    // All parameters at once, then each alone.
    let parts = shapes.len();
    for direction in 0..4 + parts {
        let along: Vec<Vec<f64>> = here
            .iter()
            .enumerate()
            .map(|(i, m)| {
                let moves = direction < 4 || direction - 4 == i;
                random.numbers(m.v.len()).iter().map(|&v| if moves { f64::from(v) } else { 0.0 }).collect()
            })
            .collect();
        let at = |t: f64| {
            let moved: Vec<Matrix> = here
                .iter()
                .zip(&along)
                .map(|(m, d)| Matrix::new(m.rows, m.cols, m.v.iter().zip(d).map(|(v, d)| v + t * d).collect()))
                .collect();
            in_f64(&moved, &frozen)
        };
        let want = (at(1e-5) - at(-1e-5)) / 2e-5;
        let got: f64 = gradients.iter().zip(&along).flat_map(|(g, d)| g.v.iter().zip(d)).map(|(g, d)| g * d).sum();
        assert!(
            (got - want).abs() < 2e-5 * (1.0 + want.abs()),
            "direction {direction}: {got} where {want} was expected"
        );
    }
}
