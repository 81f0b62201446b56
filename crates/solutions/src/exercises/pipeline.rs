//! III.IV: parameters, steps and days of training, and numbers of 16 bits.

use half::{bf16, f16};
use porism_plan::parameters::answer as model;
use porism_plan::train::{Training, answer as train};
use porism_plan::units::count;
use porism_plan::{GivenDimensions, parameters, presets};
use porism_report::plot::{Axis, Plot, Series};

use super::planned::planned;
use crate::number::{percent, show};
use crate::solution::Step;
use crate::{Exercise, Result, Setting, Settings, Solution};

pub(crate) static EXERCISE: Exercise = Exercise {
    section: "III.IV",
    chapter: "Part III, LLM Training Pipeline",
    title: "The training pipeline: parameters, steps, 16-bit numbers",
    settings: &[
        Setting::whole("layers", "layers, L", 32.0, 1.0, 1000.0),
        Setting::whole("width", "features of the residual stream, d", 4096.0, 64.0, 65_536.0),
        Setting::real("tokens", "tokens to learn from", 2e12, 1.0, 1e15),
        Setting::real("batch", "tokens of a step", 4e6, 1.0, 1e12),
        Setting::whole("devices", "devices", 1024.0, 1.0, 1e6),
        Setting::real("flops", "operations a second of a device", 312e12, 1e6, 1e18),
        Setting::real("utilization", "the share of these that is used", 0.4, 0.001, 1.0),
        Setting::real("gradient", "a gradient to write in 16 bits", 1e-8, -1e30, 1e30),
    ],
    solve,
};

/// Seconds.
const DAY: f64 = 86_400.0;

fn solve(settings: &Settings) -> Result<Solution> {
    let (layers, width) = (settings.count("layers") as u64, settings.count("width") as u64);
    let mut solution = Solution::new(figure());

    // Heads have no part in the count: one of the whole width.
    let given =
        GivenDimensions { layers: Some(layers), width: Some(width), heads: Some(1), ..GivenDimensions::default() };
    let llama = presets::find("llama-7b")?;
    let estimate = model(&given.alone()?, &[])?;
    let part =
        solution.part(format!("About how many parameters has a model of {layers} layers and a width of {width}?"));
    part.plan(&estimate, &[("estimate", "12 L d^2")])?;
    let truth = parameters::total(&llama)?;
    part.add(
        Step::number("llama", "LLaMA-7B in truth", "counted from its dimensions", truth.real()).shown(count(truth)),
    );

    let training = Training {
        parameters: truth.rounded(),
        tokens: Some(settings.get("tokens") as u64),
        batch: settings.get("batch") as u64,
        flops: Some(settings.get("flops") as u64),
        devices: settings.count("devices") as u64,
        utilization: settings.get("utilization"),
    };
    let trained = train(None, &training)?;
    let (tokens, batch) = (settings.get("tokens"), settings.get("batch"));
    solution.part(format!("How many updates are {} tokens, {} at a time?", show(tokens), show(batch))).plan(
        &trained,
        &[("steps", "updates"), ("flops", "operations, 6 N D, LLaMA-7B"), ("seconds", "time they take")],
    )?;

    let gradient = settings.get("gradient");
    let part = solution.part("Why is bf16 preferred to fp16 for training?");
    let of = |name: &str, fp: f64, bf: f64, key: &str, part: &mut crate::Part| {
        part.number(&format!("fp16_{key}"), format!("fp16, {name}"), "", fp);
        part.number(&format!("bf16_{key}"), format!("bf16, {name}"), "", bf);
    };
    let (fp, bf) = (|x: f64| f16::from_f64(x).to_f64(), |x: f64| bf16::from_f64(x).to_f64());
    of("largest number", f16::MAX.to_f64(), bf16::MAX.to_f64(), "largest", part);
    of("smallest of full precision", f16::MIN_POSITIVE.to_f64(), bf16::MIN_POSITIVE.to_f64(), "normal", part);
    of("smallest above zero", f16::from_bits(1).to_f64(), bf16::from_bits(1).to_f64(), "subnormal", part);
    of("step behind 1", f16::EPSILON.to_f64(), bf16::EPSILON.to_f64(), "step", part);
    of(&format!("{} becomes", show(gradient)), fp(gradient), bf(gradient), "gradient", part);
    of("70000 becomes", fp(7e4), bf(7e4), "70000", part);
    part.remark(
        "bf16 has the exponents of fp32 (8 bits) and so its range, with 7 bits behind the point where fp16 has 10.",
    );

    training_errata(&mut solution)?;
    number_errata(&mut solution);
    Ok(solution)
}

/// Device hours of Llama 2 7B on 2e12 tokens (Touvron et al. 2023, "Llama 2", table 2; A100).
const PUBLISHED_HOURS: f64 = 184_320.0;

fn training_errata(solution: &mut Solution) -> Result<()> {
    let answer = model(&presets::find("llama-7b")?, &[])?;
    let steps = vec![
        planned(&answer, "more_embedding", "embedding and head")?,
        planned(&answer, "more_feed_forward", "three projections, for a gate")?,
        planned(&answer, "more_small", "norms")?,
    ];
    let right = "12 L d^2 counts four projections of attention and two of a network of width 4 d, and no norms. LLaMA \
                 has no biases, and three projections of width 11,008 in its network. Most of what is missing is \
                 embedding and head, which the book names.";
    solution.erratum("12 L d^2 accounts for \"biases and layer norms\" too", right, steps);

    // The book's numbers, whatever is set.
    let (devices, share) = (1024, 0.4);
    let training = Training {
        parameters: parameters::total(&presets::find("llama-7b")?)?.rounded(),
        tokens: Some(2_000_000_000_000),
        batch: 4_000_000,
        flops: Some(312_000_000_000_000),
        devices,
        utilization: share,
    };
    let days = train(None, &training)?.find("seconds").map_or(f64::NAN, |line| line.value.real()) / DAY;
    let steps = vec![
        Step::number("days", "days at 40 % of 1024 A100", "6 N D / (1024 x 312e12 x 0.4)", days),
        Step::number(
            "published_days",
            "days of Llama 2 7B, as published",
            format!("{} device hours / (24 x {devices})", show(PUBLISHED_HOURS)),
            PUBLISHED_HOURS / (24.0 * devices as f64),
        ),
        Step::number("share_of_25_days", "share used if it took 25 days", "", days * share / 25.0)
            .shown(percent(days * share / 25.0)),
    ];
    let right = "With 40 % of an A100's 312e12 operations a second it is about a week, and a week is what the makers \
                 of Llama 2 report (Touvron et al. 2023, table 2). 20 to 30 days would leave the devices idle most of \
                 the time.";
    solution.erratum("training a 7B model on 2T tokens takes \"20-30 days on a 1024-GPU cluster\"", right, steps);
    Ok(())
}

fn number_errata(solution: &mut Solution) {
    let fp = |x: f64| f16::from_f64(x).to_f64();
    let off = |x: f64| (fp(x) - x).abs() / x;
    let steps = vec![
        Step::number("fp16_of_8e-8", "8e-8 in fp16", "one bit is left of eleven", fp(8e-8)),
        Step::number("fp16_of_8e-8_off", "  off by", "", off(8e-8)).shown(percent(off(8e-8))),
        Step::number("fp16_of_4e-8", "4e-8 in fp16, below 6e-8", "rounded up, not lost", fp(4e-8)),
        Step::number("fp16_of_2e-8", "2e-8 in fp16", "lost", fp(2e-8)),
    ];
    let right = "6e-8 is 2^-24, the smallest subnormal number. Full precision ends at 2^-14 = 6.1e-5 already; below, \
                 bits are lost one by one. What rounds to zero is what is at most half of the smallest, 3e-8.";
    solution.erratum("fp16 has the range [6e-8, 65504], and below it numbers become 0", right, steps);

    let (over, again) = (f16::from_f64(7e4), f16::from_f64(7e4));
    let steps = vec![
        Step::number("overflow", "70,000 in fp16", "infinite, not NaN", over.to_f64()),
        Step::number("overflow_difference", "its difference with itself", "inf - inf", (over - again).to_f64()),
    ];
    let right = "What is too large becomes infinite. NaN is what comes of it afterwards, in inf - inf or 0 x inf.";
    solution.erratum("an overflow in fp16 is \"NaN\"", right, steps);

    let small = 1e-3;
    let (mut in_fp16, mut in_bf16) = (f16::ZERO, bf16::ZERO);
    for _ in 0..1000 {
        in_fp16 += f16::from_f64(small);
        in_bf16 += bf16::from_f64(small);
    }
    let steps = vec![
        Step::number("sum_fp16", "0.001 a thousand times in fp16", "exactly: 1", in_fp16.to_f64()),
        Step::number("sum_bf16", "the same in bf16", "stuck: less than half a step is lost", in_bf16.to_f64()),
    ];
    let right = "A sum in bf16 stands still as soon as what is added is less than half a step of it, at most 2^-8 of \
                 the sum. So products are taken in bf16, and sums, averages and the weights that are updated are kept \
                 in fp32, as Micikevicius et al. (2018) do beside fp16.";
    solution.erratum("\"precision matters less than range for gradient accumulation\"", right, steps);
}

/// The largest relative error of rounding, for numbers of each size: 1 is a number that is lost.
fn figure() -> Plot {
    let curve = |round: &dyn Fn(f64) -> f64| {
        let size = |eighth: i32| 2f64.powf(f64::from(eighth) / 8.0);
        // Of the numbers from a size to the next, the one that suffers most.
        let worst = |from: f64, to: f64| {
            let errors = (0..331).map(|i| from + (to - from) * (f64::from(i) + 0.5) / 331.0).map(|x| {
                let rounded = round(x);
                if rounded.is_finite() { ((rounded - x) / x).abs() } else { 1.0 }
            });
            errors.fold(0.0, f64::max).min(1.0)
        };
        (-240..=160).map(|e| [size(e), worst(size(e), size(e + 8))]).collect::<Vec<[f64; 2]>>()
    };
    Plot::new("Rounding to 16 bits", Axis::log("size of the number"), Axis::log("largest relative error; 1: lost"))
        .with(Series::line("fp16", curve(&|x| f16::from_f64(x).to_f64())))
        .with(Series::line("bf16", curve(&|x| bf16::from_f64(x).to_f64())))
}
