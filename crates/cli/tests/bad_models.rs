//! Models that contradict themselves or are asked for what they cannot do: for each what the binary says and how it
//! exits.

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{Tiny, porism};

/// A Hugging Face folder with a configuration and no weights: numbers are checked before tensors.
fn folder(under: &Path, name: &str, config: &Value) -> String {
    let path = under.join(name);
    std::fs::create_dir(&path).expect("a folder");
    std::fs::write(path.join("config.json"), config.to_string()).expect("config.json");
    path.to_str().expect("a path in UTF-8").to_string()
}

/// A llama's numbers with some of them changed.
fn llama(changes: Value) -> Value {
    let mut config = json!({
        "model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 96, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5
    });
    for (key, value) in changes.as_object().expect("changes") {
        config[key] = value.clone();
    }
    config
}

#[test]
fn the_table() {
    let temporary = tempfile::tempdir().expect("a folder");
    let under = temporary.path();
    let bert = json!({
        "model_type": "bert", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1,
        "intermediate_size": 64, "vocab_size": 96, "max_position_embeddings": 64, "layer_norm_eps": 1e-12
    });
    let mixtral = |experts: u32, used: u32| {
        llama(json!({ "model_type": "mixtral", "num_local_experts": experts, "num_experts_per_tok": used }))
    };
    let rope = |parameters: Value| llama(json!({ "rope_parameters": parameters }));
    let folders: Vec<(&str, Value, &[&str])> = vec![
        ("an unknown architecture", llama(json!({ "model_type": "mamba9" })), &["mamba9", "gemma3", "qwen2"]),
        ("heads that do not divide", llama(json!({ "hidden_size": 30 })), &["4 attention heads", "width of 30"]),
        ("key heads that do not divide", llama(json!({ "num_key_value_heads": 3 })), &["4 attention heads", "3 key"]),
        ("no heads", llama(json!({ "num_attention_heads": 0 })), &["num_attention_heads is 0"]),
        ("no blocks", llama(json!({ "num_hidden_layers": 0 })), &["0 blocks"]),
        ("a rope dimension above the head's", rope(json!({ "partial_rotary_factor": 2.0 })), &["RoPE over 16 of 8"]),
        ("a scaling type unknown", rope(json!({ "rope_type": "warp", "factor": 2.0 })), &["\"warp\"", "yarn"]),
        ("a scaling without its factor", rope(json!({ "rope_type": "linear" })), &["linear has no factor"]),
        (
            "a longrope list that is too short",
            rope(json!({ "rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0] })),
            &["short_factor has 1 numbers for 4 pairs"],
        ),
        ("no experts", mixtral(0, 2), &["2 of 0 experts"]),
        ("more experts used than there are", mixtral(4, 5), &["5 of 4 experts"]),
        (
            "a window of 0",
            llama(json!({ "model_type": "mistral", "sliding_window": 0 })),
            &["sliding_window is 0", "see nothing"],
        ),
        (
            "layer types that are too few",
            llama(json!({ "model_type": "gemma2", "layer_types": ["full_attention"] })),
            &["layer_types names 1 layers of 2"],
        ),
        ("an unknown activation", llama(json!({ "hidden_act": "cosine" })), &["\"cosine\"", "silu"]),
        ("an encoder asked to chat", bert, &["bert", "turns texts into vectors", "porism embed"]),
    ];
    let mut wrong = Vec::new();
    let mut check = |name: &str, args: &[&str], code: i32, words: &[&str]| {
        let ran = porism(under, &[], args);
        let missing: Vec<&&str> = words.iter().filter(|w| !ran.stderr.contains(**w)).collect();
        if ran.code != Some(code) || ran.stderr.contains("panicked") || !missing.is_empty() {
            wrong.push(format!("{name}: missing {missing:?} in {ran:?}"));
        }
    };
    for (name, config, words) in &folders {
        let path = folder(under, name, config);
        check(name, &["run", "-m", &path, "hi"], 1, words);
    }

    let sharded = folder(under, "sharded", &llama(json!({})));
    let index = json!({ "weight_map": { "model.norm.weight": "model-00001-of-00002.safetensors" } });
    std::fs::write(Path::new(&sharded).join("model.safetensors.index.json"), index.to_string()).expect("an index");
    check("a missing shard", &["run", "-m", &sharded, "hi"], 1, &["model-00001-of-00002.safetensors"]);

    let martian = under.join("martian.gguf");
    Tiny { pre: "martian", ..Tiny::default() }.write(&martian);
    let martian = martian.to_str().expect("a path");
    let known = ["martian", "--pre-tokenizer", "llama-bpe", "qwen2"];
    check("an unknown pre-tokenizer", &["run", "--raw", "-m", martian, "hi"], 1, &known);
    check(
        "one that is forced and unknown",
        &["tokenize", "-m", martian, "--pre-tokenizer", "venus", "hi"],
        1,
        &["venus"],
    );
    check("a forced pre-tokenizer", &["tokenize", "-m", martian, "--pre-tokenizer", "gpt-2", "hi"], 0, &[]);

    let good = under.join("good.gguf");
    Tiny::default().write(&good);
    let good = good.to_str().expect("a path");
    check("a decoder asked to embed", &["embed", "-m", good, "hi"], 0, &["made to continue text", "last token"]);
    check("nothing to embed", &["embed", "-m", good, ""], 2, &["text 1 of 1 is empty"]);
    check("an unknown way of pooling", &["embed", "-m", good, "--pooling", "max", "hi"], 2, &["--pooling", "mean"]);
    check("an unknown stretch", &["run", "-m", good, "--rope-scaling", "warp", "hi"], 2, &["--rope-scaling", "yarn"]);
    check("a factor without a stretch", &["run", "-m", good, "--rope-factor", "2", "hi"], 2, &["--rope-scaling"]);
    check(
        "a stretch below one",
        &["run", "-m", good, "--rope-scaling", "yarn", "--rope-factor", "0.5", "hi"],
        2,
        &["from 1 to 1000"],
    );
    let text = under.join("text.txt");
    std::fs::write(&text, "a few words").expect("a text");
    let text = text.to_str().expect("a path");
    check(
        "a text shorter than a length",
        &["measure", "long-context", text, "-m", good, "--lengths", "4k"],
        1,
        &["11 tokens", "4096"],
    );
    check("a length that is none", &["measure", "long-context", text, "-m", good, "--lengths", "long"], 2, &["4k"]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
