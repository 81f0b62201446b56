//! III.I: what attention over a long text costs, and what tiles and windows save.

use porism_kernels::attention::Mask;
use porism_kernels::attention::dense::{Dense, DenseSpan};
use porism_ops::attention as tiled;
use porism_plan::attention::{Attention, answer as plan};
use porism_report::plot::{Axis, Plot, Series};

use super::planned::planned;
use crate::number::show;
use crate::random::Random;
use crate::solution::Step;
use crate::tape::{constant, context, largest_difference, numbers};
use crate::vector::dot;
use crate::{Exercise, Result, Setting, Settings, Solution};

pub(crate) static EXERCISE: Exercise = Exercise {
    section: "III.I",
    chapter: "Part III, Efficient Attention",
    title: "Efficient attention: operations, bytes, windows, tiles",
    settings: &[
        Setting::whole("tokens", "length of the text, n", 32_768.0, 1.0, 16_777_216.0),
        Setting::whole("head_dim", "features of a head, d_k", 128.0, 1.0, 4096.0),
        Setting::whole("heads", "heads", 32.0, 1.0, 1024.0),
        Setting::whole("window", "positions that a token sees, W", 4096.0, 1.0, 16_777_216.0),
        Setting::whole("layers", "layers", 32.0, 1.0, 1000.0),
    ],
    solve,
};

fn question(settings: &Settings, tokens: u64) -> Attention {
    let heads = settings.count("heads") as u64;
    let layers = settings.count("layers") as u64;
    Attention {
        tokens,
        heads,
        kv_heads: heads,
        head_dim: settings.count("head_dim") as u64,
        layers,
        window: Some(settings.count("window") as u64),
        windowed_layers: layers,
        image: None,
        name: "the exercise".into(),
    }
}

fn solve(settings: &Settings) -> Result<Solution> {
    let tokens = settings.count("tokens") as u64;
    let answer = plan(&question(settings, tokens))?;
    let mut solution = Solution::new(figure(settings)?);
    solution
        .part(format!(
            "How many operations does Q K^T take for {} tokens, and how many bytes the matrix in f16?",
            show(tokens as f64)
        ))
        .plan(
            &answer,
            &[
                ("qk_flops", "Q K^T of a head"),
                ("matrix_f16", "the matrix of a head, f16"),
                ("layer_matrix_f16", "of all heads of a layer"),
            ],
        )?;
    solution
        .part("What share of that does a sliding window leave?")
        .plan(&answer, &[("window_share", "W / n of all pairs"), ("receptive_field", "seen through all layers")])?;

    let part = solution.part("Why does FlashAttention save memory and no operations?");
    part.plan(
        &answer,
        &[
            ("flops", "both products, all heads and layers"),
            ("tile_bytes", "scores in memory at a time"),
            ("tile_share", ""),
        ],
    )?;
    let off = exactness()?;
    part.number("tile_difference", "tiles differ from the whole matrix by", "512 tokens, f32 beside f64", off);
    part.remark(
        "Tiles compute every product of the whole matrix; they only never write it down. What is saved is traffic \
         between memory and cache. On the way back they compute the scores once more.",
    );

    if (settings.count("window") as u64) < tokens {
        let window = Step {
            key: "causal_share_of_window".into(),
            ..planned(&answer, "window_causal_share", "of the pairs that a causal model has")?
        };
        let right = "W / n holds against all n^2 pairs. A causal model has only about half of these, and a window \
                     saves less of them: rows before W see no fewer.";
        solution.erratum("a window costs W / n \"of the full attention cost\"", right, vec![window]);
    }
    Ok(solution)
}

/// The largest difference between our tiles and the whole matrix in f64.
fn exactness() -> Result<f64> {
    const TOKENS: usize = 512;
    const HEAD: usize = 32;
    let mut random = Random::new(1);
    let mut draw = || (0..TOKENS * HEAD).map(|_| f64::from(random.normal() as f32)).collect::<Vec<f64>>();
    let (q, k, v) = (draw(), draw(), draw());
    let scale = 1.0 / (HEAD as f64).sqrt();
    let spec = Dense { heads: 1, kv_heads: 1, head_dim: HEAD, scale: scale as f32, softcap: None, bias: None };
    let spans = [DenseSpan::whole(Mask::Causal, 0..TOKENS)];
    let [tq, tk, tv] = [constant(TOKENS, &q)?, constant(TOKENS, &k)?, constant(TOKENS, &v)?];
    let out = numbers(&tiled(&context(), &spec, &spans, &tq, &tk, &tv)?)?;
    let row = |m: &[f64], i: usize| m[i * HEAD..(i + 1) * HEAD].to_vec();
    let mut whole = Vec::with_capacity(TOKENS * HEAD);
    for i in 0..TOKENS {
        let query = row(&q, i);
        let scores: Vec<f64> = (0..=i).map(|j| scale * dot(&query, &k[j * HEAD..(j + 1) * HEAD])).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut sums = vec![0.0; HEAD];
        for (j, weight) in weights.iter().enumerate() {
            sums.iter_mut().zip(&v[j * HEAD..(j + 1) * HEAD]).for_each(|(s, v)| *s += weight * v / sum);
        }
        whole.extend(sums);
    }
    Ok(largest_difference(&out, &whole))
}

fn figure(settings: &Settings) -> Result<Plot> {
    let lengths: Vec<u64> = (8..=20).map(|i| 1u64 << i).collect();
    let mut columns = [const { Vec::new() }; 3];
    for &n in &lengths {
        let answer = plan(&question(settings, n))?;
        let value = |key: &str| Ok::<_, crate::Error>(planned(&answer, key, "")?.value);
        let window = (settings.count("window") as u64).min(n);
        let matrix = value("matrix_f16")?;
        let tile = value("tile_bytes")?;
        for (column, value) in
            columns.iter_mut().zip([number(&matrix), number(&matrix) * window as f64 / n as f64, number(&tile)])
        {
            column.push([n as f64, value]);
        }
    }
    let [matrix, window, tile] = columns;
    Ok(Plot::new("Scores of one head in memory", Axis::log("tokens"), Axis::log("bytes"))
        .with(Series::line("the whole matrix, f16", matrix))
        .with(Series::line("those inside the window, f16", window))
        .with(Series::line("a tile, f32", tile)))
}

fn number(value: &crate::Value) -> f64 {
    match value {
        crate::Value::Number(x) => *x,
        crate::Value::Numbers(xs) => xs.first().copied().unwrap_or(f64::NAN),
    }
}
