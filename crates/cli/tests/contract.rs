//! The spellings that others rely on: commands, flags, JSON keys, and what goes to stdout.

mod support;

use porism_kernels::Isa;
use serde_json::Value;
use support::Fixture;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn run_tells_everything_in_json() {
    let fixture = Fixture::new();
    let args = [
        "run",
        "-m",
        &fixture.model,
        "--raw",
        "hello",
        "--json",
        "--seed",
        "4",
        "--max-tokens",
        "5",
        "--top-logprobs",
        "2",
    ];
    let first = fixture.json(&args);
    assert_eq!(keys(&first), ["text", "tokens", "prompt_tokens", "stop_reason", "activations", "timings"]);
    assert_eq!(first["prompt_tokens"], 5);
    assert_eq!(first["activations"], "int8");
    assert!(["length", "eos"].contains(&first["stop_reason"].as_str().expect("a word")));
    let timings = ["load_seconds", "first_token_seconds", "prompt_tokens_per_second", "generate_tokens_per_second"];
    assert_eq!(keys(&first["timings"]), timings);
    for token in first["tokens"].as_array().expect("tokens") {
        let logprob = token["logprob"].as_f64().expect("a number");
        assert!(logprob <= 0.0);
        let top = token["top"].as_array().expect("alternatives");
        assert_eq!(top.len(), 2);
        assert!(top[0]["logprob"].as_f64() >= top[1]["logprob"].as_f64());
        // A byte that is no character of its own is given as bytes.
        let whole = token["id"].as_u64().expect("an id") < 128 + 94;
        assert!(token.get("bytes").is_some() || whole || token["text"] != "\u{fffd}");
    }
    let again = fixture.json(&args);
    assert_eq!(first["tokens"], again["tokens"], "a seed fixes the answer");
    let exact = fixture.json(&[&args[..], &["--activations", "f32"]].concat());
    assert_eq!(exact["activations"], "f32");
}

#[test]
fn the_chat_template_is_what_the_model_sees() {
    let fixture = Fixture::new();
    let chat = fixture.path().join("chat.json");
    std::fs::write(&chat, r#"[{"role":"user","content":"hi"}]"#).expect("a file");
    let text = fixture.run(&["template", "-m", &fixture.model, chat.to_str().expect("UTF-8")]).stdout;
    assert!(text.starts_with("user: hi\nassistant:"), "{text:?}");
    let ids = fixture.json(&["tokenize", "-m", &fixture.model, "user: hi\nassistant:", "--json"]);
    let count = ids["ids"].as_array().expect("ids").len();
    let ran = fixture.json(&["run", "-m", &fixture.model, "hi", "--json", "--max-tokens", "1"]);
    assert_eq!(ran["prompt_tokens"], count);
}

#[test]
fn text_goes_to_tokens_and_back() {
    let fixture = Fixture::new();
    let text = "naïve 🦙 <|end|>";
    let plain = fixture.run(&["tokenize", "-m", &fixture.model, text, "--no-add-special", "--no-parse-special"]).stdout;
    let parsed = fixture.json(&["tokenize", "-m", &fixture.model, text, "--json"]);
    assert_eq!(parsed["ids"].as_array().and_then(|a| a.last()).and_then(Value::as_u64), Some(256));
    assert!(!plain.split_whitespace().any(|id| id == "256"));
    let back = fixture.run(&["detokenize", "-m", &fixture.model, plain.trim()]).stdout;
    assert_eq!(back.trim_end_matches('\n'), text);
}

#[test]
fn measurements_have_their_keys() {
    let fixture = Fixture::new();
    let text = fixture.path().join("text.txt");
    std::fs::write(&text, "the quick brown fox jumps over the lazy dog. ".repeat(30)).expect("a file");
    let text = text.to_str().expect("UTF-8");
    for protocol in ["llama.cpp", "sliding"] {
        let args =
            ["measure", "perplexity", text, "-m", &fixture.model, "--protocol", protocol, "--chunks", "2", "--json"];
        let value = fixture.json(&args);
        for key in ["perplexity", "standard_error", "tokens", "protocol", "bits_per_byte", "activations"] {
            assert!(value.get(key).is_some(), "{protocol}: {key} is missing in {value}");
        }
        assert_eq!(value["protocol"], protocol);
        assert_eq!(value["activations"], "f32");
    }
    let args = ["measure", "divergence", &fixture.model, &fixture.model, text, "--chunks", "1", "--json"];
    let value = fixture.json(&args);
    for key in ["p99_kl", "same_top", "perplexity_a", "perplexity_b", "perplexity_difference"] {
        assert!(value.get(key).is_some() && value.get(format!("{key}_standard_error")).is_some(), "{key}: {value}");
    }
    for key in ["mean_kl", "mean_kl_standard_error", "p999_kl", "p999_kl_standard_error", "max_kl"] {
        assert_eq!(value[key], 0.0, "{key} of a model with itself");
    }
    let args = [
        "bench",
        "-m",
        &fixture.model,
        "--prompt",
        "8",
        "--generate",
        "4",
        "--depth",
        "0,16",
        "--repeat",
        "1",
        "--json",
    ];
    let value = fixture.json(&args);
    assert_eq!(keys(&value), ["machine", "isa", "model", "rows"]);
    assert_eq!(value["isa"], Isa::detect().name());
    assert_eq!(keys(&value["machine"]), ["read_gb_per_second", "f32_gflops", "int8_gops"]);
    let rows = value["rows"].as_array().expect("rows");
    for row in rows {
        let expected = [
            "test",
            "n",
            "depth",
            "threads",
            "kv_type",
            "activations",
            "tokens_per_second",
            "gb_per_second",
            "peak_rss_bytes",
            "peak_anonymous_bytes",
            "cache_bytes",
            "gops_per_second",
        ];
        assert_eq!(keys(row), expected);
    }
    for test in ["prefill", "generate", "first_token", "attention"] {
        assert!(rows.iter().any(|r| r["test"] == test), "no row of {test}");
    }
}

#[test]
fn small_batches_and_lesser_instructions_are_measured() {
    let fixture = Fixture::new();
    let tests = "batch,sequences,first_token";
    let args = ["bench", "-m", &fixture.model, "--test", tests, "--batch", "2,3", "--depth", "5", "--isa", "scalar"];
    let value = fixture.json(&[&args[..], &["--repeat", "1", "--threads", "1", "--json"]].concat());
    assert_eq!(value["isa"], "scalar");
    let rows: Vec<_> = value["rows"].as_array().expect("rows").iter().map(|r| (r["test"].as_str(), &r["n"])).collect();
    let small = [(Some("batch"), 2), (Some("batch"), 3), (Some("sequences"), 2), (Some("sequences"), 3)];
    for (row, want) in rows.iter().zip(small) {
        assert!(row.0 == want.0 && *row.1 == want.1, "{rows:?}");
    }
    assert_eq!(rows[4].0, Some("first_token"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_row_of_contention_leaves_no_neighbour_behind() {
    let fixture = Fixture::new();
    // The neighbours are this program's children's children: told apart by the home that they inherit.
    let neighbours = || {
        let home = format!("PORISM_HOME={}", fixture.path().display());
        let mut found = 0;
        for process in std::fs::read_dir("/proc").expect("processes").flatten() {
            let read = |name| std::fs::read(process.path().join(name)).unwrap_or_default();
            let busy = read("cmdline").split(|&b| b == 0).any(|word| word == b"--busy");
            found += usize::from(busy && read("environ").split(|&b| b == 0).any(|word| word == home.as_bytes()));
        }
        found
    };
    let args = ["bench", "-m", &fixture.model, "--test", "contention", "--generate", "3", "--depth", "0"];
    let value = fixture.json(&[&args[..], &["--repeat", "1", "--threads", "2", "--json"]].concat());
    assert_eq!(value["rows"][0]["test"], "contention");
    assert_eq!(neighbours(), 0);

    // The neighbour alone: there while its stdin is open, on its core, gone when that closes.
    let core = *porism_kernels::affinity::allowed_cores().last().expect("a core");
    let mut neighbour = std::process::Command::new(env!("CARGO_BIN_EXE_porism"))
        .args(["bench", "--busy", &core.to_string()])
        .env("PORISM_HOME", fixture.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut ready = [0];
    std::io::Read::read_exact(neighbour.stdout.as_mut().expect("its output"), &mut ready).expect("its word");
    assert_eq!(neighbours(), 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", neighbour.id())).expect("its status");
    let cores = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).expect("its cores");
    assert_eq!(cores.trim(), core.to_string());
    drop(neighbour.stdin.take());
    assert!(neighbour.wait().expect("an end").success());
}

#[test]
fn listings_are_json_where_asked() {
    let fixture = Fixture::new();
    assert_eq!(fixture.json(&["models", "--json"]), Value::Array(Vec::new()));
    let facts = fixture.json(&["inspect", &fixture.model, "--json", "--tensors"]);
    assert_eq!(facts["architecture"], "llama");
}

#[test]
fn every_command_has_an_example() {
    let fixture = Fixture::new();
    let commands = [
        &["run"][..],
        &["pull"],
        &["models"],
        &["inspect"],
        &["tokenize"],
        &["detokenize"],
        &["template"],
        &["convert"],
        &["measure", "perplexity"],
        &["measure", "divergence"],
        &["bench"],
        &["plan"],
        &["plan", "model"],
        &["plan", "attention"],
        &["plan", "memory"],
        &["plan", "train"],
        &["plan", "tune"],
        &["plan", "serve"],
        &["plan", "speculate"],
        &["plan", "precision"],
    ];
    for command in commands {
        let help = fixture.run(&[command, &["--help"]].concat()).stdout;
        assert!(help.contains("Examples:") && help.contains(&format!("porism {}", command.join(" "))), "{help}");
    }
}
