//! The Book's figures, drawn by commands or from what the program computes; what is measured comes from `book/figures`.
//!
//! `PORISM_DRAW_FIGURES=1 cargo test -p porism --test handbook figures` draws them anew. Without that the pictures in
//! `book/src/figures` have to be these.

use std::error::Error;
use std::process::Command;

use porism_kernels::BlockType;
use porism_kernels::block::{dequantize, quantize};
use porism_models::rope::{RopeScaling, RopeSpec, Yarn};
use porism_plan::attention::{self, Attention};
use porism_plan::cache::KvType;
use porism_plan::serve::{self, Serving};
use porism_plan::{Machine, presets};
use porism_report::plot::{Axis, Plot, Series};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::root;

type Drawn = Result<Plot, Box<dyn Error>>;

/// A figure's name and what draws it.
type Figure = (&'static str, fn() -> Drawn);

const FIGURES: &[Figure] = &[
    ("attention-bytes", attention_bytes),
    ("rope-frequencies", rope_frequencies),
    ("long-context", long_context),
    ("outliers", outliers),
    ("batches", batches),
];

/// The matrix of scores and what tiles need instead, against the length.
fn attention_bytes() -> Drawn {
    let model = presets::find("llama-7b")?;
    let lengths: Vec<u64> = (10..=17).map(|power| 1 << power).collect();
    let series = |name: &str, keys: &[&str]| -> Result<Series, Box<dyn Error>> {
        let mut points = Vec::new();
        for &n in &lengths {
            let answer = attention::answer(&Attention::of(&model, n))?;
            let bytes = keys.iter().map(|key| answer.find(key).expect("a line").value.real()).sum();
            points.push([n as f64, bytes]);
        }
        Ok(Series::trace(name, points))
    };
    let plot = Plot::new("Attention of one layer, 32 heads of 128", Axis::log("tokens"), Axis::log("bytes"));
    Ok(plot
        .with(series("all matrices of scores, f16", &["layer_matrix_f16"])?)
        .with(series("in tiles: a tile, and the output of all rows", &["tile_bytes", "tile_state"])?))
}

/// What each way of stretching leaves of RoPE's frequencies.
fn rope_frequencies() -> Drawn {
    let (factor, original, rotary_dim) = (4.0, 8192, 64);
    let frequencies = |scaling| RopeSpec { theta: 1e5, rotary_dim, scaling }.frequencies(original).0;
    let plain = frequencies(RopeScaling::None);
    let series = |name: &str, scaling| {
        let shares = frequencies(scaling).into_iter().zip(&plain).map(|(f, plain)| f / plain);
        Series::trace(name, shares.enumerate().map(|(pair, share)| [pair as f64, f64::from(share)]).collect())
    };
    let plot = Plot::new(
        "Stretching RoPE by 4: SmolLM2, trained for 8,192 tokens",
        Axis::linear("pair of features, the fastest first"),
        Axis::linear("speed, of the speed in training"),
    );
    Ok(plot
        .with(series("linear", RopeScaling::Linear { factor }))
        .with(series("NTK-aware", RopeScaling::Ntk { factor }))
        .with(series("YaRN", RopeScaling::Yarn(Yarn::new(factor, original)))))
}

/// Perplexity against length as `porism measure long-context` measured it.
fn long_context() -> Drawn {
    let table = std::fs::read_to_string(root().join("book/figures/long-context.csv"))?;
    let (head, rows) = table.split_once('\n').ok_or("an empty table")?;
    let column = |name: &str| head.split(',').position(|cell| cell == name).ok_or(format!("no column {name}"));
    let (scaling, length, tail) = (column("rope_scaling")?, column("length")?, column("tail_perplexity")?);
    let mut series: Vec<Series> = Vec::new();
    for row in rows.lines() {
        let cells: Vec<&str> = row.split(',').collect();
        let name = match cells[scaling] {
            "ntk" => "NTK-aware",
            "yarn" => "YaRN",
            other => other,
        };
        if series.last().is_none_or(|last| last.name != name) {
            series.push(Series::trace(name, Vec::new()));
        }
        series.last_mut().expect("a series").points.push([cells[length].parse()?, cells[tail].parse()?]);
    }
    let mut plot = Plot::new(
        "SmolLM2-135M on WikiText-2, RoPE stretched by 2",
        Axis::linear("tokens in one window"),
        Axis::log("perplexity of the last 1,024"),
    );
    plot.series = series;
    Ok(plot)
}

/// The error of ordinary weights beside one outlier, with one scale for a row and with a scale for each block.
fn outliers() -> Drawn {
    const ROW: usize = 576;
    const OUTLIER: usize = 100;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    // Twelve uniform numbers, less six: near enough to a normal distribution, and the same bits everywhere.
    let row: Vec<f32> = (0..ROW).map(|_| (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0).collect();
    let by_row = |weights: &[f32]| {
        let scale = weights.iter().fold(0.0f32, |most, w| most.max(w.abs())) / 7.0;
        weights.iter().map(|w| (w / scale).round() * scale).collect()
    };
    let by_block = |block: BlockType, weights: &[f32]| {
        let (mut bytes, mut decoded) = (Vec::new(), vec![0.0; ROW]);
        quantize(block, weights, &mut bytes).expect("whole blocks of finite weights");
        dequantize(block, &bytes, &mut decoded);
        decoded
    };
    let series = |name: &str, round: &dyn Fn(&[f32]) -> Vec<f32>| {
        let sizes = (2..=24).map(|step| 2f32.powf(step as f32 / 4.0));
        let error = |size: f32| {
            let mut weights = row.clone();
            weights[OUTLIER] = size;
            let others = round(&weights).into_iter().zip(weights).enumerate().filter(|(i, _)| *i != OUTLIER);
            let squares: f64 = others.map(|(_, (a, b))| f64::from(a - b).powi(2)).sum();
            (squares / (ROW - 1) as f64).sqrt()
        };
        Series::trace(name, sizes.map(|size| [f64::from(size), error(size)]).collect())
    };
    let plot = Plot::new(
        "A row of 576 weights with one outlier",
        Axis::log("size of the outlier, in standard deviations of the others"),
        Axis::log("error of the others, root mean square"),
    );
    Ok(plot
        .with(series("4 bits, one scale for the row", &by_row))
        .with(series("Q4_0", &|weights| by_block(BlockType::Q4_0, weights)))
        .with(series("Q4_1", &|weights| by_block(BlockType::Q4_1, weights)))
        .with(series("Q8_0", &|weights| by_block(BlockType::Q8_0, weights))))
}

/// The two bounds on generation against the number of sequences.
fn batches() -> Drawn {
    let model = presets::find("llama-7b")?;
    let weight_bytes = serve::bytes_read(&model, 4.5)?;
    let machine = Machine { bandwidth: Some(40_000_000_000), flops: Some(900_000_000_000), ..Machine::default() };
    let mut bounds = [Vec::new(), Vec::new()];
    for batch in (0..=7).map(|power| 1u64 << power) {
        let serving = Serving {
            weight_bytes,
            held_bytes: weight_bytes,
            tokens: 256,
            prompt: 256,
            batch,
            kv: KvType::F16,
            machine,
        };
        let answer = serve::answer(&model, &serving)?;
        for (points, key) in bounds.iter_mut().zip(["by_bandwidth", "by_flops"]) {
            points.push([batch as f64, answer.find(key).expect("a line").value.real()]);
        }
    }
    let [reading, computing] = bounds;
    let plot = Plot::new(
        "LLaMA-7B in Q4_K, 256 tokens each; 40 GB/s and 900 Gop/s",
        Axis::log("sequences at a time"),
        Axis::log("tokens a second, at most"),
    );
    Ok(plot.with(Series::trace("by reading", reading)).with(Series::trace("by computing", computing).dashed()))
}

/// Figures that a command draws: its arguments, to which `--svg FILE` is added.
const BY_COMMAND: &[(&str, &[&str])] = &[
    ("descent", &["book", "I.1.3", "--set", "lr=1.05"]),
    ("residuals", &["book", "I.6.4"]),
    ("policy", &["book", "I.7.4"]),
    ("sixteen-bits", &["book", "III.IV"]),
];

/// What a command draws.
fn by_command(args: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("figure.svg");
    let mut command = Command::new(env!("CARGO_BIN_EXE_porism"));
    let out = command.args(args).arg("--svg").arg(&file).env("PORISM_HOME", folder.path()).output();
    let out = out.expect("the binary runs");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    std::fs::read_to_string(file).expect("a figure")
}

#[test]
fn figures_are_what_the_program_draws() {
    let by_code = FIGURES.iter().map(|(name, figure)| {
        let svg = figure().and_then(|plot| Ok(plot.svg()?));
        (*name, svg.unwrap_or_else(|e| panic!("{name}: {e}")))
    });
    let drawn = by_code.chain(BY_COMMAND.iter().map(|(name, args)| (*name, by_command(args))));
    let draw_anew = std::env::var_os("PORISM_DRAW_FIGURES").is_some();
    let mut stale = Vec::new();
    for (name, svg) in drawn {
        let path = root().join("book/src/figures").join(name).with_extension("svg");
        if draw_anew {
            std::fs::write(&path, &svg).expect("a figure");
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != svg {
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "{stale:?} are not what is drawn now: PORISM_DRAW_FIGURES=1 draws them anew");
}
