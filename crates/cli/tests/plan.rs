//! `porism plan`: bad input, the spellings that others rely on, and its memory beside that of `porism run`.

mod support;

use std::io::Write;
use std::path::Path;

use porism_models::ModelConfig;
use porism_models::config::LayerSpec;
use porism_models::cpu::{CpuState, KvType as Kept};
use porism_plan::KvType;
use porism_plan::cache::CacheShape;
use serde_json::Value;
use support::{Fixture, Ran, porism};

fn plan(fixture: &Fixture, args: &[&str]) -> Ran {
    porism(fixture.path(), &[], &[&["plan"], args].concat())
}

fn plan_json(fixture: &Fixture, args: &[&str]) -> Value {
    fixture.json(&[&["plan"], args, &["--json"]].concat())
}

/// The line of an answer with this key.
fn line<'a>(answer: &'a Value, key: &str) -> &'a Value {
    let parts = answer["parts"].as_array().expect("parts");
    let mut lines = parts.iter().flat_map(|p| p["lines"].as_array().expect("lines"));
    lines.find(|l| l["key"] == key).unwrap_or_else(|| panic!("no line {key} in {answer}"))
}

fn value(answer: &Value, key: &str) -> f64 {
    line(answer, key)["value"].as_f64().expect("a number")
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn bad_input() {
    let fixture = Fixture::new();
    let odd = fixture.path().join("odd");
    std::fs::create_dir(&odd).expect("a folder");
    let config = odd.join("config.json");
    let write = |heads: u32| {
        let text = format!(
            r#"{{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 30, "num_attention_heads": {heads},
                "intermediate_size": 64, "vocab_size": 10, "max_position_embeddings": 128, "rms_norm_eps": 1e-5}}"#
        );
        std::fs::write(&config, text).expect("a file");
    };
    write(4);
    let config = config.to_str().expect("UTF-8");
    let cut = fixture.path().join("cut.gguf");
    std::fs::write(&cut, &std::fs::read(&fixture.model).expect("the model")[..100]).expect("a file");
    let cut = cut.to_str().expect("UTF-8");
    let dims = |rest: &[&'static str]| [&["model"], rest].concat();
    let table: Vec<(Vec<&str>, i32, &[&str])> = vec![
        (dims(&[]), 2, &["no model", "llama-7b", "--layers"]),
        (dims(&["--layers", "3"]), 2, &["not given: width, heads"]),
        (dims(&["--layers", "0", "--width", "64", "--heads", "4"]), 2, &["0 layers", "at least 1"]),
        (dims(&["--layers", "2", "--width", "64", "--heads", "0"]), 2, &["0 attention heads"]),
        (
            dims(&["--layers", "2", "--width", "4097", "--heads", "12"]),
            2,
            &["12 attention heads do not divide", "4104"],
        ),
        (dims(&["llama-7b", "--kv-heads", "5"]), 2, &["do not share 5", "1, 2, 4, 8, 16, 32"]),
        (dims(&["llama-7b", "--layers", "0"]), 2, &["0 layers"]),
        (dims(&["llama-7b", "--layers", "many"]), 2, &["--layers", "`many` is no whole number"]),
        (dims(&["llama-7b", "--experts-used", "2"]), 2, &["number of experts"]),
        (dims(&["mixtral-8x7b", "--experts-used", "9"]), 2, &["9 of 8 experts"]),
        (dims(&["llama-7b", "--window", "0"]), 2, &["window of 0"]),
        (dims(&["--layers", "2", "--heads", "3", "--width", "18446744073709551615"]), 2, &["slip"]),
        (dims(&["llama-7b", "--vocab", "18446744073709551615"]), 2, &["in the vocabulary", "slip"]),
        (
            dims(&["--layers", "65536", "--heads", "1", "--width", "4096", "--experts", "99999"]),
            2,
            &["experts", "slip"],
        ),
        (dims(&["lama-7b"]), 2, &["no preset `lama-7b`", "llama-7b", "a preset of `porism plan --help`"]),
        (dims(&["mixtral"]), 2, &["mixtral-8x7b"]),
        (dims(&["no/such.gguf"]), 1, &["no/such.gguf", "no such file"]),
        (vec!["model", cut], 1, &["cut.gguf"]),
        (vec!["model", config], 1, &["config.json", "4 attention heads do not divide a width of 30"]),
        (vec!["attention"], 2, &["--seq", "--head-dim"]),
        (vec!["attention", "--seq", "16 apples", "--head-dim", "64"], 2, &["`16 apples` is no length", "32k"]),
        (vec!["attention", "--seq", "0", "--head-dim", "64"], 2, &["`0` is no length"]),
        (vec!["attention", "--seq", "8", "--head-dim", "0"], 2, &["0 features a head"]),
        (vec!["attention", "--seq", "8", "--head-dim", "8", "--heads", "6", "--kv-heads", "4"], 2, &["evenly"]),
        (vec!["attention", "--image", "224", "--head-dim", "64"], 2, &["--patch"]),
        (vec!["attention", "--image", "224", "--patch", "15", "--head-dim", "64"], 2, &["do not fill an image of 224"]),
        (vec!["memory", "llama-7b", "--ram", "16 apples"], 2, &["`16 apples` is no size", "16GiB, 16 GB or 1.5e9"]),
        (vec!["memory", "llama-7b", "--ram=-1"], 2, &["--ram", "`-1` is no size"]),
        (vec!["memory", "llama-7b", "--weights", "q9"], 2, &["`q9`", "Q4_K", "NF4"]),
        (vec!["memory", "llama-7b", "--rank", "0"], 2, &["rank 0", "at least 1"]),
        (vec!["memory", "llama-7b", "--rank", "5000"], 2, &["rank 5000 is above the width of 4096"]),
        (vec!["memory", "llama-7b", "--kv-type", "q3"], 2, &["--kv-type", "q8_0"]),
        (vec!["memory", "llama-7b", "--parameters", "7B"], 2, &["--parameters", "cannot be used with"]),
        (vec!["memory", "--parameters", "7 dwarfs"], 2, &["`7 dwarfs` is no count", "7B"]),
        (vec!["train", "llama-7b", "--batch", "0"], 2, &["`0` is no count"]),
        (vec!["train", "llama-7b", "--devices", "0"], 2, &["0 devices"]),
        (vec!["train", "llama-7b", "--utilization", "120%"], 2, &["at most 1"]),
        (vec!["train", "llama-7b", "--flops", "fast"], 2, &["`fast` is no speed", "300G"]),
        (vec!["tune", "llama-7b", "--targets", "q,x"], 2, &["`x`", "attention"]),
        (vec!["serve", "llama-7b"], 2, &["the machine is not known", "`porism bench`", "--bandwidth"]),
        (vec!["serve", "llama-7b", "--bandwidth", "wide", "--flops", "1G"], 2, &["`wide` is no bandwidth", "40GB/s"]),
        (vec!["serve", "llama-7b", "--bandwidth", "1GB", "--flops", "1G", "--batch", "0"], 2, &["0 sequences"]),
        (vec!["speculate"], 2, &["--cost", "--draft"]),
        (vec!["speculate", "llama-7b"], 2, &["--draft"]),
        (vec!["speculate", "--cost", "0"], 2, &["--cost", "above 0"]),
        (vec!["speculate", "--cost", "0.1", "--acceptance", "2"], 2, &["--acceptance", "at most 1"]),
        (vec!["speculate", "--cost", "0.1", "--drafted", "0"], 2, &["0 drafted tokens"]),
        (vec!["speculate", "--cost", "0.1", "--check", "0.5"], 2, &["check at least 1"]),
        (vec!["precision", "fp12"], 2, &["no format `fp12`", "bf16"]),
        (vec!["precision", "--value", "nan"], 2, &["`nan` is no finite number"]),
        (vec!["weigh"], 2, &["weigh"]),
    ];
    let mut complaints = Vec::new();
    for (args, code, words) in table {
        let ran = plan(&fixture, &args);
        let missing: Vec<&&str> = words.iter().filter(|w| !ran.stderr.contains(**w)).collect();
        if ran.code != Some(code) || !missing.is_empty() || ran.stderr.contains("panicked") || !ran.stdout.is_empty() {
            complaints.push(format!("{args:?}: expected code {code}, missing words {missing:?}\n  {ran:?}"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_answer_has_its_keys() {
    let fixture = Fixture::new();
    let model = fixture.model.as_str();
    let speeds = ["--bandwidth", "40GB/s", "--flops", "300G"];
    let table: [(&[&str], &[&str]); 10] = [
        (
            &["model", "llama-7b"],
            &["total", "estimate", "estimate_share", "attention", "feed_forward", "more_embedding"],
        ),
        (&["model", model], &["total", "file_total", "file_bits", "file_bytes"]),
        (&["model", "mixtral-8x7b"], &["active", "active_share", "active_expert_share"]),
        (
            &["attention", "mistral-7b", "--seq", "32k"],
            &["qk_flops", "av_flops", "matrix_f16", "tile_bytes", "window_share", "receptive_field", "cache_q8_0"],
        ),
        (
            &["memory", model, "--ram", "1GiB"],
            &["weights_q4_k", "cache_f16", "run_peak", "full", "lora", "qlora_recompute", "best_run", "best_training"],
        ),
        (&["train", "llama-7b", "--flops", "312T"], &["steps", "flops", "tokens_a_parameter", "seconds"]),
        (&["tune", "llama-7b"], &["matrix_share", "lora", "lora_share", "prefix", "bottleneck", "flops_lora"]),
        (&[&["serve", model][..], &speeds].concat(), &["by_bandwidth", "by_flops", "tokens_per_second", "memory"]),
        (&["speculate", "llama-7b", "--draft", "tinyllama-1.1b"], &["tokens", "speedup", "best_drafted"]),
        (&["precision", "bf16"], &["bf16_bits", "bf16_largest", "bf16_subnormal", "bf16_step"]),
    ];
    for (args, wanted) in table {
        let answer = plan_json(&fixture, args);
        assert_eq!(keys(&answer), ["title", "given", "parts", "notes"], "{args:?}");
        let given = answer["given"].as_array().expect("a list");
        assert!(given.iter().all(|g| keys(g) == ["symbol", "what", "value", "unit"]), "{args:?}");
        let mut seen = Vec::new();
        for part in answer["parts"].as_array().expect("parts") {
            assert_eq!(keys(part), ["title", "lines"]);
            for line in part["lines"].as_array().expect("lines") {
                assert_eq!(keys(line)[..6], ["key", "what", "formula", "numbers", "value", "unit"], "{line}");
                assert!(line["value"].is_number(), "{line}");
                let key = line["key"].as_str().expect("a key").to_string();
                assert!(!seen.contains(&key), "{args:?}: {key} twice");
                seen.push(key);
            }
        }
        for key in wanted {
            line(&answer, key);
        }
    }
}

#[test]
fn what_is_shown_is_short_and_has_the_numbers_put_in() {
    let fixture = Fixture::new();
    let ran = plan(&fixture, &["attention", "--seq", "32k", "--head-dim", "128", "--heads", "32"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for words in ["2.75e11 FLOP  2 x n^2 x k = 2 x 32,768^2 x 128", "2.15 GB  2 x n^2", "68.7 GB  h x 2 x n^2"] {
        assert!(ran.stdout.contains(words), "{words} is missing in\n{}", ran.stdout);
    }
    let ran = plan(&fixture, &["train", "--parameters", "7B", "--tokens", "2T"]);
    assert!(ran.stdout.contains("500,000 steps  ceil(D / B) = ceil(2,000,000,000,000 / 4,000,000)"), "{}", ran.stdout);
    assert!(ran.stderr.is_empty(), "{ran:?}");
}

#[test]
fn a_file_is_what_its_headers_say() {
    let fixture = Fixture::new();
    let answer = plan_json(&fixture, &["model", &fixture.model]);
    // A table of 257, four square projections, two of them halved, three of 64, three norms, all of width 32.
    let want = 257 * 32 + 3 * 32 * 32 + 3 * 32 * 64 + 3 * 32;
    assert_eq!(value(&answer, "total"), f64::from(want));
    assert_eq!(value(&answer, "file_total"), f64::from(want));
    assert_eq!(value(&answer, "file_bits"), 32.0);
    // A change of it is no longer the file.
    let deeper = plan_json(&fixture, &["model", &fixture.model, "--layers", "2"]);
    assert!(deeper["title"].as_str().is_some_and(|t| t.ends_with("tiny.gguf, changed")), "{deeper}");
    assert!(deeper["parts"].as_array().expect("parts").iter().all(|p| p["title"] != "in the file, bits of a weight"));
    // `config.json` alone is enough.
    let folder = fixture.path().join("config-only");
    std::fs::create_dir(&folder).expect("a folder");
    let config = folder.join("config.json");
    let text = r#"{"model_type": "qwen2", "num_hidden_layers": 24, "hidden_size": 896, "num_attention_heads": 14,
        "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": true}"#;
    std::fs::write(&config, text).expect("a file");
    for path in [&config, &folder] {
        let answer = plan_json(&fixture, &["model", path.to_str().expect("UTF-8")]);
        assert_eq!(value(&answer, "total"), 494_032_768.0);
    }
}

#[test]
fn caches_are_those_of_the_engine() {
    for (layers, windowed, window) in [(4, 0, None), (6, 5, Some(512)), (3, 3, Some(100)), (2, 2, Some(4096))] {
        let layer = |i| LayerSpec { window: window.filter(|_| i < windowed), rope: None, moe: false };
        let config = ModelConfig {
            layers,
            kv_heads: 3,
            head_dim: 64,
            layer_specs: (0..layers).map(layer).collect(),
            ..ModelConfig::default()
        };
        let shape = CacheShape {
            layers: layers as u64,
            kv_heads: 3,
            head_dim: 64,
            window: window.map(|w| w as u64),
            windowed_layers: windowed as u64,
        };
        for (kind, kept) in KvType::ALL.into_iter().zip(Kept::ALL) {
            assert_eq!(kind.name(), kept.name());
            assert!((1..200u64).all(|dim| kind.fits(dim) == kept.fits(dim as usize)));
            let token = shape.per_token(kind).expect("a size").rounded();
            assert_eq!(token, CpuState::bytes_per_row(&config, kept) as u64);
            for rows in [1, 255, 256, 257, 500, 832, 833, 5000, 40_000] {
                let planned = shape.bytes(kind, rows as u64).expect("a size").rounded();
                assert_eq!(planned, CpuState::bytes_at(&config, kept, rows) as u64, "{rows} rows, window {window:?}");
            }
        }
    }
}

#[test]
fn caches_are_those_that_inspect_gives() {
    let Some(models) = models() else { return };
    let fixture = Fixture::new();
    for file in gguf_files(Path::new(&models)) {
        let plan = porism(fixture.path(), &[], &["plan", "attention", &file, "--json"]);
        if plan.code != Some(0) {
            // Encoders have no cache.
            assert!(plan.stderr.contains("encoder"), "{plan:?}");
            continue;
        }
        let plan: Value = serde_json::from_str(&plan.stdout).expect("JSON");
        let facts = porism(fixture.path(), &[], &["inspect", &file, "--json"]);
        let facts: Value = serde_json::from_str(&facts.stdout).expect("JSON");
        for kind in ["f32", "f16", "q8_0", "q4_0"] {
            let cache = &facts["kv_cache"];
            assert_eq!(line(&plan, &format!("cache_{kind}_token"))["value"], cache[format!("{kind}_bytes_per_token")]);
            assert_eq!(line(&plan, &format!("cache_{kind}"))["value"], cache[format!("{kind}_bytes_full")], "{file}");
        }
    }
}

/// The folder of models, or a visible line that there is none.
fn models() -> Option<std::ffi::OsString> {
    let folder = std::env::var_os("PORISM_TEST_MODELS");
    if folder.is_none() {
        seen("skipped: PORISM_TEST_MODELS names no folder");
    }
    folder
}

/// A line past the test's captured output.
fn seen(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn gguf_files(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).expect("a folder of models").flatten().map(|e| e.path());
    let files = files.filter(|p| p.extension().is_some_and(|e| e == "gguf"));
    files.map(|p| p.to_str().expect("UTF-8").to_string()).collect()
}

/// The most memory that a run ever had, as it tells while it lives.
#[cfg(target_os = "linux")]
fn peak_of_run(home: &Path, model: &str, prompt: &Path, tokens: &str) -> f64 {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_porism"))
        .args(["run", "-m", model, "--raw", "--temperature", "0", "--max-tokens", tokens, "--threads", "2", "--file"])
        .arg(prompt)
        .env("PORISM_HOME", home)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the binary runs");
    let mut peak = 0.0f64;
    while child.try_wait().expect("its state").is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
        peak = peak.max(kib.unwrap_or(0.0) * 1024.0);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    peak
}

#[cfg(target_os = "linux")]
#[test]
fn the_peak_of_a_run_is_foreseen() {
    let Some(models) = models() else { return };
    let fixture = Fixture::new();
    let prompt = fixture.path().join("prompt.txt");
    let mut complaints = Vec::new();
    for model in gguf_files(Path::new(&models)) {
        for (text, answer) in [("What is the capital of France?".to_string(), "8"), (long_text(), "8")] {
            std::fs::write(&prompt, &text).expect("a file");
            let tokenized = ["tokenize", "-m", &model, "--file", prompt.to_str().expect("UTF-8"), "--json"];
            let ids: Value = serde_json::from_str(&porism(fixture.path(), &[], &tokenized).stdout).expect("JSON");
            let tokens = ids["ids"].as_array().expect("ids").len() + 8;
            let args = ["plan", "memory", &model, "--context", &tokens.to_string(), "--threads", "2", "--json"];
            let plan = porism(fixture.path(), &[], &args);
            if plan.code != Some(0) {
                continue;
            }
            let plan: Value = serde_json::from_str(&plan.stdout).expect("JSON");
            let (foreseen, measured) = (value(&plan, "run_peak"), peak_of_run(fixture.path(), &model, &prompt, answer));
            let off = (foreseen - measured).abs();
            seen(&format!(
                "{model}, {tokens} tokens: {:.1} MB foreseen, {:.1} MB measured",
                foreseen / 1e6,
                measured / 1e6
            ));
            if off > 15e6 && off > 0.1 * measured {
                complaints.push(format!("{model}: {foreseen} foreseen for {tokens} tokens, {measured} measured"));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Some hundred different words.
#[cfg(target_os = "linux")]
fn long_text() -> String {
    let words = ["river", "stone", "quiet", "north", "letter", "window", "market", "season", "copper", "garden"];
    let ends = ["", "s", "ed", "ing", "er", "ly"];
    (0..600).map(|i| format!("{}{} ", words[i * 7 % 10], ends[i * i % 6])).collect()
}

#[test]
fn a_bench_is_remembered() {
    let fixture = Fixture::new();
    let model = fixture.model.as_str();
    let unmeasured = plan(&fixture, &["serve", model]);
    assert_eq!(unmeasured.code, Some(2), "{unmeasured:?}");
    let bench =
        ["bench", "-m", model, "--test", "generate", "--generate", "2", "--depth", "0", "--repeat", "1", "--json"];
    let ran = porism(fixture.path(), &[], &bench);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let machine: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let kept = std::fs::read(fixture.path().join("machine.json")).expect("what was measured");
    let kept: Value = serde_json::from_slice(&kept).expect("JSON");
    assert_eq!(keys(&kept), ["read_gb_per_second", "f32_gflops", "int8_gops", "isa", "threads"]);
    assert_eq!(kept["f32_gflops"], machine["machine"]["f32_gflops"]);
    let served = plan(&fixture, &["serve", model]);
    assert_eq!(served.code, Some(0), "{served:?}");
    assert!(served.stderr.contains("as measured") && served.stdout.contains("the bound:"), "{served:?}");
}
