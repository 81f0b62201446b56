//! The book's printed numbers, each held against the answer that computes it. Where the book rounds, the answer has
//! to round to the same digits.

use porism_plan::attention::{Attention, answer as attention};
use porism_plan::memory::{ideal, of_parameters};
use porism_plan::parameters::answer as model;
use porism_plan::precision::{FORMATS, answer as precision};
use porism_plan::train::{Training, answer as train};
use porism_plan::tune::{Targets, Tuning, answer as tune};
use porism_plan::units::{parse_count, parse_length};
use porism_plan::{Amount, Answer, GivenDimensions, Machine, presets};

fn value(answer: &Answer, key: &str) -> f64 {
    answer.find(key).unwrap_or_else(|| panic!("no line {key}")).value.real()
}

/// Whether a value rounds to what is printed, to as many decimals as are printed, in units of `unit`.
fn printed(value: f64, text: &str, unit: f64) {
    let decimals = text.split_once('.').map_or(0, |(_, d)| d.len());
    let rounded = format!("{:.*}", decimals, value / unit);
    assert_eq!(rounded, text, "{value}");
}

fn one_head(tokens: u64) -> Attention {
    let mistral = presets::find("mistral-7b").expect("a preset");
    // 32 heads of 128 features, W = 4096, L = 32.
    Attention { kv_heads: 32, ..Attention::of(&mistral, tokens) }
}

/// Part III, "Solutions", I. Efficient Attention, (a) and (b).
#[test]
fn solution_iii_i() {
    let n = parse_length("32k").expect("a length");
    assert_eq!(n, 32_768);
    let answer = attention(&one_head(n)).expect("an answer");
    printed(value(&answer, "qk_flops"), "2.75", 1e11);
    assert_eq!(answer.find("qk_flops").map(|l| l.numbers.as_str()), Some("2 x 32,768^2 x 128"));
    printed(value(&answer, "matrix_f16"), "2.15", 1e9);
    printed(value(&answer, "layer_matrix_f16"), "69", 1e9);
    printed(value(&answer, "window_share"), "12.5", 1.0);
    // (c) tiles leave the operations as they are.
    assert!(value(&answer, "tile_share") < 1.0);
    assert!(answer.notes.iter().any(|n| n == "tiles change the memory, not the operations: these stay 4 n^2 k a head"));
}

/// Part III, "The Quadratic Bottleneck": 128K tokens are 128,000 there.
#[test]
fn the_quadratic_bottleneck() {
    let answer = attention(&one_head(128_000)).expect("an answer");
    printed(value(&answer, "entries"), "16.4", 1e9);
    assert!(answer.notes.iter().any(|n| n.contains("128K is 128,000")), "{:?}", answer.notes);
    let binary = attention(&one_head(parse_length("128k").expect("a length"))).expect("an answer");
    printed(value(&binary, "entries"), "17.2", 1e9);
    assert!(binary.notes.iter().any(|n| n.contains("131,072")), "{:?}", binary.notes);
}

/// Part III, "Sliding Window Attention": W = 4096, L = 32, "128K tokens".
#[test]
fn the_receptive_field() {
    let answer = attention(&one_head(4096)).expect("an answer");
    assert_eq!(answer.find("receptive_field").map(|l| l.value), Some(Amount::Whole(128 * 1024)));
}

/// Part III, "Vision Transformers": 196 patches.
#[test]
fn patches_of_an_image() {
    let tokens = porism_plan::attention::patches(224, 16);
    let answer = attention(&Attention { image: Some((224, 16)), ..one_head(tokens) }).expect("an answer");
    assert_eq!(answer.find("patches").map(|l| l.value), Some(Amount::Whole(196)));
}

/// Part III, "Solutions", IV. LLM Training Pipeline, (a).
#[test]
fn solution_iii_iv_a() {
    let given = GivenDimensions { layers: Some(32), width: Some(4096), heads: Some(32), ..Default::default() };
    let bare = model(&given.alone().expect("a model"), &[]).expect("an answer");
    printed(value(&bare, "estimate"), "6.44", 1e9);
    // A model that is as the formula has it: four d^2 of attention, eight of the network, norms aside.
    assert_eq!(value(&bare, "attention") + value(&bare, "feed_forward"), value(&bare, "estimate"));
    let llama = model(&presets::find("llama-7b").expect("a preset"), &[]).expect("an answer");
    printed(value(&llama, "estimate"), "6.44", 1e9);
    printed(value(&llama, "total"), "6.7", 1e9);
    printed(4096.0 * 4096.0, "16.78", 1e6);
    // The book lays the difference on the embedding alone; a gate of width 11,008 adds too, and the head.
    assert_eq!(value(&llama, "more_embedding"), 2.0 * 32_000.0 * 4096.0);
    assert_eq!(value(&llama, "more_feed_forward"), 32.0 * (3.0 * 4096.0 * 11_008.0 - 8.0 * 4096.0 * 4096.0));
}

fn training(tokens: &str, batch: &str) -> Training {
    Training {
        parameters: 6_738_415_616,
        tokens: Some(parse_count(tokens).expect("a count")),
        batch: parse_count(batch).expect("a count"),
        flops: Some(312_000_000_000_000),
        devices: 1024,
        utilization: 0.4,
    }
}

/// Part III, "Solutions", IV, (b): 2 x 10^12 tokens in batches of 4 x 10^6.
#[test]
fn solution_iii_iv_b() {
    let answer = train(None, &training("2T", "4M")).expect("an answer");
    assert_eq!(answer.find("steps").map(|l| l.value), Some(Amount::Whole(500_000)));
    assert_eq!(answer.find("steps").map(|l| l.unit.show(l.value)), Some("500,000 steps".into()));
    // "20-30 days on a 1024-GPU cluster": by 6 N D it takes 7 days on A100s that are used to 40 %; the book's days
    // are those of 10 to 13 %.
    let days = |utilization| {
        value(&train(None, &Training { utilization, ..training("2T", "4M") }).expect("an answer"), "seconds") / 86_400.0
    };
    printed(days(0.4), "7", 1.0);
    assert!(days(0.10) < 30.0 && days(0.14) > 20.0);
}

/// Part III, "Solutions", IV, (c): the table of fp32, fp16 and bf16.
#[test]
fn solution_iii_iv_c() {
    let answer = precision(&FORMATS, &[]).expect("an answer");
    for (format, exponent, mantissa) in [("fp32", 8.0, 23.0), ("fp16", 5.0, 10.0), ("bf16", 8.0, 7.0)] {
        assert_eq!(value(&answer, &format!("{format}_bits")), 1.0 + exponent + mantissa);
        assert_eq!(value(&answer, &format!("{format}_step")), 2f64.powf(-mantissa));
    }
    assert_eq!(value(&answer, "fp16_largest"), 65_504.0);
    printed(value(&answer, "fp16_subnormal"), "6", 1e-8);
    printed(value(&answer, "bf16_largest"), "3.4", 1e38);
    printed(value(&answer, "fp32_largest"), "3.4", 1e38);
    printed(value(&answer, "bf16_smallest"), "1", 1e-38);
    // "Matching FP32".
    assert_eq!(value(&answer, "bf16_smallest"), value(&answer, "fp32_smallest"));
    // "Quantization": 8 bits are -127 to 127, 4 bits -7 to 7.
    assert_eq!(value(&answer, "int8_largest"), 127.0);
    assert_eq!(value(&answer, "int4_largest"), 7.0);
    // Gradients beyond the range: infinite in fp16, fine in bf16.
    let lost = precision(&FORMATS, &[70_000.0, 1e-9]).expect("an answer");
    assert!(lost.find("fp16_of_70000").is_some_and(|l| l.what.contains("infinite")));
    assert!(lost.find("fp16_of_0.000000001").is_some_and(|l| l.what.contains("lost")));
    printed(value(&lost, "bf16_of_70000"), "70", 1e3);
}

/// Part III, "Memory Savings".
#[test]
fn the_table_of_memory() {
    let printed_table = [
        ("fp32_ideal", 32, "28", "280"),
        ("fp16_ideal", 16, "14", "140"),
        ("int8_ideal", 8, "7", "70"),
        ("int4_ideal", 4, "3.5", "35"),
        ("2bit_ideal", 2, "1.75", "17.5"),
    ];
    let (small, large) = (parse_count("7B").expect("a count"), parse_count("70B").expect("a count"));
    let (small, large) =
        (of_parameters(small, None).expect("an answer"), of_parameters(large, None).expect("an answer"));
    for ((key, bits, of_7b, of_70b), (_, known, known_bits)) in printed_table.into_iter().zip(ideal()) {
        assert_eq!((key, bits), (known, known_bits));
        printed(value(&small, key), of_7b, 1e9);
        printed(value(&large, key), of_70b, 1e9);
    }
    // "A 70B model fits on a single A100-80GB" at 4 bits, with the scales too; at 16 bits it needs 140 GB.
    assert!(value(&large, "weights_q4_k") < 80e9 && value(&large, "weights_bf16") == 140e9);
    // "A 7B model fits on consumer GPUs with 6GB".
    assert!(value(&small, "weights_q4_k") < 6e9);
    // QLoRA: 65 B in 48 GB, with double quantization.
    let qlora = of_parameters(65_000_000_000, Some(48_000_000_000)).expect("an answer");
    assert_eq!(qlora.find("weights_nf4").and_then(|l| l.fits), Some(true));
}

/// Part III, "LoRA: Parameter Savings", d = 4096 and r = 16.
#[test]
fn the_savings_of_lora() {
    let llama = presets::find("llama-7b").expect("a preset");
    let tuning = Tuning {
        rank: 16,
        targets: Targets::ATTENTION,
        parameters: Some(7_000_000_000),
        prefix: 16,
        bottleneck: 64,
        tokens: None,
        machine: Machine::default(),
    };
    let answer = tune(&llama, &tuning).expect("an answer");
    printed(value(&answer, "matrix"), "16.8", 1e6);
    printed(value(&answer, "matrix_lora"), "131", 1e3);
    // "65K" each: 65,536, cut off.
    assert_eq!(value(&answer, "matrix_lora") / 2.0, 65_536.0);
    printed(value(&answer, "matrix_share"), "0.78", 1.0);
    printed(value(&answer, "lora"), "16.8", 1e6);
    printed(value(&answer, "lora_share"), "0.24", 1.0);
    // "Other PEFT methods": LoRA 0.1 to 1 %, prefixes below 0.1 %, adapters 1 to 5 %, soft prompts about 0.001 %.
    assert!((0.1..1.0).contains(&value(&answer, "lora_share")));
    assert!(value(&answer, "prefix_share") < 0.1);
    let wider = tune(&llama, &Tuning { bottleneck: 256, ..tuning }).expect("an answer");
    assert!((1.0..5.0).contains(&value(&wider, "bottleneck_share")));
    printed(value(&answer, "prompt_share"), "0.001", 1.0);
    // Of the model as it is, 6.74 B, the adapter is 0.25 %.
    let exact = tune(&llama, &Tuning { parameters: None, ..tuning }).expect("an answer");
    printed(value(&exact, "lora_share"), "0.25", 1.0);
}

/// Part III, "The Fine-Tuning Landscape": ~28 GB for all of 7 B is its f32 weights alone; ~6 GB for LoRA takes a base
/// in 4 bits.
#[test]
fn the_landscape() {
    let answer = of_parameters(7_000_000_000, None).expect("an answer");
    printed(value(&answer, "fp32_ideal"), "28", 1e9);
    assert!(value(&answer, "weights_nf4") < 6e9 && value(&answer, "weights_bf16") > 6e9);
}

/// Part I, "Modern LLMs" (solutions, 7.4): 64 experts, top-2: 3.125 %, of the experts' parameters.
#[test]
fn experts_that_work() {
    let given = GivenDimensions {
        layers: Some(32),
        width: Some(4096),
        heads: Some(32),
        experts: Some(64),
        experts_used: Some(2),
        ..Default::default()
    };
    let answer = model(&given.alone().expect("a model"), &[]).expect("an answer");
    assert_eq!(value(&answer, "active_expert_share"), 3.125);
    assert!(value(&answer, "active_share") > 3.125);
    assert!(answer.notes.iter().any(|n| n.contains("counts experts only")), "{:?}", answer.notes);
}

/// Part I (solutions, 6.4): d = 256 and 4 heads are heads of 64.
#[test]
fn heads_share_the_width() {
    let given = GivenDimensions { layers: Some(1), width: Some(256), heads: Some(4), ..Default::default() };
    assert_eq!(given.alone().expect("a model").head_dim, 64);
}
