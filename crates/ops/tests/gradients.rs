//! Every operation against its f64 twin: the result, and the gradient of each input by central differences.

mod twin;

use std::sync::Arc;

use candle_core::{Device, Tensor};
use porism_formats::Weight;
use porism_kernels::BlockType;
use porism_kernels::activation::Activation;
use porism_kernels::attention::Mask;
use porism_kernels::attention::dense::{Dense, DenseSpan};
use porism_kernels::rope::{RopeLayout, RopeTable, inverse_frequencies};
use porism_ops::*;
use twin::{Matrix, Random, check_gradients, check_gradients_and_sums, matrix};

fn context() -> OpContext {
    OpContext::new(2)
}

/// Two rows of Q8_0, of four blocks: scales of 0.01 and running quants.
fn packed_weight(rows: usize) -> Weight {
    let mut bytes = Vec::new();
    for block in 0..rows * 2 {
        bytes.extend([0x1f, 0x21]); // 0.01 in f16
        bytes.extend((0..32).map(|i| (block * 32 + i * 7) as u8));
    }
    let end = bytes.len();
    Weight::new(Arc::new(bytes), 0..end, BlockType::Q8_0, rows, 64).unwrap()
}

fn decoded(w: &Weight) -> Matrix {
    Matrix::new(w.rows(), w.cols(), w.to_f32().into_iter().map(f64::from).collect())
}

#[test]
fn frozen_linear_of_a_packed_weight() {
    let (x, w) = (Random(1).var(3, 64), packed_weight(5));
    check_gradients(
        "frozen_linear",
        &[&x],
        |t| frozen_linear(&context(), &t[0], &w).unwrap(),
        |m| m[0].linear(&decoded(&w)),
    );
}

#[test]
fn trainable_linear() {
    let mut random = Random(2);
    let (x, w) = (random.var(5, 7), random.var(4, 7));
    check_gradients("linear", &[&x, &w], |t| linear(&context(), &t[0], &t[1]).unwrap(), |m| m[0].linear(&m[1]));
}

#[test]
fn norms() {
    let mut random = Random(3);
    let (x, w) = (random.var(3, 19), random.var(1, 19));
    check_gradients(
        "rms_norm",
        &[&x, &w],
        |t| rms_norm(&context(), &t[0], &t[1], 1e-5).unwrap(),
        |m| m[0].rms_norm(&m[1], f64::from(1e-5f32)),
    );
    let frozen = Weight::from_f32(&random.numbers(19), 1, 19).unwrap();
    check_gradients(
        "rms_norm_frozen",
        &[&x],
        |t| rms_norm_frozen(&context(), &t[0], &frozen, 1e-5).unwrap(),
        |m| m[0].rms_norm(&decoded(&frozen), f64::from(1e-5f32)),
    );
}

#[test]
fn rope_in_both_layouts() {
    let x = Random(4).var(3, 24);
    let (positions, frequencies) = ([0, 5, 900], inverse_frequencies(10_000.0, 8));
    let table = Arc::new(RopeTable::new(&positions, &frequencies, 1.0));
    for layout in [RopeLayout::Adjacent, RopeLayout::Halves] {
        check_gradients(
            "rope",
            &[&x],
            |t| rope(&context(), &t[0], layout, &table, 12).unwrap(),
            |m| m[0].rope(layout, &positions, &frequencies, 12),
        );
    }
}

#[test]
fn attention_over_spans_under_every_mask() {
    let mut random = Random(5);
    let (q, k, v) = (random.var(9, 16), random.var(12, 8), random.var(12, 8));
    for (mask, softcap) in
        [(Mask::Causal, None), (Mask::Window(2), None), (Mask::Full, None), (Mask::Causal, Some(1.5))]
    {
        let spans = [DenseSpan::whole(mask, 0..5), DenseSpan::new(mask, 5..9, 5..12, 2, &[0, 1, 2, 3, 4])];
        let spec = Dense { heads: 4, kv_heads: 2, head_dim: 4, scale: 0.5, softcap, bias: None };
        check_gradients(
            "attention",
            &[&q, &k, &v],
            |t| attention(&context(), &spec, &spans, &t[0], &t[1], &t[2]).unwrap(),
            |m| twin::attention(mask, &spec, &spans, &m[0], &m[1], &m[2]),
        );
    }
}

#[test]
fn gated_activation() {
    let mut random = Random(6);
    let (gate, up) = (random.var(3, 11), random.var(3, 11));
    check_gradients(
        "act_mul",
        &[&gate, &up],
        |t| act_mul(&context(), Activation::Silu, &t[0], &t[1]).unwrap(),
        |m| m[0].silu_mul(&m[1]),
    );
}

#[test]
fn frozen_feed_forward() {
    let mut random = Random(21);
    let (x, norm) = (random.var(3, 64), Weight::from_f32(&random.numbers(64), 1, 64).unwrap());
    // Small, so that what is rounded in f32 stays below the tolerance.
    let mut small = |rows: usize, cols: usize| {
        let numbers: Vec<f32> = random.numbers(rows * cols).iter().map(|v| 0.1 * v).collect();
        Weight::from_f32(&numbers, rows, cols).unwrap()
    };
    let (gate, up, down) = (packed_weight(5), small(5, 64), small(64, 5));
    for norm in [None, Some((norm, 1e-5))] {
        check_gradients(
            "frozen_gated",
            &[&x],
            |t| {
                let (norm, gate, up, down) = (norm.clone(), gate.clone(), up.clone(), down.clone());
                let weights = FrozenGated { norm, gate, up, down, activation: Activation::Silu };
                frozen_gated(&context(), &t[0], weights).unwrap()
            },
            |m| {
                let n = norm.as_ref().map_or(m[0].scaled(1.0), |(w, eps)| m[0].rms_norm(&decoded(w), f64::from(*eps)));
                n.linear(&decoded(&gate)).silu_mul(&n.linear(&decoded(&up))).linear(&decoded(&down))
            },
        );
    }
}

#[test]
fn frozen_projection_with_a_trained_pair() {
    let mut random = Random(22);
    let (x, w) = (random.var(5, 64), packed_weight(7));
    let (a, b) = (random.var(3, 64), random.var(7, 3));
    check_gradients(
        "frozen_low_rank",
        &[&x, &a, &b],
        |t| frozen_low_rank(&context(), &t[0], &w, (&t[1], &t[2], 1.7)).unwrap(),
        |m| m[0].linear(&decoded(&w)).add(&m[0].linear(&m[1]).linear(&m[2]).scaled(f64::from(1.7f32))),
    );
}

#[test]
fn frozen_head_and_likelihood() {
    let mut random = Random(23);
    let (x, w) = (random.var(4, 64), packed_weight(9));
    let (targets, shares) = ([8, 0, 3, 3], [-0.5, 0.0, -0.3, -0.2]);
    check_gradients(
        "frozen_likelihood",
        &[&x],
        |t| frozen_likelihood(&context(), &t[0], &w, &targets, &shares).unwrap(),
        |m| {
            let log_probs = m[0].linear(&decoded(&w)).log_softmax().gather(&targets);
            let sum = log_probs.v.iter().zip(&shares).map(|(l, s)| l * f64::from(*s)).sum();
            Matrix::new(1, 1, vec![sum])
        },
    );
}

#[test]
fn gradients_of_weights_beside_the_tape() {
    let mut random = Random(29);
    let (x, w, sum) = (random.var(4, 11), random.var(9, 11), GradientSum::default());
    let both = [&x, &w];
    check_gradients_and_sums(
        "linear_into",
        &both,
        &[None, Some(&sum)],
        |t| linear_into(&context(), &t[0], &t[1], &sum).unwrap(),
        |m| m[0].linear(&m[1]),
    );
    check_gradients_and_sums(
        "select_rows_into",
        &[&w],
        &[Some(&sum)],
        |t| select_rows_into(&context(), &t[0], &[3, 0, 3, 8], &sum).unwrap(),
        |m| m[0].select(&[3, 0, 3, 8]),
    );
    let (targets, shares) = ([8, 0, 3, 3], [-0.5, 0.0, -0.3, -0.2]);
    check_gradients_and_sums(
        "likelihood_into",
        &both,
        &[None, Some(&sum)],
        |t| likelihood_into(&context(), &t[0], &t[1], &sum, &targets, &shares).unwrap(),
        |m| {
            let log_probs = m[0].linear(&m[1]).log_softmax().gather(&targets);
            let sum = log_probs.v.iter().zip(&shares).map(|(l, s)| l * f64::from(*s)).sum();
            Matrix::new(1, 1, vec![sum])
        },
    );
    // A table that is looked up in and multiplied with: what both add is one sum.
    check_gradients_and_sums(
        "a tied table",
        &[&w],
        &[Some(&sum)],
        |t| {
            let rows = select_rows_into(&context(), &t[0], &[3, 0, 3, 8], &sum).unwrap();
            likelihood_into(&context(), &rows, &t[0], &sum, &targets, &shares).unwrap()
        },
        |m| {
            let log_probs = m[0].select(&[3, 0, 3, 8]).linear(&m[0]).log_softmax().gather(&targets);
            let sum = log_probs.v.iter().zip(&shares).map(|(l, s)| l * f64::from(*s)).sum();
            Matrix::new(1, 1, vec![sum])
        },
    );
}

#[test]
fn a_tensor_is_changed_where_it_lies() {
    let w = Random(30).var(3, 4);
    let before = matrix(&w).v;
    let first = in_place(&w, |values| {
        values.iter_mut().for_each(|v| *v += 1.0);
        values[0]
    });
    assert_eq!(f64::from(first.unwrap()), matrix(&w).v[0]);
    assert!(matrix(&w).v.iter().zip(&before).all(|(now, was)| (now - was - 1.0).abs() < 1e-6));
}

#[test]
fn scaled_sum() {
    let mut random = Random(15);
    let (x, y) = (random.var(3, 11), random.var(3, 11));
    for factor in [1.0, -0.7] {
        check_gradients(
            "add_scaled",
            &[&x, &y],
            |t| add_scaled(&context(), &t[0], factor, &t[1]).unwrap(),
            |m| m[0].add(&m[1].scaled(f64::from(factor))),
        );
    }
    // The same tensor twice.
    check_gradients("x + x", &[&x], |t| add_scaled(&context(), &t[0], 1.0, &t[0]).unwrap(), |m| m[0].scaled(2.0));
}

#[test]
fn gradients_that_came_by_the_tape_are_added_up() {
    let x = Random(24).constant(3, 5);
    let sum = GradientSum::default();
    for factor in [0.5, -0.25] {
        sum.add(&context(), &x.affine(factor, 0.0).unwrap()).unwrap();
    }
    // Halves and quarters of a number are exact.
    let want: Vec<f32> = matrix(&x).v.iter().map(|v| (0.25 * v) as f32).collect();
    assert_eq!(sum.take(), want);
    assert!(sum.take().is_empty());
    sum.add(&context(), &x.t().unwrap()).unwrap();
    let error = sum.add(&context(), &Random(25).constant(2, 2)).unwrap_err();
    assert!(error.to_string().contains("4 numbers cannot be added to 15"), "{error}");
    assert_eq!(sum.take(), x.t().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap());
}

#[test]
fn rows_by_number() {
    let mut random = Random(7);
    let (x, part) = (random.var(6, 5), random.var(2, 5));
    check_gradients(
        "select_rows",
        &[&x],
        |t| select_rows(&context(), &t[0], &[3, 0, 3, 5]).unwrap(),
        |m| m[0].select(&[3, 0, 3, 5]),
    );
    check_gradients(
        "replace_rows",
        &[&x, &part],
        |t| replace_rows(&t[0], &t[1], &[4, 1]).unwrap(),
        |m| m[0].replace(&m[1], &[4, 1]),
    );
    let table = packed_weight(9);
    let rows = embed_frozen(&context(), &table, &[8, 0, 8]).unwrap();
    assert_eq!(matrix(&rows).v, decoded(&table).select(&[8, 0, 8]).v);
}

#[test]
fn log_softmax_and_gather() {
    let x = Random(8).var(3, 13);
    check_gradients("log_softmax", &[&x], |t| log_softmax(&context(), &t[0]).unwrap(), |m| m[0].log_softmax());
    check_gradients("gather", &[&x], |t| gather(&t[0], &[12, 0, 4]).unwrap(), |m| m[0].gather(&[12, 0, 4]));
}

#[test]
fn losses() {
    let x = Random(9).var(3, 13);
    let (targets, weights) = ([12, 0, 4], [1.0, 0.0, 0.25]);
    let one = |v: f64| Matrix::new(1, 1, vec![v]);
    check_gradients(
        "log_prob_of",
        &[&x],
        |t| log_prob_of(&context(), &t[0], &targets).unwrap(),
        |m| m[0].log_softmax().gather(&targets),
    );
    check_gradients(
        "cross_entropy",
        &[&x],
        |t| cross_entropy(&context(), &t[0], &targets, &weights).unwrap(),
        |m| one(m[0].cross_entropy(&targets, &weights)),
    );
    let mut teacher = Random(10).constant(3, 13).flatten_all().unwrap().to_vec1::<f32>().unwrap();
    teacher[5] = f32::NEG_INFINITY;
    let teacher = Matrix::new(3, 13, teacher.into_iter().map(f64::from).collect()).log_softmax();
    let teacher: Vec<f32> = teacher.v.iter().map(|&v| v as f32).collect();
    check_gradients("kl", &[&x], |t| kl(&context(), &t[0], &teacher).unwrap(), |m| one(m[0].kl(&teacher)));
}

#[test]
fn inner_product_with_a_given_gradient() {
    let mut random = Random(13);
    let (x, g) = (random.var(3, 5), random.constant(3, 5));
    let twin = |m: &[Matrix]| {
        let sum = m[0].v.iter().zip(&matrix(&g).v).map(|(x, g)| x * g).sum();
        Matrix::new(1, 1, vec![sum])
    };
    check_gradients("inner_product", &[&x], |t| inner_product(&t[0], &g).unwrap(), twin);
    let gradients = inner_product(&x, &g).unwrap().backward().unwrap();
    assert_eq!(matrix(gradients.get(&x).unwrap()).v, matrix(&g).v);
}

#[test]
fn a_number_for_each_column() {
    let mut random = Random(14);
    let (x, row) = (random.var(4, 6), random.var(1, 6));
    let by_column = |m: &[Matrix], f: fn(f64, f64) -> f64| {
        let v = m[0].v.iter().enumerate().map(|(i, &x)| f(x, m[1].v[i % 6])).collect();
        Matrix::new(4, 6, v)
    };
    check_gradients(
        "scale_columns",
        &[&x, &row],
        |t| scale_columns(&t[0], &t[1]).unwrap(),
        |m| by_column(m, |x, r| x * r),
    );
    check_gradients("add_columns", &[&x, &row], |t| add_columns(&t[0], &t[1]).unwrap(), |m| by_column(m, |x, r| x + r));
}

#[test]
fn strided_and_offset_inputs_give_the_same_gradient() {
    let mut random = Random(11);
    // x is columns 2..6 of the transpose of a variable; w rows 1..4 of another.
    let (wide, tall) = (random.var(9, 5), random.var(6, 4));
    let twin_x = |m: &Matrix| {
        Matrix::new(5, 4, (0..5).flat_map(|i| (2..6).map(move |j| (i, j))).map(|(i, j)| m.row(j)[i]).collect())
    };
    check_gradients(
        "linear of views",
        &[&wide, &tall],
        |t| {
            let x = t[0].t().unwrap().narrow(1, 2, 4).unwrap();
            let w = t[1].narrow(0, 1, 3).unwrap();
            linear(&context(), &x, &w).unwrap()
        },
        |m| twin_x(&m[0]).linear(&m[1].select(&[1, 2, 3])),
    );
    // A gradient that arrives transposed.
    check_gradients(
        "a transposed result",
        &[&wide],
        |t| {
            let frozen = Weight::from_f32(&[0.5; 5], 1, 5).unwrap();
            rms_norm_frozen(&context(), &t[0], &frozen, 1e-5).unwrap().t().unwrap()
        },
        |m| {
            let y = m[0].rms_norm(&Matrix::new(1, 5, vec![0.5; 5]), f64::from(1e-5f32));
            Matrix::new(5, 9, (0..5).flat_map(|i| (0..9).map(move |j| (i, j))).map(|(i, j)| y.row(j)[i]).collect())
        },
    );
}

#[test]
fn nothing_is_computed_for_what_is_not_trained() {
    let mut random = Random(12);
    let (x, w) = (random.constant(3, 8), random.var(4, 8));
    let loss = linear(&context(), &x, &w).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    assert!(gradients.get(&w).is_some());
    assert!(gradients.get(&x).is_none());
    let frozen = packed_weight(3);
    let y = frozen_linear(&context(), &random.constant(2, 64), &frozen).unwrap();
    assert!(!y.track_op(), "a frozen stretch leaves no tape");
}

#[test]
fn what_does_not_fit_is_refused_with_its_numbers() {
    let context = context();
    let zeros = |rows: usize, cols: usize| Tensor::zeros((rows, cols), candle_core::DType::F32, &Device::Cpu).unwrap();
    let spec = Dense { heads: 2, kv_heads: 1, head_dim: 4, scale: 1.0, softcap: None, bias: None };
    let whole = |n: usize| vec![DenseSpan::whole(Mask::Causal, 0..n)];
    let double = Tensor::zeros((2, 8), candle_core::DType::F64, &Device::Cpu).unwrap();
    let table = Arc::new(RopeTable::new(&[0, 1], &[1.0, 0.1], 1.0));
    let refused: [(&str, Result<Tensor>); 19] = [
        ("x has 5 columns, the weight 8", linear(&context, &zeros(2, 5), &zeros(3, 8))),
        ("x has 5 columns, the weight 64", frozen_linear(&context, &zeros(2, 5), &packed_weight(1))),
        ("not F32", linear(&context, &double, &zeros(3, 8))),
        ("not [rows, width]", log_softmax(&context, &zeros(1, 4).flatten_all().unwrap())),
        ("x has 5 columns, the weight is [1, 4]", rms_norm(&context, &zeros(2, 5), &zeros(1, 4), 1e-5)),
        ("x has 3 rows, the table 2", rope(&context, &zeros(3, 8), RopeLayout::Halves, &table, 4)),
        ("9 columns in heads of 4", rope(&context, &zeros(2, 9), RopeLayout::Halves, &table, 4)),
        ("gate is [2, 3], up [2, 4]", act_mul(&context, Activation::Silu, &zeros(2, 3), &zeros(2, 4))),
        ("[2, 3] and [2, 4] cannot be added", add_scaled(&context, &zeros(2, 3), 1.0, &zeros(2, 4))),
        ("q is [2, 8]", attention(&context, &spec, &whole(2), &zeros(2, 8), &zeros(2, 8), &zeros(2, 8))),
        ("the spans end at row 3", attention(&context, &spec, &whole(3), &zeros(2, 8), &zeros(2, 4), &zeros(2, 4))),
        ("index 9 is outside a table of 9", embed_frozen(&context, &packed_weight(9), &[9])),
        ("index 2 is outside a tensor of 2", select_rows(&context, &zeros(2, 2), &[2])),
        ("row 1 is replaced twice", replace_rows(&zeros(3, 2), &zeros(2, 2), &[1, 1])),
        ("index 4 is outside a row of 4", gather(&zeros(1, 4), &[4])),
        ("sum to 0", cross_entropy(&context, &zeros(2, 4), &[0, 1], &[0.0, 0.0])),
        ("the row is [1, 3], not [1, 4]", scale_columns(&zeros(2, 4), &zeros(1, 3))),
        ("x is [2, 4], the gradient [4, 2]", inner_product(&zeros(2, 4), &zeros(4, 2))),
        ("7 log-probabilities", kl(&context, &zeros(2, 4), &[0.0; 7])),
    ];
    for (words, outcome) in refused {
        let message = outcome.expect_err(words).to_string();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
}
