//! I.6.4: shapes of heads, a causal mask, and gradients through 96 layers.

use porism_kernels::attention::Mask;
use porism_kernels::attention::dense::{Dense, DenseSpan};
use porism_ops::{attention, linear};
use porism_report::plot::{Axis, Plot, Series};

use crate::number::show;
use crate::random::Random;
use crate::residual::{Branch, Stack, gradient_lengths};
use crate::solution::Step;
use crate::tape::{constant, context, largest_difference, numbers};
use crate::vector::dot;
use crate::{Error, Exercise, Result, Setting, Settings, Solution};

pub(crate) static EXERCISE: Exercise = Exercise {
    section: "I.6.4",
    chapter: "Part I, Attention & Transformers",
    title: "Transformers: heads, the causal mask, residual gradients",
    settings: &[
        Setting::whole("width", "features of the residual stream, d", 256.0, 1.0, 1024.0),
        Setting::whole("heads", "attention heads, h", 4.0, 1.0, 64.0),
        Setting::whole("tokens", "length of the sequence", 4.0, 1.0, 8.0),
        Setting::whole("layers", "layers of the stack in (c)", 96.0, 1.0, 200.0),
        Setting::real("gain", "how much longer a layer's matrix makes a vector", 0.5, 0.05, 2.0),
        Setting::whole("seed", "of all random numbers", 1.0, 0.0, 1e6),
    ],
    solve,
};

/// Features of the stack in (c).
const STACK_WIDTH: usize = 64;

fn solve(settings: &Settings) -> Result<Solution> {
    let (width, heads, tokens) = (settings.count("width"), settings.count("heads"), settings.count("tokens"));
    let (layers, gain, seed) = (settings.count("layers"), settings.get("gain"), settings.count("seed") as u64);
    if !width.is_multiple_of(heads) {
        let near = (1..=heads).rev().find(|h| width.is_multiple_of(*h)).unwrap_or(1);
        return Err(Error::Together(format!(
            "{heads} heads do not divide a width of {width}: set heads={near}, or a width that {heads} divides"
        )));
    }
    let lengths =
        |branch: Branch, identity: bool| gradient_lengths(Stack { layers, width: STACK_WIDTH, branch, identity }, seed);
    let network = Branch::Network { gain };
    let (with, without) = (lengths(network, true)?, lengths(network, false)?);
    let halved = lengths(Branch::Scale(-0.5), true)?;
    // A logarithmic axis has no zero.
    let series = |name: &str, lengths: &[f64]| {
        let above = lengths.iter().enumerate().take_while(|(_, l)| **l > 1e-300);
        Series::line(name, above.map(|(i, &l)| [i as f64, l]).collect())
    };
    let figure = Plot::new(
        format!("The gradient through {layers} layers"),
        Axis::linear("layers from the output"),
        Axis::log("length of the gradient, output: 1"),
    )
    .with(series("with the identity path", &with))
    .with(series("without", &without))
    .with(series("with it, a layer adding -x/2", &halved));
    let mut solution = Solution::new(figure);

    let head = width / heads;
    let part = solution.part(format!("With a width of {width} and {heads} heads, what are the sizes of a head?"));
    part.number("d_k", "features of a head, d_k = d_v = d / h", format!("{width} / {heads}"), head as f64);
    let shape = format!("{width} x {head}");
    part.add(Step::numbers("shape", "W_Q, W_K and W_V of a head", "", &[width as f64, head as f64]).shown(shape));
    part.number(
        "parameters",
        "parameters of all three, all heads",
        format!("3 x {heads} x {width} x {head}"),
        (3 * width * width) as f64,
    );

    let part =
        solution.part(format!("What is the causal mask of {tokens} tokens, and what are the rows after the softmax?"));
    let weights = attention_rows(width, heads, tokens, seed)?;
    for row in 0..tokens {
        let mask: Vec<String> = (0..tokens).map(|j| if j <= row { "0" } else { "-inf" }.to_string()).collect();
        let mask = format!("[{}]", mask.join(", "));
        let shown: Vec<String> = weights.by_kernel[row].iter().map(|w| format!("{w:.3}")).collect();
        let step = Step::numbers(
            &format!("row{row}"),
            format!("row {row}, head 0"),
            format!("softmax(q . k / sqrt({head}) + {mask})"),
            &weights.by_kernel[row],
        );
        part.add(step.shown(format!("[{}]", shown.join(", "))));
    }
    let sums: Vec<f64> = weights.by_kernel.iter().map(|row| row.iter().sum()).collect();
    part.add(
        Step::numbers("sums", "sums of the rows", "", &sums)
            .shown(sums.iter().map(|s| format!("{s:.4}")).collect::<Vec<_>>().join(", ")),
    );
    let off = largest_difference(&weights.by_kernel.concat(), &weights.by_hand.concat());
    part.number(
        "attention_difference",
        "differs from scores, mask, softmax in f64 by",
        "our tiles have no mask: bounds of loops",
        off,
    );
    part.remark("Row i is a distribution over the positions 0 to i; what comes later has exactly no weight.");

    let part = solution.part(format!("What do residual connections do for the gradient through {layers} layers?"));
    let formula = format!("x + tanh(W x), gain {}", show(gain));
    part.number("with_identity", "length at the first layer, with identity", formula, with[layers]);
    part.number(
        "without_identity",
        "the same without",
        format!("tanh(W x), about {}^{layers}", show(gain)),
        without[layers],
    );
    let per_layer = |end: f64| end.powf(1.0 / layers as f64);
    part.number("with_per_layer", "factor a layer, with", "", per_layer(with[layers]));
    part.number("without_per_layer", "factor a layer, without", "", per_layer(without[layers]));
    part.remark("The derivative of x + f(x) is I + f'(x): the gradient reaches every layer also along I alone.");

    let steps = vec![
        Step::number(
            "halved",
            format!("the same, {layers} layers of x - x/2"),
            format!("0.5^{layers}"),
            halved[layers],
        ),
        Step::number("halved_layer", "through one of them", "1 - 0.5", halved[1]),
    ];
    let right = "The identity adds 1, but the sum can be anything: a layer that takes away half of its input has f' = \
                 -0.5, and the gradient halves although the path is there. What saves real stacks is that f' is small \
                 or of changing sign. And without the path it is gain and depth that decide: set gain=1.5 to see the \
                 gradient live.";
    solution.erratum("the identity \"guarantees a gradient of at least 1\"", right, steps);
    Ok(solution)
}

/// The weights of the first head's attention: a row a token.
struct Rows {
    by_kernel: Vec<Vec<f64>>,
    by_hand: Vec<Vec<f64>>,
}

/// Attention of random tokens under random projections. Our kernel gives no weights away, but with the unit vectors as
/// values its output is them.
fn attention_rows(width: usize, heads: usize, tokens: usize, seed: u64) -> Result<Rows> {
    let (context, head) = (context(), width / heads);
    let mut random = Random::new(seed);
    let mut matrix = |rows: usize, cols: usize, size: f64| {
        let values: Vec<f64> = (0..rows * cols).map(|_| size * random.normal()).collect();
        constant(rows, &values)
    };
    let x = matrix(tokens, width, 1.0)?;
    let size = 1.0 / (width as f64).sqrt();
    let q = linear(&context, &x, &matrix(head, width, size)?)?;
    let k = linear(&context, &x, &matrix(head, width, size)?)?;
    // Heads of few features: as many values at a time as there are.
    let mut by_kernel = vec![vec![0.0; tokens]; tokens];
    let spec =
        Dense { heads: 1, kv_heads: 1, head_dim: head, scale: 1.0 / (head as f32).sqrt(), softcap: None, bias: None };
    for from in (0..tokens).step_by(head) {
        let unit = |row: usize, col: usize| if from + col == row { 1.0 } else { 0.0 };
        let values: Vec<f64> = (0..tokens).flat_map(|row| (0..head).map(move |col| unit(row, col))).collect();
        let spans = [DenseSpan::whole(Mask::Causal, 0..tokens)];
        let out = numbers(&attention(&context, &spec, &spans, &q, &k, &constant(tokens, &values)?)?)?;
        for (row, out) in out.chunks(head).enumerate() {
            for (col, weight) in out.iter().enumerate().take(tokens - from) {
                by_kernel[row][from + col] = *weight;
            }
        }
    }
    let (q, k) = (numbers(&q)?, numbers(&k)?);
    let by_hand = (0..tokens).map(|i| {
        let scores: Vec<f64> = (0..tokens)
            .map(|j| {
                let mask = if j <= i { 0.0 } else { f64::NEG_INFINITY };
                dot(&q[i * head..(i + 1) * head], &k[j * head..(j + 1) * head]) / (head as f64).sqrt() + mask
            })
            .collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
        scores.iter().map(|s| (s - top).exp() / sum).collect()
    });
    Ok(Rows { by_kernel, by_hand: by_hand.collect() })
}
